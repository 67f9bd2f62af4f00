//! The protocol `query`: operation and members are a form, the answer is XML.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::{
    Error,
    model::{Kind, Model, Operation, Shape},
    rest::scalar,
};
use crate::{control::auth::Refusal, model::RequestId};

/// The most members that a form has, items of lists counted.
const MOST: usize = 10_000;

/// A form: `Action`, `Version` and members.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn read(query: &str, body: &[u8]) -> Result<Self, Error> {
        let pairs = url::form_urlencoded::parse(query.as_bytes())
            .chain(url::form_urlencoded::parse(body))
            .filter(|(name, _)| !name.starts_with("X-Amz-"));
        let mut members = BTreeMap::new();
        for (name, value) in pairs {
            if members.len() == MOST {
                return Err(Error::new(
                    "MalformedQueryString",
                    "The form has too many members.",
                ));
            }
            members.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The members of an operation.
    pub(super) fn input(
        &self,
        model: &Model,
        operation: &Operation,
    ) -> Result<Map<String, Value>, Error> {
        let Some(reference) = &operation.input else {
            return Ok(Map::new());
        };
        let value = self.value(model, model.shape(&reference.shape), "")?;
        match value {
            Some(Value::Object(members)) => Ok(members),
            _ => Ok(Map::new()),
        }
    }

    /// The value at a place, if there is one. Shapes that hold themselves end where the form does.
    fn value(&self, model: &Model, shape: &Shape, place: &str) -> Result<Option<Value>, Error> {
        match shape.kind {
            Kind::Structure => {
                let mut members = Map::new();
                for (name, member) in &shape.members {
                    let inner = match place {
                        "" => name.clone(),
                        place => format!("{place}.{name}"),
                    };
                    if !self.has(&inner) {
                        continue;
                    }
                    if let Some(value) = self.value(model, model.shape(&member.shape), &inner)? {
                        members.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(members)))
            }
            Kind::List => {
                let member = shape.member.as_ref().expect("a list has members");
                let on_wire = member.location_name.as_deref().unwrap_or("member");
                let inner = model.shape(&member.shape);
                let mut items = Vec::new();
                loop {
                    let number = items.len() + 1;
                    let item = match shape.flattened {
                        true => format!("{place}.{number}"),
                        false => format!("{place}.{on_wire}.{number}"),
                    };
                    if !self.has(&item) {
                        break;
                    }
                    let Some(value) = self.value(model, inner, &item)? else {
                        break;
                    };
                    items.push(value);
                }
                Ok(Some(Value::Array(items)))
            }
            Kind::Map => {
                let part = |member: &Option<super::model::Member>, default: &str| {
                    let member = member.as_ref().expect("a map has keys and values");
                    let name = member.location_name.as_deref().unwrap_or(default);
                    (name.to_owned(), model.shape(&member.shape))
                };
                let ((key_name, _), (value_name, inner)) =
                    (part(&shape.key, "key"), part(&shape.value, "value"));
                let mut entries = Map::new();
                for number in 1.. {
                    let entry = format!("{place}.entry.{number}");
                    let Some(key) = self.get(&format!("{entry}.{key_name}")) else {
                        break;
                    };
                    let value = self.value(model, inner, &format!("{entry}.{value_name}"))?;
                    entries.insert(key.to_owned(), value.unwrap_or(Value::Null));
                }
                Ok(Some(Value::Object(entries)))
            }
            Kind::String
            | Kind::Blob
            | Kind::Boolean
            | Kind::Integer
            | Kind::Long
            | Kind::Float
            | Kind::Double
            | Kind::Timestamp => self
                .get(place)
                .map(|text| scalar(shape, text, place))
                .transpose(),
        }
    }

    /// Whether something stands at a place or below it.
    fn has(&self, place: &str) -> bool {
        let below = format!("{place}.");
        let mut from = self.0.range(below.clone()..);
        self.0.contains_key(place)
            || from
                .next()
                .is_some_and(|(name, _)| name.starts_with(&below))
    }
}

