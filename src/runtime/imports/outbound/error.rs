//! What a guest is told about a request that failed.

use std::{error::Error as StdError, io};

use wasmtime_wasi_http::Error;

use crate::dial::{Refused, Unresolved};

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("connecting took too long")]
pub(super) struct ConnectTimeout;

/// The refusal among the causes of an error.
pub(super) fn refused<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refused> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The first cause that has a name in `wasi:http`, from the outside in.
pub(super) fn classify(error: &(dyn StdError + 'static)) -> Error {
    causes(error)
        .find_map(classify_one)
        .unwrap_or(Error::HttpProtocolError)
}

fn classify_one(cause: &(dyn StdError + 'static)) -> Option<Error> {
    if cause.is::<Refused>() {
        Some(Error::DestinationIpProhibited)
    } else if cause.is::<Unresolved>() {
        Some(Error::DnsError {
            rcode: None,
            info_code: None,
        })
    } else if cause.is::<ConnectTimeout>() {
        Some(Error::ConnectionTimeout)
    } else if let Some(error) = cause.downcast_ref() {
        Some(classify_tls(error))
    } else if let Some(error) = cause.downcast_ref() {
        classify_hyper(error)
    } else if let Some(error) = cause.downcast_ref() {
        classify_io(error)
    } else {
        None
    }
}

fn classify_tls(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Error::TlsCertificateError
        }
        rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}

fn classify_hyper(error: &hyper::Error) -> Option<Error> {
    if error.is_parse_too_large() {
        Some(Error::HttpResponseHeaderSectionSize(None))
    } else if error.is_incomplete_message() {
        Some(Error::HttpResponseIncomplete)
    } else if error.is_parse() {
        Some(Error::HttpProtocolError)
    } else if error.is_timeout() {
        Some(Error::HttpResponseTimeout)
    } else if error.is_canceled() || error.is_closed() {
        Some(Error::ConnectionTerminated)
    } else {
        None
    }
}

fn classify_io(error: &io::Error) -> Option<Error> {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        ErrorKind::TimedOut => Some(Error::ConnectionTimeout),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Some(Error::DestinationUnavailable)
        }
        ErrorKind::AddrNotAvailable => Some(Error::DestinationIpUnroutable),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::NotConnected => Some(Error::ConnectionTerminated),
        _ => None,
    }
}

/// An error and what caused it, from the outside in.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    // An `io::Error` passes over the error that it wraps when asked for its source.
    match error.downcast_ref().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
