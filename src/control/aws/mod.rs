//! AWS's protocols: from a request to a call of an operation, and from its answer to a response.
//!
//! A service's [`Model`] says how each of its operations is addressed and what its members are. [`rest`], [`json`] and
//! [`query`] read and write what the model says, [`validate`] holds the members against it, and a [`Service`] answers. So an
//! operation that is in the model is known here, whether Wharf has it or not, and a value that the model does not allow
//! reaches no service.

mod error;
pub(in crate::control) mod event_stream;
mod json;
pub(in crate::control) mod model;
mod query;
mod rest;
mod validate;

use std::{future::ready, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(in crate::control) use error::Error;
use model::{Model, Operation};

use super::auth::{Caller, Refusal, Scope, Subject, policy::Policy};
use crate::model::RequestId;

/// The largest body of an operation that takes no code.
const MAX_DOCUMENT: usize = 6 << 20;

/// The largest body of an operation that takes code: Lambda's 50 MB in base64, and what is around it.
const MAX_CODE: usize = 70 << 20;

/// A service of AWS's.
///
/// Without `async_trait`, under whose bounds rustc proves `Send` of each future anew: for the largest, that takes seconds.
pub(in crate::control) trait Service: Send + Sync {
    /// What is on the wire.
    fn model(&self) -> &'static Model;

    /// What the service calls a member that is not as the model says.
    fn invalid(&self) -> &'static str {
        "ValidationException"
    }

    /// Answers a call whose members are as the model says, and whose caller may make it.
    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, Error>>;

    /// What a call is held against its caller's policies for. Without one, everybody who is let in may make it.
    fn subject<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Subject>, Error>> {
        let service = &self.model().metadata.endpoint_prefix;
        let action = format!("{service}:{}", call.operation.name);
        Box::pin(ready(Ok(Some(Subject::new(action, "*")))))
    }

    /// The policy of a resource, which may allow what its caller's do not.
    fn guard<'a>(&'a self, _resource: &'a str) -> BoxFuture<'a, Result<Option<Policy>, Error>> {
        Box::pin(ready(Ok(None)))
    }
}

/// A call of an operation.
pub(in crate::control) struct Call {
    /// The operation.
    pub(in crate::control) operation: &'static Operation,
    /// Its members, by their names in the model. Blobs are base64.
    pub(in crate::control) input: Map<String, Value>,
    /// The bytes of an operation whose body is one member, and not a document.
    pub(in crate::control) payload: Bytes,
    /// What the client says that the body is.
    pub(in crate::control) content_type: Option<String>,
    /// The id of the request.
    pub(in crate::control) request_id: RequestId,
    /// Who calls.
    pub(in crate::control) caller: Caller,
    /// Where the caller found the API, as `127.0.0.1:9080`.
    pub(in crate::control) authority: String,
}

impl Call {
    /// The members as a type that has them.
    pub(in crate::control) fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_value(Value::Object(self.input))
            .map_err(|error| Error::serialization(error.to_string()))
    }

    /// A member that is a text.
    pub(in crate::control) fn text(&self, member: &str) -> Option<&str> {
        self.input.get(member).and_then(Value::as_str)
    }
}

/// What a service answers with.
pub(in crate::control) enum Answer {
    /// The members of the output. Timestamps are as the protocol has them.
    Document(Value),
    /// A stream of events, `application/vnd.amazon.eventstream`.
    Stream(Body),
    /// What is neither: a payload, with header fields of its own.
    Payload(Response),
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Document(value)
    }
}

/// The services of a node.
pub(in crate::control) struct Services(Vec<Entry>);

struct Entry {
    service: Arc<dyn Service>,
    protocol: Protocol,
}

enum Protocol {
    Rest(rest::Routes),
    Json,
    Query,
}