/// An answer, written.
pub(super) fn output(
    model: &Model,
    operation: &Operation,
    output: &Value,
    request_id: RequestId,
) -> (StatusCode, HeaderMap, Bytes) {
    let name = &operation.name;
    let namespace = model.metadata.xml_namespace.as_deref().unwrap_or_default();
    let mut xml = format!("<{name}Response xmlns=\"{namespace}\">");
    if let Some(reference) = &operation.output {
        let wrapper = reference.result_wrapper.clone();
        let wrapper = wrapper.unwrap_or_else(|| format!("{name}Result"));
        element(
            &mut xml,
            model,
            model.shape(&reference.shape),
            &wrapper,
            output,
        );
    }
    let _ = write!(
        xml,
        "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    );
    (StatusCode::OK, headers(), xml.into())
}

/// An error, written.
pub(super) fn error(
    model: Option<&Model>,
    error: &Error,
    request_id: RequestId,
) -> (StatusCode, HeaderMap, Bytes) {
    let namespace = model.and_then(|model| model.metadata.xml_namespace.as_deref());
    let (code, status) = match (&*error.name, model) {
        // What every service has is called otherwise here.
        ("AccessDeniedException", _) => ("AccessDenied".to_owned(), StatusCode::FORBIDDEN),
        ("ValidationException", _) => ("ValidationError".to_owned(), StatusCode::BAD_REQUEST),
        ("SerializationException", _) => ("MalformedInput".to_owned(), StatusCode::BAD_REQUEST),
        ("ServiceException", _) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            ("ServiceFailure".to_owned(), status)
        }
        (name, Some(model)) => {
            let (code, status, _) = model.error(name);
            (code, status)
        }
        (name, None) => (name.to_owned(), StatusCode::BAD_REQUEST),
    };
    let xml = error_document(&code, status, namespace, &error.message, request_id);
    (status, headers(), xml.into())
}

/// The answer to who is not let in, written.
pub(super) fn refusal(refusal: &Refusal, request_id: RequestId) -> (StatusCode, HeaderMap, Bytes) {
    let (code, status) = (refusal.query_code(), refusal.status());
    let xml = error_document(code, status, None, &refusal.to_string(), request_id);
    (status, headers(), xml.into())
}

fn error_document(
    code: &str,
    status: StatusCode,
    namespace: Option<&str>,
    message: &str,
    request_id: RequestId,
) -> String {
    let fault = match status.is_server_error() {
        true => "Receiver",
        false => "Sender",
    };
    let mut xml = format!(
        "<ErrorResponse xmlns=\"{}\"><Error><Type>{fault}</Type><Code>{code}</Code><Message>",
        namespace.unwrap_or_default()
    );
    escape(&mut xml, message);
    let _ = write!(
        xml,
        "</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    );
    xml
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"))])
}

fn element(xml: &mut String, model: &Model, shape: &Shape, name: &str, value: &Value) {
    let _ = write!(xml, "<{name}>");
    match (shape.kind, value) {
        (Kind::Structure, Value::Object(members)) => {
            for (member, value) in members {
                if let Some(reference) = shape.members.get(member)
                    && !value.is_null()
                {
                    let on_wire = reference.location_name.as_ref().unwrap_or(member);
                    element(xml, model, model.shape(&reference.shape), on_wire, value);
                }
            }
        }
        (Kind::List, Value::Array(items)) => {
            let member = shape.member.as_ref().expect("a list has members");
            let on_wire = member.location_name.as_deref().unwrap_or("member");
            for item in items {
                element(xml, model, model.shape(&member.shape), on_wire, item);
            }
        }
        (Kind::Map, Value::Object(entries)) => {
            let inner = shape.value.as_ref().expect("a map has values");
            for (key, value) in entries {
                xml.push_str("<entry><key>");
                escape(xml, key);
                xml.push_str("</key>");
                element(xml, model, model.shape(&inner.shape), "value", value);
                xml.push_str("</entry>");
            }
        }
        (_, Value::String(text)) => escape(xml, text),
        (_, Value::Null) => {}
        (_, other) => {
            let _ = write!(xml, "{other}");
        }
    }
    let _ = write!(xml, "</{name}>");
}

/// Text as XML 1.0 has it. Characters that XML cannot have are replaced.
fn escape(xml: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#13;"),
            '\t' | '\n' => xml.push(letter),
            letter if letter < ' ' || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                xml.push('\u{fffd}');
            }
            letter => xml.push(letter),
        }
    }
}
