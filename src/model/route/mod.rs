//! Routes: which requests, by host, path and method, get which answer.
//!
//! These are the values, as a manifest writes them and the catalog keeps them; [`crate::router`] finds the one for a
//! request. A pattern that was parsed is well formed, and so are the target and status of a redirect: nothing is left
//! to fail when a request comes.

mod answer;
mod host;
mod path;

use std::fmt;

use http::Method;
use serde::{Deserialize, Serialize};

pub(super) use answer::headers;
pub use answer::{Answer, InvalidRedirect, RedirectStatus, RedirectTarget};
pub use host::{HostPattern, InvalidHost};
pub use path::{InvalidPath, Parameters, PathPattern, Segment, has_dot_segment};

/// The requests that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePattern {
    /// The host; none means every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// The methods; empty means every method. `GET` includes `HEAD` (RFC 9110 section 9.3.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "methods")]
    pub methods: Vec<Method>,
}

impl RoutePattern {
    /// All requests for a host.
    pub fn of_host(host: &HostPattern) -> Self {
        Self {
            host: Some(host.clone()),
            path: "/{*rest}".parse().expect("it is a pattern"),
            methods: Vec::new(),
        }
    }

    /// Whether some request is for both, and neither is more specific: then one of the two routes is a mistake.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.host == other.host && self.path.is_alike(&other.path) && self.shares_methods(other)
    }

    /// Whether some method chooses neither of two routes for the same path.
    pub(crate) fn shares_methods(&self, other: &Self) -> bool {
        (self.methods.is_empty() && other.methods.is_empty())
            || self
                .methods
                .iter()
                .any(|method| other.methods.contains(method))
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods.iter().enumerate() {
            let separator = if index + 1 == self.methods.len() {
                " "
            } else {
                ","
            };
            write!(formatter, "{method}{separator}")?;
        }
        if let Some(host) = &self.host {
            write!(formatter, "{host}")?;
        }
        write!(formatter, "{}", self.path)
    }
}

/// Requests, and what they get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The requests.
    #[serde(flatten)]
    pub pattern: RoutePattern,
    /// What they get.
    pub answer: Answer,
}

pub(super) mod methods {
    use http::Method;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::model) fn serialize<S: Serializer>(
        methods: &[Method],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(methods.iter().map(Method::as_str))
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Method>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|method| method.parse().map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_reads_back_from_the_catalog_as_it_was() {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
        let answers = [
            (
                Answer::Function("hello".parse().unwrap()),
                r#"{"function":"hello"}"#,
            ),
            (
                Answer::Respond {
                    status: http::StatusCode::NOT_FOUND,
                    headers,
                    body: "gone".to_owned(),
                },
                r#"{"respond":{"status":404,"headers":[["content-type","text/plain"]],"body":"gone"}}"#,
            ),
            (
                Answer::Redirect {
                    to: "/new/{id}".parse().unwrap(),
                    status: RedirectStatus::FOUND,
                },
                r#"{"redirect":{"to":"/new/{id}","status":302}}"#,
            ),
        ];
        for (answer, json) in answers {
            let route = Route {
                pattern: RoutePattern {
                    host: Some("*.example.com".parse().unwrap()),
                    path: "/users/{id}".parse().unwrap(),
                    methods: vec![Method::GET, Method::PUT],
                },
                answer,
            };
            let written = serde_json::to_string(&route).unwrap();
            assert_eq!(
                written,
                format!(
                    r#"{{"host":"*.example.com","path":"/users/{{id}}","methods":["GET","PUT"],"answer":{json}}}"#
                )
            );
            assert_eq!(serde_json::from_str::<Route>(&written).unwrap(), route);
        }
    }

    #[test]
    fn a_pattern_prints_as_one_line() {
        let pattern = |host: Option<&str>, methods: &[Method]| RoutePattern {
            host: host.map(|host| host.parse().unwrap()),
            path: "/a/{b}".parse().unwrap(),
            methods: methods.to_vec(),
        };
        assert_eq!(pattern(None, &[]).to_string(), "/a/{b}");
        assert_eq!(
            pattern(Some("example.com"), &[Method::GET, Method::PUT]).to_string(),
            "GET,PUT example.com/a/{b}"
        );
    }
}
