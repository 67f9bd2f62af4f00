//! Who may ask, how often, and in which way: what is decided before anything is looked up or run.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts, uri::Scheme};

use super::{Behaviour, Countries, Failure};
use crate::model::{Outcome, distribution, hop};

/// Why a request gets no further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It is answered with this and no body.
    Answered(StatusCode, HeaderMap),
    /// It is refused.
    Refused(Failure, HeaderMap),
}

/// Lets a request on, or says what it gets instead.
pub(super) fn pass(
    behaviour: &Behaviour,
    head: &Parts,
    client: IpAddr,
    countries: Option<&Countries>,
) -> Result<(), Box<Stopped>> {
    let config = &behaviour.config;
    let refused = |failure| Box::new(Stopped::Refused(failure, HeaderMap::new()));
    if !admits(&config.access, client, countries) {
        return Err(refused(Failure::Outcome(Outcome::Forbidden)));
    }
    if let Some(clients) = &behaviour.clients
        && let Err(wait) = clients.ask(client)
    {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let after = [(header::RETRY_AFTER, seconds.max(1).into())];
        return Err(Box::new(Stopped::Refused(
            Failure::Outcome(Outcome::Throttled),
            HeaderMap::from_iter(after),
        )));
    }
    if config.redirect_to_https && head.uri.scheme() == Some(&Scheme::HTTP) {
        return Err(redirect(head).into());
    }
    if let Some(cors) = &config.response_headers.cors
        && let Some(headers) = cors.preflight(head)
    {
        return Err(Stopped::Answered(StatusCode::NO_CONTENT, headers).into());
    }
    if !config.allows(&head.method) {
        let allow = HeaderValue::from_str(&config.allow()).expect("methods are tokens");
        let allow = HeaderMap::from_iter([(header::ALLOW, allow)]);
        return Err(Stopped::Refused(Failure::Method, allow).into());
    }
    let announced = head.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > config.request_body.as_u64()) {
        return Err(refused(Failure::TooLarge));
    }
    Ok(())
}

/// Fields by which a request says that it is another one, and which servers are known to believe.
const DISGUISES: [&str; 8] = [
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
];

/// Takes these fields out where the answer may be stored: it would be for the request that this one says it is, and be given to
/// those who ask for what it looks like. What is in the key tells such requests apart, and stays.
pub(super) fn unmask(behaviour: &Behaviour, head: &mut Parts) {
    let policy = &behaviour.cache;
    // A hook may make a GET of it.
    let may_be_stored = matches!(head.method, Method::GET | Method::HEAD)
        || !behaviour.config.hooks.viewer_request.is_empty();
    if policy.enabled && may_be_stored {
        hop::remove_named(&mut head.headers, |name| {
            name.starts_with('x')
                && DISGUISES
                    .iter()
                    .any(|disguise| hop::is_taken_for(name, disguise))
                && !policy
                    .key
                    .headers
                    .iter()
                    .any(|kept| kept.eq_ignore_ascii_case(name))
        });
    }
}

fn admits(access: &distribution::Access, client: IpAddr, countries: Option<&Countries>) -> bool {
    if !access.admits(client) {
        return false;
    }
    match &access.countries {
        distribution::Countries::All => true,
        listed => listed.admits(countries.and_then(|countries| countries.find(client))),
    }
}

/// To the same over TLS, for good and with the same method (RFC 9110 section 15.4.9). The port is HTTPS's own: the one that the
/// viewer used is that of clear text.
fn redirect(head: &Parts) -> Stopped {
    let host = head.uri.host().unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::try_from(format!("https://{host}{path}")) {
        Ok(location) => Stopped::Answered(
            StatusCode::PERMANENT_REDIRECT,
            HeaderMap::from_iter([(header::LOCATION, location)]),
        ),
        Err(_) => Stopped::Refused(Failure::Outcome(Outcome::BadRequest), HeaderMap::new()),
    }
}
