//! The control plane: who may change what the node serves, and see how it goes.
//!
//! [`verbs`] is what can be done, without HTTP; here is how it is asked for. Nothing in this module is on the way of a
//! function's request. Every path but the health checks wants the node's [`Token`], or an AWS signature: see [`Access`].
//!
//! | request | what |
//! | --- | --- |
//! | `GET /healthz` | the process is alive |
//! | `GET /readyz` | the node takes requests: 503 while it starts and drains |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /wharf/v1/node` | what the node is |
//! | `HEAD`, `PUT /wharf/v1/blobs/DIGEST` | whether a component is here; upload it |
//! | `POST /wharf/v1/deployments` | deploy functions and routes |
//! | `GET /wharf/v1/functions`, `GET`, `DELETE …/NAME` | functions |
//! | `GET /wharf/v1/functions/NAME/logs?last=N&follow=true` | log lines, a JSON document each |
//! | `GET /wharf/v1/backup?key=B&credentials=B` | the state of the node, an archive |
//! | `DELETE /wharf/v1/apps/NAME` | remove an app |
//! | `GET /wharf/v1/users`, `PUT`, `DELETE …/NAME` | who may call, see [`api::AddUser`] |
//! | `GET /wharf/v1/code/DIGEST?expires=…&signature=…` | code, with a link that the API gave out |
//! | `POST /2015-03-31/functions/NAME/invocations` | Lambda API, Invoke |
//! | `/YYYY-MM-DD/…`, `POST /` | the other operations of AWS's services: see [`aws`] |

pub mod api;
mod auth;
mod aws;
mod backup;
pub mod client;
pub mod code;
mod error;
mod iam;
mod lambda;
mod users;
pub mod verbs;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_service::Service as _;

pub use auth::{
    Access, CREDENTIALS_FILE, Caller, Credentials, CredentialsError, Denied, Identities, Identity,
    IdentityKind, Peer, Refusal, TOKEN_FILE, Token, policy,
};
use auth::{Scope, Subject};
pub use axum::body::Body;
pub use error::Error;
use verbs::{Control, MAX_COMPONENT};

use crate::{
    invoke::{EventAnswer, MAX_ASYNC_EVENT, MAX_EVENT},
    model::{Digest, Outcome, RequestId},
    runtime::FunctionError,
    telemetry::{logs::TailFrom, metrics::Metrics},
};

/// The largest JSON document that the API takes, where nothing else is said.
const MAX_DOCUMENT: usize = 64 << 20;

/// Whether the node takes requests.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Says whether it does.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Relaxed);
    }
}

