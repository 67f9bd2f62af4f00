//! Requests that go forward without anything being stored: what is not for the cache, HEAD, and parts.
//!
//! What they say about stored responses is heeded: unsafe requests invalidate, and HEAD updates.

use std::{collections::BTreeSet, sync::Arc};

use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{CONTENT_LOCATION, LOCATION},
    request::Parts,
};

use super::{
    Body, Cache, Forward, PurgeMode,
    fetch::is_failure,
    key,
    purge::Matcher,
    recoded::Recoded,
    serve::{Answered, Exchange, Found},
    status::{Handling, Why},
    stored,
};
use crate::model::KeyPolicy;

impl Cache {
    /// Sends a HEAD request forward, and updates what is stored: RFC 9111 section 4.3.5. Where the origin fails, what is stored
    /// may do: RFC 5861 section 4.
    pub(super) async fn head<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: Found,
        parts: Parts,
        forward: F,
    ) -> Answered<F> {
        let counters = exchange.counters(&self.0);
        let requested = self.0.clock.now();
        let mut handling = Handling::forward(found.why);
        let stored = found.stored.clone();
        let request = Arc::new(parts.clone());
        let fetch = self.fetch(exchange, found, Arc::clone(&request), None);
        let result = forward.send(Request::from_parts(parts, None)).await;
        let status = result.as_ref().ok().map(Response::status);
        handling.forward_status = status;
        if status.is_none_or(is_failure)
            && let Some(stored) = &stored
            && stored.on_error(self.0.clock.now(), &exchange.demands)
        {
            let handling = handling.on_error();
            counters.count(&handling);
            let asked = (&request.method, &request.headers);
            return Ok(self.0.stored(exchange, asked, stored, handling));
        }
        let response = result.map_err(Arc::new)?;
        counters.count(&handling);
        if let Some(stored) = &stored
            && response.status() == StatusCode::OK
        {
            let said = (response.status(), Recoded::undone(&response));
            fetch.update(stored, said, requested).await;
        }
        Ok(forwarded(exchange, response, &handling))
    }

    /// Sends a request forward as it is; what comes is not stored.
    pub(super) async fn pass<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        parts: Parts,
        body: Option<F::RequestBody>,
        forward: F,
        why: Why,
    ) -> Answered<F> {
        let target = (!parts.method.is_safe()).then(|| (parts.uri.clone(), parts.headers.clone()));
        let response = forward.send(Request::from_parts(parts, body)).await;
        let response = response.map_err(Arc::new)?;
        if let Some((uri, headers)) = target
            && (response.status().is_success() || response.status().is_redirection())
        {
            self.invalidate(exchange, &uri, &headers, response.headers())
                .await;
        }
        let mut handling = Handling::forward(why);
        handling.forward_status = Some(response.status());
        exchange.counters(&self.0).count(&handling);
        Ok(forwarded(exchange, response, &handling))
    }

    /// RFC 9111 section 4.4: what a request changed is not served from the cache any more, neither by the URL that the viewer
    /// asked for nor by the one that a hook made of it.
    async fn invalidate(
        &self,
        exchange: &Exchange<'_>,
        uri: &Uri,
        request: &HeaderMap,
        response: &HeaderMap,
    ) {
        let policy = &exchange.scope.policy.key;
        let mut urls = BTreeSet::new();
        for uri in [Some(uri), exchange.scope.asked].into_iter().flatten() {
            let target = key::url(&KeyPolicy::default(), uri, request);
            let origin = format!("{}://{}", key::scheme(uri), key::authority(uri, request));
            let others = [LOCATION, CONTENT_LOCATION]
                .into_iter()
                .filter_map(|name| resolve(&target, response.get(name)?.to_str().ok()?))
                // Another origin's resources are not its to take away.
                .filter(|url| {
                    let rest = url.strip_prefix(&origin);
                    rest.is_some_and(|rest| rest.starts_with('/'))
                });
            for url in others.chain([target.clone()]) {
                // As it is stored, with the query or some of it or none. To look through all that a path has, as a purge does, is
                // not for anybody who may send a POST.
                urls.extend(url.parse().map(|uri| key::url(policy, &uri, request)));
                urls.extend(url.split_once('?').map(|(path, _)| path.to_owned()));
                urls.insert(url);
            }
        }
        for url in urls {
            let distribution = exchange.scope.distribution;
            self.take_away(distribution, Matcher::Exactly(url), PurgeMode::Hard)
                .await;
        }
    }
}

/// A response that goes to the client as it comes.
pub(super) fn forwarded<B>(
    exchange: &Exchange<'_>,
    response: Response<B>,
    handling: &Handling,
) -> Response<Body<B>> {
    let (mut parts, body) = response.into_parts();
    stored::strip_for_client(&mut parts.headers, exchange.scope.policy.expose_tags);
    handling.write(&mut parts.headers);
    let mut body = Body::forwarded(body);
    body.set_handled(handling.handled());
    Response::from_parts(parts, body)
}

/// A reference in a response, as URLs are stored.
fn resolve(target: &str, reference: &str) -> Option<String> {
    let url = url::Url::parse(target).ok()?.join(reference).ok()?;
    key::normal_url(url.as_str())
}
