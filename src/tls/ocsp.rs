//! An OCSP response (RFC 6960), as far as it matters for stapling it.
//!
//! It is held to be of the certificate, good, and of now. Who signed it is for the client to find out, who has to anyway.

use jiff::Timestamp;
use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Tag},
    prelude::X509Certificate,
    time::ASN1Time,
};

/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1: the one kind of response there is.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// 1.3.14.3.2.26
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// Why a response is not stapled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StapleError {
    /// It is no OCSP response.
    #[error("it is no OCSP response in DER")]
    Malformed,
    /// The responder had no answer.
    #[error("the responder refused to answer (status {0})")]
    Refused(u8),
    /// It is of another certificate.
    #[error("it is of another certificate")]
    Other,
    /// The certificate is revoked, or not known.
    #[error("it does not say that the certificate is good")]
    NotGood,
    /// Its time is over.
    #[error("it is out of date since {0}")]
    Expired(Timestamp),
    /// Its time has not come.
    #[error("it is not in force before {0}")]
    NotYet(Timestamp),
}

/// Until when a response may be stapled to a certificate; none if it does not say.
pub(super) fn check(
    response: &[u8],
    certificate: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StapleError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| StapleError::Malformed)?;
    for mut single in responses(response)? {
        let mut id = single.enter(Class::Universal, Tag::Sequence.0)?;
        let mut algorithm = id.enter(Class::Universal, Tag::Sequence.0)?;
        let algorithm = match algorithm.next()?.data {
            SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA256 => &digest::SHA256,
            _ => continue,
        };
        let issuer = id.next()?.data;
        let _issuers_key = id.next()?;
        let serial = id.next()?.data;
        let own_issuer = digest::digest(algorithm, certificate.issuer().as_raw());
        if serial != certificate.raw_serial() || issuer != own_issuer.as_ref() {
            continue;
        }
        let status = single.next()?;
        if status.class() != Class::ContextSpecific || status.tag() != Tag(0) {
            return Err(StapleError::NotGood);
        }
        let this_update = single.time()?;
        if now < this_update {
            return Err(StapleError::NotYet(this_update));
        }
        let next_update = match single.enter(Class::ContextSpecific, 0) {
            Ok(mut next_update) => Some(next_update.time()?),
            Err(_) => None,
        };
        return match next_update {
            Some(next_update) if next_update <= now => Err(StapleError::Expired(next_update)),
            next_update => Ok(next_update),
        };
    }
    Err(StapleError::Other)
}

/// What a response says of single certificates.
fn responses(response: &[u8]) -> Result<Vec<Der<'_>>, StapleError> {
    let mut response = Der(response).enter(Class::Universal, Tag::Sequence.0)?;
    match response.next()?.data {
        [0] => {}
        [status] => return Err(StapleError::Refused(*status)),
        _ => return Err(StapleError::Malformed),
    }
    let mut bytes = response
        .enter(Class::ContextSpecific, 0)?
        .enter(Class::Universal, Tag::Sequence.0)?;
    if bytes.next()?.data != BASIC {
        return Err(StapleError::Malformed);
    }
    let mut data = bytes
        .enter(Class::Universal, Tag::OctetString.0)?
        .enter(Class::Universal, Tag::Sequence.0)?
        .enter(Class::Universal, Tag::Sequence.0)?;
    // The version, which stands there if it is not 1; the responder, by name or key; when it was made.
    let first = data.next()?;
    if first.class() == Class::ContextSpecific && first.tag() == Tag(0) {
        data.next()?;
    }
    data.next()?;
    let mut list = data.enter(Class::Universal, Tag::Sequence.0)?;
    let mut responses = Vec::new();
    while !list.0.is_empty() {
        responses.push(list.enter(Class::Universal, Tag::Sequence.0)?);
    }
    Ok(responses)
}