struct Api {
    control: Arc<Control>,
    lambda: Arc<lambda::Lambda>,
    services: aws::Services,
    iam: Arc<iam::Iam>,
    access: Access,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

type Shared = State<Arc<Api>>;

/// The API: answers any request. Cheap to clone.
#[derive(Clone)]
pub struct Service(Router);

impl Service {
    /// Answers one.
    pub async fn answer<B>(&self, request: http::Request<B>) -> http::Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        match self.0.clone().call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The API of a node.
pub fn service(
    control: Control,
    access: Access,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
) -> Service {
    let control = Arc::new(control);
    let lambda = lambda::Lambda::new(control.clone());
    tokio::spawn({
        let lambda = Arc::clone(&lambda);
        async move { lambda.resume().await }
    });
    let identities = &access.identities;
    let iam = Arc::new(iam::Iam::new(control.catalog.clone(), identities.clone()));
    let services: Vec<Arc<dyn aws::Service>> = vec![
        Arc::new(lambda::LambdaService(Arc::clone(&lambda))),
        iam.clone(),
        Arc::new(iam::Sts::new(control.catalog.clone(), identities.clone())),
    ];
    let api = Arc::new(Api {
        control,
        lambda,
        services: aws::Services::new(services),
        iam,
        access,
        readiness,
        metrics,
    });
    let components = Router::new().route("/wharf/v1/blobs/{digest}", put(upload).head(has));
    let events = Router::new().route("/2015-03-31/functions/{name}/invocations", post(invoke));
    let documents = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/wharf/v1/node", get(node))
        .route("/wharf/v1/backup", get(backup::backup))
        .route("/wharf/v1/deployments", post(deploy))
        .route("/wharf/v1/functions", get(functions))
        .route("/wharf/v1/functions/{name}", get(function).delete(remove))
        .route("/wharf/v1/functions/{name}/logs", get(logs))
        .route("/wharf/v1/apps/{name}", axum::routing::delete(remove_app))
        .route("/wharf/v1/users", get(users::list))
        .route(
            "/wharf/v1/users/{name}",
            put(users::add).delete(users::remove),
        );
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/wharf/v1/code/{digest}", get(code))
        .merge(guarded(&api, MAX_COMPONENT, components))
        .merge(guarded(&api, MAX_EVENT, events))
        .merge(guarded(&api, MAX_DOCUMENT, documents))
        .fallback(aws)
        .with_state(api);
    Service(router)
}

/// Routes that are for who is let in. None takes more than `limit` bytes.
fn guarded(api: &Arc<Api>, limit: usize, routes: Router<Arc<Api>>) -> Router<Arc<Api>> {
    let api = api.clone();
    let authorize = move |request: Request, next: Next| {
        let api = api.clone();
        async move {
            let request = api.access.admit(request, limit, &Scope::own()).await?;
            let (head, body) = request.into_parts();
            let caller = head.extensions.get::<Caller>();
            may(&api, caller, &head.method, &head.uri).await?;
            Ok::<_, Error>(next.run(Request::from_parts(head, body)).await)
        }
    };
    routes
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn(authorize))
}

/// Holds a request for one of the node's own paths, or for Invoke, against the policies of its caller, and of the function
/// where those do not allow it.
async fn may(api: &Api, caller: Option<&Caller>, method: &Method, uri: &Uri) -> Result<(), Error> {
    let caller = caller.ok_or(Refusal::Missing)?;
    let subject = Subject::of_request(method, uri, caller);
    let lambda = lambda::LambdaService(Arc::clone(&api.lambda));
    Ok(aws::authorize(&lambda, caller, &subject).await?)
}

/// A call of one of AWS's services, or nothing that is here.
async fn aws(State(api): Shared, request: Request) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let target = api.services.target(&head);
    let limit = target.as_ref().map_or(1 << 20, aws::Target::limit);
    let scope = target.as_ref().map_or_else(Scope::own, aws::Target::scope);
    let request = Request::from_parts(head, body);
    let (head, body) = match (api.access.admit(request, limit, &scope).await, &target) {
        (Ok(request), _) => request.into_parts(),
        (Err(Error::Refused(refusal)), Some(target)) => return Ok(target.refuse(refusal)),
        (Err(error), _) => return Err(error),
    };
    let Some(target) = target else {
        return Err(no_path(&head.uri));
    };
    let body = axum::body::to_bytes(body, limit)
        .await
        .map_err(|error| body_error(&error, limit))?;
    Ok(api.services.answer(target, &head, body).await)
}

fn no_path(uri: &Uri) -> Error {
    Error::NoPath(uri.path().chars().take(200).collect())
}

async fn ready(State(api): Shared) -> Response {
    if api.readiness.0.load(Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics_text(State(api): Shared) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], api.metrics.encode()).into_response()
}

async fn node(State(api): Shared) -> Json<api::NodeSummary> {
    Json(api.control.node())
}

#[derive(Deserialize)]
struct CodeQuery {
    expires: u64,
    signature: String,
}

