//! Requests that go forward without anything being stored: what is not for the cache, HEAD, and parts.
//!
//! What they say about stored responses is heeded: unsafe requests invalidate, and HEAD updates.

use std::sync::Arc;

use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{CONTENT_LOCATION, LOCATION},
    request::Parts,
};

use super::{
    Body, Cache, Forward, PurgeMode, key,
    purge::Matcher,
    recoded::Recoded,
    serve::{Answered, Exchange, Found},
    statistics::count,
    status::{Handling, Why},
    stored,
};
use crate::model::KeyPolicy;

impl Cache {
    /// Sends a HEAD request forward, and updates what is stored: RFC 9111 section 4.3.5.
    pub(super) async fn head<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: Found,
        parts: Parts,
        forward: F,
    ) -> Answered<F> {
        let counters = exchange.counters(&self.0);
        count(&counters.misses);
        let requested = self.0.clock.now();
        let (why, stored) = (found.why, found.stored.clone());
        let fetch = self.fetch(exchange, found, Arc::new(parts.clone()), None);
        let response = forward.send(Request::from_parts(parts, None)).await;
        let response = response.map_err(Arc::new)?;
        if let Some(stored) = &stored
            && response.status() == StatusCode::OK
        {
            let said = (response.status(), Recoded::undone(&response));
            fetch.update(stored, said, requested).await;
        }
        let mut handling = Handling::forward(why);
        handling.forward_status = Some(response.status());
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
        let counters = exchange.counters(&self.0);
        match why {
            Why::Bypass | Why::Method => count(&counters.bypass),
            Why::UriMiss | Why::VaryMiss | Why::Miss | Why::Request | Why::Stale | Why::Partial => {
                count(&counters.misses);
            }
        }
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
        Ok(forwarded(exchange, response, &handling))
    }

    /// RFC 9111 section 4.4: what a request changed is not served from the cache any more.
    async fn invalidate(
        &self,
        exchange: &Exchange<'_>,
        uri: &Uri,
        request: &HeaderMap,
        response: &HeaderMap,
    ) {
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
        let mut urls: Vec<String> = others.filter(|url| *url != target).collect();
        urls.push(target.clone());
        for url in urls {
            let distribution = exchange.scope.distribution;
            self.take_away(distribution, Matcher::Url(url), PurgeMode::Hard)
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