/// Values one after another.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Result<Any<'a>, StapleError> {
        let (rest, value) = Any::from_der(self.0).map_err(|_| StapleError::Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    /// What is in the next value, which must be of this kind. Another stays the next.
    fn enter(&mut self, class: Class, tag: u32) -> Result<Self, StapleError> {
        let (rest, value) = Any::from_der(self.0).map_err(|_| StapleError::Malformed)?;
        if value.class() != class || value.tag() != Tag(tag) {
            return Err(StapleError::Malformed);
        }
        self.0 = rest;
        Ok(Self(value.data))
    }

    fn time(&mut self) -> Result<Timestamp, StapleError> {
        let (rest, time) = ASN1Time::from_der(self.0).map_err(|_| StapleError::Malformed)?;
        self.0 = rest;
        Timestamp::from_second(time.timestamp()).map_err(|_| StapleError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    /// Of OpenSSL: a certificate, and a response from 2026-11-29T11:01:25Z on, for a week.
    const CERTIFICATE: &str = "\
        MIIBCzCBsgICEjQwCgYIKoZIzj0EAwIwFzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MB4XDTI2MTEyOTExMDEyNVoXDTI2MTIwOTExMDEyNVowDD \
        EKMAgGA1UEAwwBbDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOsXyCMO7cvV2YKWPeZlB3uJ4o9Uu+9EyE22ViesYpQCS9CSOsFv8S3wOKsb \
        AL92684+WMeYcUlZt0F54p8nZG4wCgYIKoZIzj0EAwIDSAAwRQIhAOvGWRuKjUsc6Kqp+HL0WWATbTqN9cN0gqltjJbpMzL5AiBWwuHLWyQUgd \
        JCZ1Ehnab+p9bOuaYc0sCTCO4MzBEhTg==";
    const RESPONSE: &str = "\
        MIICvQoBAKCCArYwggKyBgkrBgEFBQcwAQEEggKjMIICnzCBuKEZMBcxFTATBgNVBAMMDGFuIGF1dGhvcml0eRgPMjAyNjExMjkxMTAxMjVaMG \
        UwYzA7MAkGBSsOAwIaBQAEFDN6e5RUZjW39IKAPDOudIcH1diuBBTmnZUgppyWAVu1yQX6UO6MnRHF+QICEjSAABgPMjAyNjExMjkxMTAxMjVa \
        oBEYDzIwMjYxMjA2MTEwMTI1WqEjMCEwHwYJKwYBBQUHMAECBBIEEDszY0/0nGyfL7SiRbzGue4wCgYIKoZIzj0EAwIDSAAwRQIhANzwEhdWzG \
        UX/VEIjSVUWNTAvNr8QKpURLhx2rj/mXCkAiBoVgE+G1NEIyvq7WqGrI1aEDJTyifnSm0kx/dRGxLFwaCCAYowggGGMIIBgjCCASmgAwIBAgIU \
        TStQ4R/STrfXP9LxiJWyyfoFK4UwCgYIKoZIzj0EAwIwFzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MB4XDTI2MTEyOTExMDEyNVoXDTI2MTIyOT \
        ExMDEyNVowFzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKykiK4vN4gPo/iQJ+h/GtUP7h5PHyyRq \
        xiRXtUUAiPLKOZSjfBOx7bEActAWv9EOVcXOrEzslboA+YrIsHN7IKNTMFEwHQYDVR0OBBYEFOadlSCmnJYBW7XJBfpQ7oydEcX5MB8GA1UdIw \
        QYMBaAFOadlSCmnJYBW7XJBfpQ7oydEcX5MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgBgPUlBM9yeeuYvQTzl/MB6r8lp9h \
        sNH1lJ2B476uht4CIGhuGmPuwekK6XpGmsjDEMisR1qWqcqwJXuu7CQ6kgBL";

    fn bytes(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        BASE64_STANDARD.decode(text).unwrap()
    }

    #[test]
    fn a_response_counts_for_its_certificate_and_its_time() {
        let certificate = CertificateDer::from(bytes(CERTIFICATE));
        let response = bytes(RESPONSE);
        let at = |now: &str| check(&response, &certificate, now.parse().unwrap());
        let (first, last) = ("2026-11-29T11:01:25Z", "2026-12-06T11:01:25Z");
        let last: Timestamp = last.parse().unwrap();
        assert_eq!(at(first), Ok(Some(last)));
        assert_eq!(at("2026-12-06T11:01:24Z"), Ok(Some(last)));
        assert_eq!(at("2026-12-06T11:01:25Z"), Err(StapleError::Expired(last)));
        let first = first.parse().unwrap();
        assert_eq!(at("2026-11-29T11:01:24Z"), Err(StapleError::NotYet(first)));

        let other = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let checked = check(&response, other.cert.der(), first);
        assert_eq!(checked, Err(StapleError::Other));
    }

    #[test]
    fn what_is_cut_off_or_changed_is_never_taken_for_more_than_it_is() {
        let certificate = CertificateDer::from(bytes(CERTIFICATE));
        let response = bytes(RESPONSE);
        let now = "2026-11-30T00:00:00Z".parse().unwrap();
        for length in 0..response.len() {
            let checked = check(&response[..length], &certificate, now);
            assert_eq!(checked, Err(StapleError::Malformed), "{length}");
        }
        for position in 0..response.len() {
            for bit in 0..8 {
                let mut changed = response.clone();
                changed[position] ^= 1 << bit;
                // It must not panic; most changes are of what nobody reads here.
                let _ = check(&changed, &certificate, now);
            }
        }
        // `tryLater`, which has no more to say.
        let refused = check(&[0x30, 3, 0x0a, 1, 3], &certificate, now);
        assert_eq!(refused, Err(StapleError::Refused(3)));
    }
}
