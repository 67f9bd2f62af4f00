//! The protocol `rest-json`: an operation is a method and a path, its members stand in path, query, header and a JSON body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{
    Error,
    model::{Kind, Location, Member, Model, Operation, Shape},
};

/// The operations of a service by method and path.
pub(super) struct Routes(Vec<Route>);

struct Route {
    operation: &'static Operation,
    segments: Vec<Segment>,
    /// What the query has to be, where it tells operations apart: `find=LayerVersion`.
    query: Option<(&'static str, &'static str)>,
}

enum Segment {
    Literal(&'static str),
    Label(&'static str),
}

/// An operation, and what the path says.
pub(super) struct Found {
    pub(super) operation: &'static Operation,
    labels: Map<String, Value>,
}

/// Why there is no operation.
pub(super) enum Miss {
    /// No operation has this path.
    Path,
    /// Some have, with other methods.
    Method,
}

impl Routes {
    pub(super) fn new(model: &'static Model) -> Self {
        let route = |operation: &'static Operation| {
            let uri = operation.http.request_uri.as_str();
            let (path, query) = match uri.split_once('?') {
                Some((path, query)) => (path, query.split_once('=')),
                None => (uri, None),
            };
            let segment = |segment: &'static str| match segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            {
                Some(label) => Segment::Label(label),
                None => Segment::Literal(segment),
            };
            Route {
                operation,
                segments: segments(path).map(segment).collect(),
                query,
            }
        };
        let mut routes: Vec<Route> = model.operations().map(route).collect();
        // What wants more of a request goes first.
        routes.sort_by_key(|route| {
            let labels = route
                .segments
                .iter()
                .filter(|segment| matches!(segment, Segment::Label(_)));
            (labels.count(), route.query.is_none())
        });
        Self(routes)
    }

    pub(super) fn find(&self, method: &Method, uri: &Uri) -> Result<Found, Miss> {
        let path: Vec<&str> = segments(uri.path()).collect();
        let mut miss = Miss::Path;
        for route in &self.0 {
            let Some(labels) = route.labels(&path) else {
                continue;
            };
            let matches_query = route.query.is_none_or(|(name, value)| {
                pairs(uri.query().unwrap_or_default()).any(|(n, v)| n == name && v == value)
            });
            if !route.operation.http.is(method) || !matches_query {
                miss = Miss::Method;
                continue;
            }
            return Ok(Found {
                operation: route.operation,
                labels,
            });
        }
        Err(miss)
    }
}

impl Route {
    fn labels(&self, path: &[&str]) -> Option<Map<String, Value>> {
        if path.len() != self.segments.len() {
            return None;
        }
        let mut labels = Map::new();
        for (segment, part) in self.segments.iter().zip(path) {
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Literal(_) => return None,
                Segment::Label(label) => {
                    let text = percent_decode_str(part).decode_utf8().ok()?;
                    labels.insert((*label).to_owned(), Value::String(text.into_owned()));
                }
            }
        }
        Some(labels)
    }
}

/// A slash at the end makes no difference: clients of older models send one.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('/')
        .trim_end_matches('/')
        .split('/')
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned()
}

/// The members of a request.
pub(super) fn input(
    model: &'static Model,
    found: Found,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Map<String, Value>, Error> {
    let Found { operation, labels } = found;
    let Some(reference) = &operation.input else {
        return Ok(Map::new());
    };
    let shape = model.shape(&reference.shape);
    let mut input = match &shape.payload {
        // A call has the bytes beside its members; here it says that they are there.
        Some(payload) => Map::from_iter([(payload.clone(), Value::from(""))]),
        None => document(body, shape)?,
    };
    for (name, member) in &shape.members {
        let on_wire = member.location_name.as_ref().unwrap_or(name);
        let inner = model.shape(&member.shape);
        let value = match member.location {
            None => continue,
            Some(Location::Uri) => {
                let text = labels.get(on_wire).and_then(Value::as_str);
                text.map(|text| scalar(inner, text, name)).transpose()?
            }
            Some(Location::Querystring) => in_query(model, inner, query, on_wire, name)?,
            Some(Location::Header) => headers
                .get(on_wire.as_str())
                .and_then(|value| value.to_str().ok())
                .map(|text| scalar(inner, text, name))
                .transpose()?,
            Some(Location::Headers | Location::StatusCode) => None,
        };
        // What has a place elsewhere is not taken from the body.
        input.remove(name);
        if let Some(value) = value {
            input.insert(name.clone(), value);
        }
    }
    Ok(input)
}

/// The members in the body. Only those that belong there may be there.
fn document(body: &Bytes, shape: &Shape) -> Result<Map<String, Value>, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Error::serialization(format!("The body is not JSON: {error}")))?;
    let Value::Object(members) = value else {
        return Err(Error::serialization("The body is no JSON object."));
    };
    let by_wire = |on_wire: &String| {
        let named = |(_, member): &(&String, &Member)| {
            member.location.is_none() && member.location_name.as_ref() == Some(on_wire)
        };
        shape.members.iter().find(named)
    };
    let renamed = members.into_iter().map(|(name, value)| {
        let name = by_wire(&name).map_or(name, |(name, _)| name.clone());
        (name, value)
    });
    Ok(renamed.collect())
}