/// Code, for whoever has a link to it that was made here: `Code.Location` of Lambda's API.
async fn code(
    State(api): Shared,
    Path(code): Path<String>,
    query: Result<Query<CodeQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Error> {
    let code = digest(&code)?;
    let Query(link) = query.map_err(|error| Error::Invalid(error.body_text()))?;
    if !api
        .lambda
        .downloads()
        .opens(&code, link.expires, &link.signature)
    {
        return Ok((
            StatusCode::FORBIDDEN,
            "the link is not good, or not any more\n",
        )
            .into_response());
    }
    let bytes = api.control.blobs.read(&code).await?;
    let bytes = bytes.ok_or_else(|| Error::NoPath(format!("/wharf/v1/code/{code}")))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

fn digest(text: &str) -> Result<Digest, Error> {
    text.parse()
        .map_err(|error| Error::Invalid(format!("`{text}`: {error}")))
}

async fn has(State(api): Shared, Path(code): Path<String>) -> Result<StatusCode, Error> {
    Ok(match api.control.has(&digest(&code)?).await? {
        true => StatusCode::OK,
        false => StatusCode::NOT_FOUND,
    })
}

async fn upload(
    State(api): Shared,
    Path(code): Path<String>,
    body: Body,
) -> Result<StatusCode, Error> {
    let code = digest(&code)?;
    let bytes = axum::body::to_bytes(body, MAX_COMPONENT)
        .await
        .map_err(|error| body_error(&error, MAX_COMPONENT))?;
    api.control.upload(code, bytes).await?;
    Ok(StatusCode::CREATED)
}

fn body_error(error: &(dyn std::error::Error + 'static), limit: usize) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return Error::TooLarge(limit);
        }
        cause = error.source();
    }
    Error::broken_off()
}

async fn deploy(State(api): Shared, body: Body) -> Result<Json<api::Deployed>, Error> {
    let bytes = axum::body::to_bytes(body, MAX_DOCUMENT)
        .await
        .map_err(|error| body_error(&error, MAX_DOCUMENT))?;
    let deploy = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("not a deployment: {error}")))?;
    // A client that hangs up does not leave a deployment half done.
    let deployed = tokio::spawn(async move { api.control.deploy(deploy).await });
    Ok(Json(deployed.await.map_err(|_| Error::Internal)??))
}

async fn functions(State(api): Shared) -> Json<Vec<api::FunctionSummary>> {
    Json(api.control.functions())
}

async fn function(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Json<api::FunctionSummary>, Error> {
    api.control.function(&name)?;
    let summary = api
        .control
        .functions()
        .into_iter()
        .find(|function| function.name.as_str() == name);
    summary.map(Json).ok_or(Error::NoFunction(name))
}

async fn remove(State(api): Shared, Path(name): Path<String>) -> Result<StatusCode, Error> {
    api.control.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_app(State(api): Shared, Path(app): Path<String>) -> Result<StatusCode, Error> {
    api.control.remove_app(&app).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    last: Option<usize>,
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(api): Shared,
    Path(name): Path<String>,
    query: Result<Query<LogsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|error| Error::Invalid(error.body_text()))?;
    let tail = api.control.tail(
        &name,
        TailFrom::Last(query.last.unwrap_or(100)),
        query.follow,
    )?;
    let lines = futures::stream::unfold(tail, async |mut tail| {
        let line = tail.next().await?;
        let mut json = serde_json::to_vec(&line).ok()?;
        json.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(json)), tail))
    });
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}

/// Lambda API, Invoke.
async fn invoke(
    State(api): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let name = name.strip_suffix(":$LATEST").unwrap_or(&name);
    let function = api.control.function(name)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (asynchronous, largest) = match text("x-amz-invocation-type").unwrap_or("RequestResponse") {
        "RequestResponse" => (false, MAX_EVENT),
        "Event" => (true, MAX_ASYNC_EVENT),
        "DryRun" => return Ok(StatusCode::NO_CONTENT.into_response()),
        other => {
            return Err(Error::Invalid(format!(
                "`{other}` is no invocation type: RequestResponse, Event or DryRun is"
            )));
        }
    };
    let client_context = text("x-amz-client-context")
        .map(|context| {
            BASE64_STANDARD
                .decode(context)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(String::into_boxed_str)
                .ok_or_else(|| {
                    Error::Invalid("X-Amz-Client-Context is not base64 of text".to_owned())
                })
        })
        .transpose()?;
    let wants_log = text("x-amz-log-type") == Some("Tail");
    let event = axum::body::to_bytes(body, largest)
        .await
        .map_err(|error| body_error(&error, largest))?;
    let event = event_text(&event)?;
    verbs::takes_events(&function)?;
    if asynchronous {
        let request_id = api
            .control
            .enqueue(&function, event, client_context)
            .await?;
        let mut response = StatusCode::ACCEPTED.into_response();
        set_request_id(&mut response, request_id);
        return Ok(response);
    }
    let timeout = function.deployment().configuration.timeout;
    let answer = api
        .control
        .invoke
        .event(&function, RequestId::generate(), event, client_context)
        .await;
    let mut response = answer_response(&answer, timeout);
    if wants_log {
        let log = api.control.log_of(&function, answer.request_id).await;
        if let Ok(log) = HeaderValue::from_str(&BASE64_STANDARD.encode(log)) {
            response.headers_mut().insert("x-amz-log-result", log);
        }
    }
    Ok(response)
}