/// What a request is for, as far as its head says.
pub(in crate::control) enum Target<'a> {
    /// An operation.
    Rest(&'a dyn Service, Box<Found>),
    /// An operation of that name.
    Json(&'a dyn Service, String),
    /// An operation that the body names.
    Query,
    /// Nothing that is known: the response says so.
    Unknown(Box<Unknown>),
}

/// An operation that was found by its path.
pub(in crate::control) struct Found(rest::Found);

/// A request for a service, and for none of its operations.
pub(in crate::control) struct Unknown(StatusCode, &'static str);

impl Target<'_> {
    /// What answers a request whose body is larger than that.
    pub(in crate::control) fn too_large(&self, limit: usize) -> Option<Response> {
        let Self::Rest(service, found) = self else {
            return None;
        };
        let name = match found.0.operation.name.as_str() {
            // By the name of its permission.
            "Invoke" => "InvokeFunction",
            name => name,
        };
        let message =
            format!("Request must be smaller than {limit} bytes for the {name} operation");
        let error = Error::new("RequestTooLargeException", message).with("Type", "User");
        Some(refused(service.model(), &error, RequestId::generate()))
    }

    /// The most bytes that its body may have.
    pub(in crate::control) fn limit(&self) -> usize {
        let takes_code = match self {
            Self::Rest(_, found) => matches!(
                found.0.operation.name.as_str(),
                "CreateFunction" | "UpdateFunctionCode" | "PublishLayerVersion"
            ),
            Self::Json(..) | Self::Query | Self::Unknown(_) => false,
        };
        match takes_code {
            true => MAX_CODE,
            false => MAX_DOCUMENT,
        }
    }
}

impl Target<'_> {
    /// What it may be signed for.
    pub(in crate::control) fn scope(&self) -> Scope {
        let signed_for = |service: &dyn Service| &*service.model().metadata.endpoint_prefix;
        let (services, global) = match self {
            Self::Rest(service, _) | Self::Json(service, _) => (vec![signed_for(*service)], false),
            Self::Query => (vec!["iam", "sts"], true),
            Self::Unknown(_) => (vec!["lambda"], false),
        };
        Scope {
            services,
            global,
            aws: true,
        }
    }

    /// The response to who is not let in.
    pub(in crate::control) fn refuse(&self, refusal: Refusal) -> Response {
        match self {
            Self::Rest(..) | Self::Json(..) | Self::Unknown(_) => refusal.into_response(),
            Self::Query => {
                let request_id = RequestId::generate();
                let (status, headers, body) = query::refusal(&refusal, request_id);
                respond(status, headers, body.into(), request_id)
            }
        }
    }
}

impl Services {
    pub(in crate::control) fn new(services: Vec<Arc<dyn Service>>) -> Self {
        let entry = |service: Arc<dyn Service>| {
            let model = service.model();
            let protocol = if model.metadata.target_prefix.is_some() {
                Protocol::Json
            } else if model.metadata.xml_namespace.is_some() {
                Protocol::Query
            } else {
                Protocol::Rest(rest::Routes::new(model))
            };
            Entry { service, protocol }
        };
        Self(services.into_iter().map(entry).collect())
    }

    /// What a request is for. None if it is not for any of these services.
    pub(in crate::control) fn target(&self, head: &Parts) -> Option<Target<'_>> {
        if head.uri.path() == "/" {
            let text = |name| {
                head.headers
                    .get(name)
                    .and_then(|value: &HeaderValue| value.to_str().ok())
            };
            if let Some((prefix, operation)) =
                text("x-amz-target").and_then(|text| text.split_once('.'))
            {
                let entry = self.0.iter().find(|entry| {
                    entry.service.model().metadata.target_prefix.as_deref() == Some(prefix)
                })?;
                return Some(Target::Json(&*entry.service, operation.to_owned()));
            }
            let is_form = text("content-type")
                .is_some_and(|text| text.starts_with("application/x-www-form-urlencoded"));
            let in_query = head
                .uri
                .query()
                .is_some_and(|query| query.contains("Action="));
            return (is_form || in_query).then_some(Target::Query);
        }
        // `/2015-03-31/…`: no path of the node's own begins with a digit.
        let path = head.uri.path().trim_start_matches('/');
        if !path.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let mut miss = Unknown(
            StatusCode::NOT_FOUND,
            "There is no operation with this path.",
        );
        for entry in &self.0 {
            let Protocol::Rest(routes) = &entry.protocol else {
                continue;
            };
            match routes.find(&head.method, &head.uri) {
                Ok(found) => return Some(Target::Rest(&*entry.service, Box::new(Found(found)))),
                Err(rest::Miss::Path) => {}
                Err(rest::Miss::Method) => {
                    miss = Unknown(
                        StatusCode::METHOD_NOT_ALLOWED,
                        "No operation with this path has this method.",
                    );
                }
            }
        }
        Some(Target::Unknown(Box::new(miss)))
    }

    /// Answers a request.
    pub(in crate::control) async fn answer(
        &self,
        target: Target<'_>,
        head: &Parts,
        body: Bytes,
    ) -> Response {
        let Some(mut context) = Context::of(head) else {
            return target.refuse(Refusal::Missing);
        };
        let request_id = context.request_id;
        let written = match target {
            Target::Rest(service, found) => {
                let model = service.model();
                let operation = found.0.operation;
                let query = head.uri.query().unwrap_or_default();
                let input = rest::input(model, found.0, query, &head.headers, &body);
                if operation.has_payload(model) {
                    context.payload = body;
                    let content_type = head.headers.get(header::CONTENT_TYPE);
                    let content_type = content_type.and_then(|value| value.to_str().ok());
                    context.content_type = content_type.map(str::to_owned);
                }
                match call(service, operation, input, context).await {
                    Ok(Answer::Document(output)) => rest::output(model, operation, output),
                    Ok(Answer::Stream(stream)) => return respond_stream(stream, request_id),
                    Ok(Answer::Payload(response)) => return identified(response, request_id),
                    Err(error) => rest::error(model, &error),
                }
            }
            Target::Json(service, name) => {
                let model = service.model();
                let answer = match model.operation(&name) {
                    Some(operation) => call(service, operation, json::input(&body), context).await,
                    None => Err(Error::new(
                        "UnknownOperationException",
                        format!("There is no operation {name}."),
                    )),
                };
                match answer {
                    Ok(Answer::Document(output)) => json::output(&output),
                    Ok(Answer::Stream(stream)) => return respond_stream(stream, request_id),
                    Ok(Answer::Payload(response)) => return identified(response, request_id),
                    Err(error) => json::error(model, &error),
                }
            }
            Target::Query => {
                self.query(head.uri.query().unwrap_or_default(), &body, context)
                    .await
            }
            Target::Unknown(unknown) => {
                let Unknown(status, message) = *unknown;
                let error = Error::new("UnknownOperationException", message);
                let (_, headers, body) = rest::error(&model::LAMBDA, &error);
                (status, headers, body)
            }
        };
        let (status, headers, body) = written;
        respond(status, headers, body.into(), request_id)
    }

    async fn query(
        &self,
        query: &str,
        body: &Bytes,
        context: Context,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let request_id = context.request_id;
        let form = match query::Form::read(query, body) {
            Ok(form) => form,
            Err(error) => return query::error(None, &error, request_id),
        };
        let action = form.get("Action").unwrap_or_default();
        let found = self
            .0
            .iter()
            .filter(|entry| matches!(entry.protocol, Protocol::Query))
            .find_map(|entry| {
                let operation = entry.service.model().operation(action)?;
                Some((&*entry.service, operation))
            });
        let Some((service, operation)) = found else {
            let shown: String = action.chars().take(100).collect();
            let error = Error::new(
                "InvalidAction",
                format!("Could not find operation {shown} among those of this node."),
            );
            return query::error(None, &error, request_id);
        };
        let model = service.model();
        let input = form.input(model, operation);
        match call(service, operation, input, context).await {
            Ok(Answer::Document(output)) => query::output(model, operation, &output, request_id),
            Ok(Answer::Stream(_) | Answer::Payload(_)) => {
                let error = Error::internal(&"a stream in a protocol that has none");
                query::error(Some(model), &error, request_id)
            }
            Err(error) => query::error(Some(model), &error, request_id),
        }
    }
}