fn in_query(
    model: &Model,
    shape: &Shape,
    query: &str,
    on_wire: &str,
    name: &str,
) -> Result<Option<Value>, Error> {
    let mut found = pairs(query)
        .filter(|(n, _)| n == on_wire)
        .map(|(_, value)| value);
    if shape.kind != Kind::List {
        return found
            .next()
            .map(|text| scalar(shape, &text, name))
            .transpose();
    }
    let member = shape.member.as_ref().expect("a list has members");
    let inner = model.shape(&member.shape);
    let items: Vec<Value> = found
        .map(|text| scalar(inner, &text, name))
        .collect::<Result<_, _>>()?;
    Ok((!items.is_empty()).then_some(Value::Array(items)))
}

/// A value that stands in a text.
pub(super) fn scalar(shape: &Shape, text: &str, name: &str) -> Result<Value, Error> {
    let wrong = || {
        Error::serialization(format!(
            "'{}' at '{name}' can not be converted to {:?}",
            text.chars().take(100).collect::<String>(),
            shape.kind
        ))
    };
    Ok(match shape.kind {
        Kind::Boolean => match text {
            "true" => true.into(),
            "false" => false.into(),
            _ => return Err(wrong()),
        },
        Kind::Integer | Kind::Long => text.parse::<i64>().map_err(|_| wrong())?.into(),
        Kind::Float | Kind::Double => text.parse::<f64>().map_err(|_| wrong())?.into(),
        Kind::String | Kind::Blob | Kind::Timestamp | Kind::Structure | Kind::List | Kind::Map => {
            text.into()
        }
    })
}