/// The event as JSON; nothing stands for `{}`.
fn event_text(bytes: &Bytes) -> Result<String, Error> {
    if bytes.is_empty() {
        return Ok("{}".to_owned());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::Invalid(format!("the event is not UTF-8: {error}")))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| Error::Invalid(format!("the event is not JSON: {error}")))?;
    Ok(text.to_owned())
}

fn answer_response(answer: &EventAnswer, timeout: std::time::Duration) -> Response {
    let (status, error, body) = match &answer.result {
        Ok(Ok(json)) => (StatusCode::OK, None, json.clone()),
        Ok(Err(error)) => (StatusCode::OK, Some("Unhandled"), error_document(error)),
        Err(outcome @ (Outcome::Throttled | Outcome::Overloaded)) => {
            let reason = match outcome {
                Outcome::Throttled => "ReservedFunctionConcurrentInvocationLimitExceeded",
                _ => "ConcurrentInvocationLimitExceeded",
            };
            let body = json!({"Type": "User", "message": "Rate Exceeded.", "Reason": reason});
            (StatusCode::TOO_MANY_REQUESTS, None, body.to_string())
        }
        Err(Outcome::Internal) => {
            let body =
                json!({"Type": "Service", "message": "the node failed; its log has the cause"});
            (StatusCode::INTERNAL_SERVER_ERROR, None, body.to_string())
        }
        Err(outcome) => (
            StatusCode::OK,
            Some("Unhandled"),
            stopped_document(*outcome, answer, timeout),
        ),
    };
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    set_request_id(&mut response, answer.request_id);
    let headers = response.headers_mut();
    if let Some(error) = error {
        headers.insert("x-amz-function-error", HeaderValue::from_static(error));
    }
    if let Err(outcome) = &answer.result {
        headers.insert("x-wharf-error", HeaderValue::from_static(outcome.code()));
    }
    if status == StatusCode::OK {
        headers.insert(
            "x-amz-executed-version",
            HeaderValue::from_static("$LATEST"),
        );
    }
    response
}

fn set_request_id(response: &mut Response, request_id: RequestId) {
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
}

fn error_document(error: &FunctionError) -> String {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        trace: Some(&error.trace),
    };
    document.to_json()
}

/// An error as Lambda's runtimes write it, in their order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDocument<'a> {
    error_type: &'a str,
    error_message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a [String]>,
}

impl ErrorDocument<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

/// What Lambda says of a function that it stopped.
fn stopped_document(
    outcome: Outcome,
    answer: &EventAnswer,
    timeout: std::time::Duration,
) -> String {
    let id = answer.request_id;
    let (error_type, message) = match outcome {
        Outcome::Timeout => (
            "Sandbox.Timedout",
            format!(
                "RequestId: {id} Error: Task timed out after {:.2} seconds",
                timeout.as_secs_f64()
            ),
        ),
        Outcome::OutOfMemory => (
            "Runtime.OutOfMemory",
            format!("RequestId: {id} Error: out of memory"),
        ),
        Outcome::OutOfFuel => (
            "Runtime.OutOfFuel",
            format!("RequestId: {id} Error: out of fuel"),
        ),
        Outcome::OutOfCpu => (
            "Runtime.OutOfCpu",
            format!("RequestId: {id} Error: out of processor time"),
        ),
        Outcome::ResponseTooLarge => (
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
                .to_owned(),
        ),
        Outcome::BadResponse => (
            "Runtime.BadResponse",
            format!("RequestId: {id} Error: the answer is not JSON"),
        ),
        _ => (
            "Runtime.ExitError",
            format!("RequestId: {id} Error: Runtime exited with error: {outcome}"),
        ),
    };
    let document = ErrorDocument {
        error_type,
        error_message: &message,
        trace: None,
    };
    document.to_json()
}
