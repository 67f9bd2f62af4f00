//! Function URLs: who may call them, and what pages of other origins may do with them.
//!
//! A URL without a configuration (`NAME.localhost`) is none of these: its requests go to their function as they are.
//!
//! Preflights are answered here, as Lambda does: the function is not asked, and needs no signature. Every other answer gets
//! the CORS fields of the configuration beside those that the function gave, also where they say the same.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::json;

use super::{
    RequestBody,
    request::{DataPlane, Failure},
    sanitize,
};
use crate::{
    invoke::{Arrival, MAX_EVENT, ResponseBody, UrlArrival},
    model::{Cors, FunctionName, FunctionUrl, Outcome, Qualifier, UrlAuthType, UrlCaller},
};

/// A function URL: whose it is, and what it does.
#[derive(Debug, Clone)]
pub struct UrlTarget {
    /// Its id, which its host begins with.
    pub id: String,
    /// The function.
    pub function: FunctionName,
    /// The alias; without one, `$LATEST`.
    pub alias: Option<String>,
    /// Its configuration.
    pub url: FunctionUrl,
}

/// Says who may call function URLs. The node implements it: nothing here knows users or policies.
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// Whether anybody may call a URL that wants no signature.
    ///
    /// # Errors
    ///
    /// Nobody may: the function's policy does not say so.
    fn anybody(&self, url: &UrlTarget, head: &Parts) -> Result<(), UrlDenied>;

    /// Who signed a request, and the request, with its body of at most `limit` bytes. What comes back was signed.
    ///
    /// # Errors
    ///
    /// It was not, or whoever signed it may not call the URL.
    async fn signed(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> Result<(Parts, Bytes, UrlCaller), UrlDenied>;
}

/// Why a request to a function URL is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlDenied {
    /// The status.
    pub status: StatusCode,
    /// The error's name (`x-amzn-ErrorType`).
    pub error: &'static str,
    /// What is wrong, for the caller.
    pub message: String,
}

impl UrlDenied {
    /// What a client is told.
    pub(super) fn respond(&self) -> Response<Bytes> {
        // Two services of AWS's answer for function URLs, and spell it differently.
        let member = match self.error {
            "AccessDeniedException" => "Message",
            _ => "message",
        };
        let document = json!({ member: self.message }).to_string();
        let mut response = Response::new(Bytes::from(document));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.error));
        response
    }
}

impl DataPlane {
    /// What happens to a request to a function URL.
    pub(super) async fn serve_url(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        arrival: Arrival<'_>,
    ) -> Response<ResponseBody> {
        let origin = match &url.url.cors {
            Some(cors) => head
                .headers
                .get(header::ORIGIN)
                .cloned()
                .map(|origin| (cors, origin)),
            None => None,
        };
        if let Some((cors, origin)) = &origin
            && let Some(response) = preflight(cors, origin, &head)
        {
            return response;
        }
        let id = arrival.request_id;
        let mut response = match self.call_url(url, head, body, arrival).await {
            Ok(response) => response,
            Err(failure) => self
                .fail(failure, id)
                .map(|body| ResponseBody::Complete(Some(body))),
        };
        if let Some((cors, origin)) = origin {
            share(cors, &origin, response.headers_mut());
        }
        response
    }

    async fn call_url(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        arrival: Arrival<'_>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let qualifier = url.alias.clone().map(Qualifier::Alias);
        let resolved = self
            .invoke
            .resolve(url.function.as_str(), qualifier.as_ref());
        let function = resolved.ok_or(Outcome::NoRoute)?.function;
        let mut by = UrlArrival {
            id: &url.id,
            invoke_mode: url.url.invoke_mode,
            caller: None,
        };
        match url.url.auth_type {
            UrlAuthType::None => {
                self.authorize.anybody(url, &head)?;
                let arrival = Arrival {
                    url: Some(by),
                    ..arrival
                };
                let request = Request::from_parts(head, body);
                let response = self
                    .invoke
                    .http(&function, request, arrival, sanitize::response)
                    .await;
                Ok(response?)
            }
            UrlAuthType::AwsIam => {
                let signed = self.authorize.signed(url, head, body, MAX_EVENT).await;
                let (head, body, caller) = signed?;
                by.caller = Some(&caller);
                let arrival = Arrival {
                    url: Some(by),
                    ..arrival
                };
                let request = Request::from_parts(head, Full::new(body));
                let response = self
                    .invoke
                    .http(&function, request, arrival, sanitize::response)
                    .await;
                Ok(response?)
            }
        }
    }
}

/// The answer to a preflight, if the request is one.
fn preflight(cors: &Cors, origin: &HeaderValue, head: &Parts) -> Option<Response<ResponseBody>> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(ResponseBody::Complete(Some(Bytes::new())));
    let headers = response.headers_mut();
    headers.insert(
        header::VARY,
        HeaderValue::from_static(
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    );
    let Some(allowed) = allowed_origin(cors, origin) else {
        return Some(response);
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.allow_credentials == Some(true) {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    // With credentials, `*` would be a method and a field of that name: what is asked for is what is allowed.
    let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let methods = listed(&cors.allow_methods, Some(method));
    let fields = listed(&cors.allow_headers, wanted);
    let seconds = cors.max_age.map(HeaderValue::from);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, fields),
        (header::ACCESS_CONTROL_MAX_AGE, seconds),
    ] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    Some(response)
}

