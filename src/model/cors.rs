//! What pages of other origins may do with answers (Fetch standard, "CORS protocol").

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use serde::{Deserialize, Serialize};

/// What pages of other origins may do with answers. Its members are written as in the Lambda API, `Cors`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cors {
    /// Whether they may send cookies and other credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// The header fields they may send; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// The methods they may use; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// The origins; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// The header fields of an answer that they may see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember all this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

impl Cors {
    /// The header fields of the answer to a preflight, if the request is one.
    pub fn preflight(&self, head: &Parts) -> Option<HeaderMap> {
        if head.method != Method::OPTIONS {
            return None;
        }
        let origin = head.headers.get(header::ORIGIN)?;
        let method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::VARY,
            HeaderValue::from_static(
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        );
        let Some(allowed) = self.allowed_origin(origin) else {
            return Some(headers);
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.allow_credentials == Some(true) {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        // With credentials, `*` would be a method and a field of that name: what is asked for is what is allowed.
        let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let methods = listed(&self.allow_methods, Some(method));
        let fields = listed(&self.allow_headers, wanted);
        let seconds = self.max_age.map(HeaderValue::from);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, fields),
            (header::ACCESS_CONTROL_MAX_AGE, seconds),
        ] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        Some(headers)
    }

    /// Adds to an answer what a page of that origin may do with it. An answer that is not the same for every page says so, to a
    /// request of no page too: a cache would give what it got to the next page (Fetch standard, "CORS protocol and HTTP caches").
    pub fn share(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let allowed = if self.is_same_for_all() {
            is_all(&self.allow_origins).then(|| HeaderValue::from_static("*"))
        } else {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            origin.and_then(|origin| self.allowed_origin(origin))
        };
        let Some(allowed) = allowed else {
            return;
        };
        headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.allow_credentials == Some(true) {
            headers.append(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(exposed) = listed(&self.expose_headers, None) {
            headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// Whether an answer says the same to all origins, and to who has none: `*`, or nothing.
    fn is_same_for_all(&self) -> bool {
        self.allow_credentials != Some(true) && self.allow_origins.iter().all(|one| one == "*")
    }

    /// What stands for an origin in an answer, if the configuration has it.
    fn allowed_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let by_name = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        if self.allow_origins.iter().any(by_name) {
            return Some(origin.clone());
        }
        if !is_all(&self.allow_origins) {
            return None;
        }
        // `*` is for requests without credentials (Fetch standard, "CORS protocol and credentials").
        Some(match self.allow_credentials {
            Some(true) => origin.clone(),
            Some(false) | None => HeaderValue::from_static("*"),
        })
    }
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
    use http::Request;

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
        fields(&cors.preflight(&head).unwrap())
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
        let requests = [
            Request::options("/").header("access-control-request-method", "PUT"),
            Request::options("/").header("origin", "https://a.example"),
            Request::get("/")
                .header("origin", "https://a.example")
                .header("access-control-request-method", "PUT"),
        ];
        for request in requests {
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert!(cors(|_| {}).preflight(&head).is_none());
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
        cors(|_| {}).share(Some(&origin), &mut headers);
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
        cors(|_| {}).share(Some(&stranger), &mut headers);
        assert_eq!(fields(&headers), pairs([]));
        assert_eq!(headers[header::VARY], "Origin");
    }

    /// Fetch standard, "CORS protocol and HTTP caches".
    #[test]
    fn an_answer_varies_by_origin_unless_all_get_the_same() {
        let origins = |origins: &[&str], credentials| {
            cors(|cors| {
                cors.allow_origins = origins.iter().map(|&one| one.to_owned()).collect();
                cors.allow_credentials = credentials;
                cors.expose_headers = Vec::new();
            })
        };
        let page = HeaderValue::from_static("https://b.example");
        let with_credentials = [
            ("allow-origin", "https://b.example"),
            ("allow-credentials", "true"),
        ];
        for (cors, varies, to_page, to_nobody) in [
            (
                origins(&["https://a.example"], None),
                true,
                &[][..],
                &[][..],
            ),
            (
                origins(&["https://b.example"], None),
                true,
                &[("allow-origin", "https://b.example")],
                &[],
            ),
            (origins(&["*"], Some(true)), true, &with_credentials, &[]),
            (
                origins(&["*", "https://a.example"], None),
                true,
                &[("allow-origin", "*")],
                &[],
            ),
            (
                origins(&["*"], None),
                false,
                &[("allow-origin", "*")],
                &[("allow-origin", "*")],
            ),
            (origins(&[], None), false, &[], &[]),
        ] {
            for (origin, expected) in [(Some(&page), to_page), (None, to_nobody)] {
                let mut headers = HeaderMap::new();
                cors.share(origin, &mut headers);
                let told: Vec<_> = expected
                    .iter()
                    .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                assert_eq!(fields(&headers), told, "{cors:?} {origin:?}");
                let vary = headers.get(header::VARY);
                assert_eq!(vary.is_some(), varies, "{cors:?} {origin:?}");
            }
        }
    }
}
