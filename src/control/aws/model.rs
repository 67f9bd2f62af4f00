//! A service's model: what there is on the wire.
//!
//! The models in `models/` are botocore's, trimmed by `models/trim.py`. They say which operations a service has, how each is
//! addressed, what its members are and which values they take, so that nothing of that is written here once more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{LazyLock, OnceLock},
};

use fancy_regex::Regex;
use http::{Method, StatusCode};
use serde::Deserialize;

/// AWS Lambda.
pub(in crate::control) static LAMBDA: LazyLock<Model> =
    LazyLock::new(|| Model::read(include_str!("models/lambda.json")));

/// CloudWatch Logs.
pub(in crate::control) static LOGS: LazyLock<Model> =
    LazyLock::new(|| Model::read(include_str!("models/logs.json")));
/// AWS Identity and Access Management.
pub(in crate::control) static IAM: LazyLock<Model> =
    LazyLock::new(|| Model::read(include_str!("models/iam.json")));

/// AWS Security Token Service.
pub(in crate::control) static STS: LazyLock<Model> =
    LazyLock::new(|| Model::read(include_str!("models/sts.json")));

/// A service.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct Model {
    pub(in crate::control) metadata: Metadata,
    operations: BTreeMap<String, Operation>,
    shapes: HashMap<String, Shape>,
}

/// What concerns all operations of a service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::control) struct Metadata {
    pub(in crate::control) endpoint_prefix: String,
    pub(in crate::control) target_prefix: Option<String>,
    pub(in crate::control) xml_namespace: Option<String>,
}

/// What can be asked of a service.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct Operation {
    #[serde(skip)]
    pub(in crate::control) name: String,
    pub(in crate::control) http: Http,
    pub(super) input: Option<Reference>,
    pub(super) output: Option<Output>,
}

impl Operation {
    /// Whether its body is one member, and not a document.
    pub(super) fn has_payload(&self, model: &Model) -> bool {
        let input = self.input.as_ref();
        input.is_some_and(|input| model.shape(&input.shape).payload.is_some())
    }
}

/// How an operation is addressed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::control) struct Http {
    method: String,
    pub(super) request_uri: String,
    response_code: Option<u16>,
}

impl Http {
    pub(super) fn is(&self, method: &Method) -> bool {
        self.method == method.as_str()
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> StatusCode {
        self.response_code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::OK)
    }
}

/// The name of a shape.
#[derive(Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) shape: String,
}

/// What an operation answers with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    pub(super) shape: String,
    pub(super) result_wrapper: Option<String>,
}

/// A type of values.
#[derive(Debug, Deserialize)]
pub(super) struct Shape {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) members: BTreeMap<String, Member>,
    pub(super) member: Option<Member>,
    pub(super) key: Option<Member>,
    pub(super) value: Option<Member>,
    #[serde(rename = "enum")]
    pub(super) values: Option<Vec<String>>,
    pattern: Option<String>,
    #[serde(skip)]
    compiled: OnceLock<Option<Regex>>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) payload: Option<String>,
    #[serde(default)]
    pub(super) flattened: bool,
    #[serde(default)]
    pub(super) sensitive: bool,
    error: Option<ErrorTraits>,
    /// The error is the service's own fault.
    #[serde(default)]
    exception: bool,
}

/// How an error is told.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorTraits {
    code: Option<String>,
    http_status_code: Option<u16>,
}

/// The kinds of shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Structure,
    List,
    Map,
    String,
    Blob,
    Boolean,
    Integer,
    Long,
    Float,
    Double,
    Timestamp,
}

/// A part of a structure, a list or a map.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) shape: String,
    pub(super) location: Option<Location>,
    pub(super) location_name: Option<String>,
}

/// Where in a message a member stands, if not in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Location {
    Uri,
    Querystring,
    Header,
    Headers,
    StatusCode,
}

impl Model {
    pub(in crate::control) fn read(text: &str) -> Self {
        let mut model: Self = serde_json::from_str(text).expect("the models are read by a test");
        for (name, operation) in &mut model.operations {
            operation.name.clone_from(name);
        }
        model
    }

    /// The operation of that name.
    pub(in crate::control) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// Every operation, by name.
    pub(in crate::control) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    /// The shape that a reference in this model is for.
    pub(super) fn shape(&self, name: &str) -> &Shape {
        self.shapes
            .get(name)
            .expect("a model has every shape that it names")
    }