/// An answer, written.
pub(super) fn output(
    model: &'static Model,
    operation: &'static Operation,
    output: Value,
) -> (StatusCode, HeaderMap, Bytes) {
    let mut status = operation.http.status();
    let mut headers = HeaderMap::new();
    let mut document = match output {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let shape = operation
        .output
        .as_ref()
        .map(|reference| model.shape(&reference.shape));
    for (name, member) in shape.iter().flat_map(|shape| &shape.members) {
        let on_wire = member.location_name.as_ref().unwrap_or(name);
        match member.location {
            Some(Location::StatusCode) => {
                let code = document.remove(name).as_ref().and_then(Value::as_u64);
                let code = code.and_then(|code| u16::try_from(code).ok());
                status = code
                    .and_then(|code| StatusCode::from_u16(code).ok())
                    .unwrap_or(status);
            }
            Some(Location::Header) => {
                let value = document.remove(name);
                if let Some(Value::String(text)) = value
                    && let Ok(value) = HeaderValue::from_str(&text)
                    && let Ok(name) = HeaderName::from_bytes(on_wire.as_bytes())
                {
                    headers.insert(name, value);
                }
            }
            Some(Location::Headers | Location::Uri | Location::Querystring) | None => {}
        }
    }
    if shape.is_none() || status == StatusCode::NO_CONTENT {
        return (status, headers, Bytes::new());
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    (
        status,
        headers,
        Value::Object(document).to_string().into_bytes().into(),
    )
}

/// An error, written.
pub(super) fn error(model: &'static Model, error: &Error) -> (StatusCode, HeaderMap, Bytes) {
    let (code, status, message) = model.error(&error.name);
    let mut document = error.members.clone();
    let mut headers = HeaderMap::new();
    // A client reads it from the header, where the model says that it stands there.
    if let Some(Value::String(seconds)) = document.remove("retryAfterSeconds")
        && let Ok(seconds) = HeaderValue::from_str(&seconds)
    {
        headers.insert(header::RETRY_AFTER, seconds);
    }
    document.insert(message.to_owned(), error.message.clone().into());
    if let Ok(code) = HeaderValue::from_str(&code) {
        headers.insert("x-amzn-errortype", code);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    (
        status,
        headers,
        Value::Object(document).to_string().into_bytes().into(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::model::LAMBDA, *};

    fn find(method: Method, uri: &str) -> Option<(String, Value)> {
        let found = Routes::new(&LAMBDA).find(&method, &uri.parse().unwrap());
        found
            .ok()
            .map(|found| (found.operation.name.clone(), Value::Object(found.labels)))
    }

    #[test]
    fn a_request_finds_its_operation() {
        for (method, uri, operation, labels) in [
            (
                Method::GET,
                "/2015-03-31/functions/",
                "ListFunctions",
                json!({}),
            ),
            (
                Method::GET,
                "/2015-03-31/functions/a%3A%24LATEST?Qualifier=1",
                "GetFunction",
                json!({"FunctionName": "a:$LATEST"}),
            ),
            (Method::GET, "/2018-10-31/layers", "ListLayers", json!({})),
            (
                Method::GET,
                "/2018-10-31/layers?Arn=x&find=LayerVersion",
                "GetLayerVersionByArn",
                json!({}),
            ),
            (
                Method::GET,
                "/2019-09-30/functions/f/provisioned-concurrency?List=ALL",
                "ListProvisionedConcurrencyConfigs",
                json!({"FunctionName": "f"}),
            ),
            (
                Method::GET,
                "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1",
                "GetProvisionedConcurrencyConfig",
                json!({"FunctionName": "f"}),
            ),
            (
                Method::DELETE,
                "/2015-03-31/functions/f/policy/s",
                "RemovePermission",
                json!({"FunctionName": "f", "StatementId": "s"}),
            ),
        ] {
            assert_eq!(
                find(method, uri),
                Some((operation.to_owned(), labels)),
                "{uri}"
            );
        }
        assert_eq!(find(Method::PATCH, "/2015-03-31/functions"), None);
        assert_eq!(find(Method::GET, "/2015-03-31/nothing"), None);
    }

    #[test]
    fn every_operation_has_a_path_of_its_own() {
        let routes = Routes::new(&LAMBDA);
        for operation in LAMBDA.operations() {
            let uri = operation.http.request_uri.replace(['{', '}'], "");
            let method = ["GET", "POST", "PUT", "DELETE"]
                .into_iter()
                .map(|method| method.parse::<Method>().unwrap())
                .find(|method| operation.http.is(method))
                .unwrap();
            let found = routes.find(&method, &uri.parse().unwrap()).ok().unwrap();
            assert_eq!(found.operation.name, operation.name);
        }
    }

    #[test]
    fn members_are_read_from_where_they_stand() {
        let routes = Routes::new(&LAMBDA);
        let uri: Uri = "/2015-03-31/functions/f/aliases/a".parse().unwrap();
        let found = routes.find(&Method::PUT, &uri).ok().unwrap();
        let body = Bytes::from_static(br#"{"FunctionName": "other", "FunctionVersion": "1"}"#);
        let read = input(&LAMBDA, found, "", &HeaderMap::new(), &body).unwrap();
        assert_eq!(
            Value::Object(read),
            json!({"FunctionName": "f", "Name": "a", "FunctionVersion": "1"})
        );
        let uri: Uri = "/2017-03-31/tags/arn?tagKeys=a&tagKeys=b".parse().unwrap();
        let found = routes.find(&Method::DELETE, &uri).ok().unwrap();
        let read = input(
            &LAMBDA,
            found,
            uri.query().unwrap(),
            &HeaderMap::new(),
            &Bytes::new(),
        );
        assert_eq!(
            Value::Object(read.unwrap()),
            json!({"Resource": "arn", "TagKeys": ["a", "b"]})
        );
    }
}