/// What a call has from its request.
struct Context {
    request_id: RequestId,
    authority: String,
    payload: Bytes,
    content_type: Option<String>,
    caller: Caller,
}

impl Context {
    /// None if nobody found out who calls.
    fn of(head: &Parts) -> Option<Self> {
        let host = head.headers.get(header::HOST);
        let authority = head
            .uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or_else(|| host.and_then(|host| host.to_str().ok()));
        Some(Self {
            request_id: RequestId::generate(),
            authority: authority.unwrap_or_default().to_owned(),
            payload: Bytes::new(),
            content_type: None,
            caller: head.extensions.get::<Caller>()?.clone(),
        })
    }
}

async fn call(
    service: &dyn Service,
    operation: &'static Operation,
    input: Result<Map<String, Value>, Error>,
    context: Context,
) -> Result<Answer, Error> {
    let mut input = input?;
    if let Some(reference) = &operation.input {
        validate::input(
            service.model(),
            &reference.shape,
            &mut input,
            service.invalid(),
        )?;
    }
    let Context {
        request_id,
        authority,
        payload,
        content_type,
        caller,
    } = context;
    let call = Call {
        operation,
        input,
        payload,
        content_type,
        request_id,
        authority,
        caller,
    };
    if let Some(subject) = service.subject(&call).await? {
        authorize(service, &call.caller, &subject).await?;
    }
    let answer = service.answer(call).await;
    if let Err(error) = &answer {
        tracing::debug!(operation = operation.name, %error, %request_id, "a call failed");
    }
    answer
}

/// Holds what is asked for against the policies of who asks, and of what it is on where those do not allow it.
pub(in crate::control) async fn authorize(
    service: &dyn Service,
    caller: &Caller,
    subject: &Subject,
) -> Result<(), Error> {
    let Subject {
        action,
        resources,
        context,
    } = subject;
    for resource in resources {
        let Err(denied) = caller.authorize_on(action, resource, None, context) else {
            continue;
        };
        match service.guard(resource).await? {
            None => return Err(denied.into()),
            Some(guard) => caller.authorize_on(action, resource, Some(&guard), context)?,
        }
    }
    Ok(())
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body, request_id: RequestId) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    identified(response, request_id)
}

/// The response with the id of the request, unless it says another.
fn identified(mut response: Response, request_id: RequestId) -> Response {
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        let headers = response.headers_mut();
        headers.entry("x-amzn-requestid").or_insert(id);
    }
    response
}

/// An error of a service that speaks REST, as its response.
pub(in crate::control) fn refused(
    model: &'static Model,
    error: &Error,
    request_id: RequestId,
) -> Response {
    let (status, headers, body) = rest::error(model, error);
    respond(status, headers, body.into(), request_id)
}

fn respond_stream(stream: Body, request_id: RequestId) -> Response {
    let content_type = HeaderValue::from_static(event_stream::CONTENT_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
    respond(StatusCode::OK, headers, stream, request_id)
}