    /// How the error of that name is told: its code and status, and what its message is called. One that is not in the model
    /// is one of those that every service has, such as `ValidationException`.
    pub(super) fn error(&self, name: &str) -> (String, StatusCode, &str) {
        let shape = self.shapes.get(name).filter(|shape| shape.exception);
        let traits = shape.and_then(|shape| shape.error.as_ref());
        let code = traits.and_then(|traits| traits.code.clone());
        let status = match traits.and_then(|traits| traits.http_status_code) {
            Some(status) => StatusCode::from_u16(status).ok(),
            None if name == "ServiceException" || name == "InternalFailure" => {
                Some(StatusCode::INTERNAL_SERVER_ERROR)
            }
            None if name == "ServiceUnavailableException" => Some(StatusCode::SERVICE_UNAVAILABLE),
            None if name == "AccessDeniedException" || name == "AccessDenied" => {
                Some(StatusCode::FORBIDDEN)
            }
            None => None,
        };
        let message = shape
            .and_then(|shape| {
                shape
                    .members
                    .keys()
                    .find(|member| member.eq_ignore_ascii_case("message"))
            })
            .map_or("message", String::as_str);
        (
            code.unwrap_or_else(|| name.to_owned()),
            status.unwrap_or(StatusCode::BAD_REQUEST),
            message,
        )
    }
}

impl Shape {
    /// The pattern that a text has to match as a whole, and whether it does. None if there is none.
    pub(super) fn matches(&self, text: &str) -> Option<(&str, bool)> {
        let pattern = self.pattern.as_deref()?;
        let compiled = self.compiled.get_or_init(|| {
            // Java's, where `-` in a class after a range is itself.
            let pattern = pattern.replace("a-zA-Z0-9-_", "a-zA-Z0-9\\-_");
            let pattern = pattern.replace("0-9a-zA-Z-_", "0-9a-zA-Z\\-_");
            let pattern = pattern.replace("a-zA-Z0-9-\\/", "a-zA-Z0-9\\-\\/");
            match Regex::new(&format!("\\A(?:{pattern})\\z")) {
                Ok(regex) => Some(regex),
                Err(error) => {
                    tracing::error!(%error, pattern, "a pattern of a service model cannot be used");
                    None
                }
            }
        });
        // A text that takes too long to match does not match.
        let matched = compiled
            .as_ref()
            .is_none_or(|regex| regex.is_match(text).unwrap_or(false));
        Some((pattern, matched))
    }

    #[cfg(test)]
    pub(super) fn has_usable_pattern(&self) -> bool {
        self.matches("").is_none() || self.compiled.get().is_some_and(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambdas_model_has_its_91_operations_and_usable_patterns() {
        assert_eq!(LAMBDA.operations().count(), 91);
        for (name, shape) in &LAMBDA.shapes {
            assert!(shape.has_usable_pattern(), "{name}");
        }
        let name = LAMBDA.shape("FunctionName");
        assert!(name.matches("hello-world_1").unwrap().1);
        assert!(
            name.matches("arn:aws:lambda:us-east-1:000000000000:function:hello:7")
                .unwrap()
                .1
        );
        assert!(!name.matches("hello world").unwrap().1);
        let alias = LAMBDA.shape("Alias");
        assert!(alias.matches("live").unwrap().1 && !alias.matches("12").unwrap().1);
    }

    #[test]
    fn the_patterns_of_iam_and_sts_are_usable() {
        for model in [&*IAM, &*STS] {
            for (name, shape) in &model.shapes {
                assert!(shape.has_usable_pattern(), "{name}");
            }
        }
        let document = IAM.shape("policyDocumentType");
        assert!(document.matches("{\n\t\"Version\": \"é\"}").unwrap().1);
        assert!(!document.matches("\u{1}").unwrap().1);
    }

    #[test]
    fn an_error_is_told_as_the_model_says() {
        assert_eq!(
            LAMBDA.error("ResourceNotFoundException"),
            (
                "ResourceNotFoundException".to_owned(),
                StatusCode::NOT_FOUND,
                "Message"
            )
        );
        assert_eq!(LAMBDA.error("ValidationException").1, 400);
    }
}