/// Adds to an answer what a page of that origin may do with it.
fn share(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(allowed) = allowed_origin(cors, origin) else {
        return;
    };
    headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.allow_credentials == Some(true) {
        headers.append(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    if let Some(exposed) = listed(&cors.expose_headers, None) {
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// What stands for an origin in an answer, if the configuration has it.
fn allowed_origin(cors: &Cors, origin: &HeaderValue) -> Option<HeaderValue> {
    let by_name = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    if cors.allow_origins.iter().any(by_name) {
        return Some(origin.clone());
    }
    if !is_all(&cors.allow_origins) {
        return None;
    }
    // `*` is for requests without credentials (Fetch standard, "CORS protocol and credentials").
    Some(match cors.allow_credentials {
        Some(true) => origin.clone(),
        Some(false) | None => HeaderValue::from_static("*"),
    })
}

/// A list as a field has it. `*` is what was asked for, where something was.
fn listed(values: &[String], asked: Option<&HeaderValue>) -> Option<HeaderValue> {
    if values.is_empty() {
        return None;
    }
    match (is_all(values), asked) {
        (true, Some(asked)) => Some(asked.clone()),
        (true, None) => Some(HeaderValue::from_static("*")),
        (false, _) => HeaderValue::from_str(&values.join(",")).ok(),
    }
}

fn is_all(values: &[String]) -> bool {
    values.iter().any(|value| value == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(change: impl FnOnce(&mut Cors)) -> Cors {
        let mut cors = Cors {
            allow_origins: vec!["https://a.example".to_owned()],
            allow_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allow_headers: vec!["x-one".to_owned()],
            expose_headers: vec!["x-two".to_owned()],
            ..Cors::default()
        };
        change(&mut cors);
        cors
    }

    fn asked(cors: &Cors, origin: &'static str) -> Vec<(String, String)> {
        let (head, ()) = Request::options("/")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-one, authorization")
            .body(())
            .unwrap()
            .into_parts();
        let response = preflight(cors, &HeaderValue::from_static(origin), &head).unwrap();
        assert_eq!(response.status(), 200);
        fields(response.headers())
    }

    /// The fields but for `Vary`.
    fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let short = |name: &str| name.trim_start_matches("access-control-").to_owned();
        headers
            .iter()
            .filter(|(name, _)| **name != header::VARY)
            .map(|(name, value)| (short(name.as_str()), text(value)))
            .collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        pairs.map(owned).to_vec()
    }

    #[test]
    fn a_preflight_is_told_what_the_configuration_allows() {
        let some = cors(|_| {});
        assert_eq!(
            asked(&some, "https://a.example"),
            pairs([
                ("allow-origin", "https://a.example"),
                ("allow-methods", "GET,PUT"),
                ("allow-headers", "x-one"),
            ])
        );
        assert_eq!(asked(&some, "https://b.example"), pairs([]));
        let all = cors(|cors| {
            for list in [
                &mut cors.allow_origins,
                &mut cors.allow_methods,
                &mut cors.allow_headers,
            ] {
                *list = vec!["*".to_owned()];
            }
            cors.max_age = Some(60);
        });
        assert_eq!(
            asked(&all, "https://b.example"),
            pairs([
                ("allow-origin", "*"),
                ("allow-methods", "PUT"),
                ("allow-headers", "x-one, authorization"),
                ("max-age", "60"),
            ])
        );
        let with_credentials = Cors {
            allow_credentials: Some(true),
            max_age: None,
            ..all
        };
        assert_eq!(
            asked(&with_credentials, "https://b.example")[..2],
            pairs([
                ("allow-origin", "https://b.example"),
                ("allow-credentials", "true"),
            ])
        );
        assert_eq!(asked(&Cors::default(), "https://a.example"), pairs([]));
    }

    #[test]
    fn what_is_no_preflight_is_for_the_function() {
        let origin = HeaderValue::from_static("https://a.example");
        let requests = [
            Request::options("/").header("origin", "https://a.example"),
            Request::get("/").header("access-control-request-method", "PUT"),
        ];
        for request in requests {
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert!(preflight(&cors(|_| {}), &origin, &head).is_none());
        }
    }

    #[test]
    fn an_answer_has_the_configurations_fields_beside_the_functions() {
        let origin = HeaderValue::from_static("https://a.example");
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        share(&cors(|_| {}), &origin, &mut headers);
        assert_eq!(
            fields(&headers),
            pairs([
                ("allow-origin", "*"),
                ("allow-origin", "https://a.example"),
                ("expose-headers", "x-two"),
            ])
        );
        let mut headers = HeaderMap::new();
        let stranger = HeaderValue::from_static("https://b.example");
        share(&cors(|_| {}), &stranger, &mut headers);
        assert_eq!(fields(&headers), pairs([]));
        assert_eq!(headers[header::VARY], "Origin");
    }
}
