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
//! | `GET /wharf/v1/functions/NAME/logs?last=N&follow=true&since=MS&filter=PATTERN` | log lines, a JSON document each |
//! | `GET /wharf/v1/backup?key=B&credentials=B` | the state of the node, an archive |
//! | `DELETE /wharf/v1/apps/NAME` | remove an app |
//! | `GET /wharf/v1/users`, `PUT`, `DELETE …/NAME` | who may call, see [`api::AddUser`] |
//! | `GET /wharf/v1/code/DIGEST?expires=…&signature=…` | code, with a link that the API gave out |
//! | `/YYYY-MM-DD/…`, `POST /` | operations of AWS's services: see `aws` |

pub mod api;
mod auth;
mod aws;
mod backup;
pub mod client;
pub mod code;
mod distributions;
mod doors;
mod error;
mod iam;
mod lambda;
mod logs;
mod users;
pub mod verbs;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use serde::Deserialize;
use tower_service::Service as _;

pub use auth::{
    Access, Bodies, CREDENTIALS_FILE, Caller, Credentials, CredentialsError, Denied, Identities,
    Identity, IdentityKind, Peer, Refusal, TOKEN_FILE, Token, UrlRefusal, policy,
};
use auth::{Scope, Subject};
pub use axum::body::Body;
pub use doors::Doors;
pub use error::Error;
pub use lambda::{Permissions, folders, mend_layers};
use verbs::{Control, MAX_COMPONENT};

use crate::{model::Digest, telemetry::metrics::Metrics};

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
    access: Arc<Access>,
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
    access: Arc<Access>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
) -> Service {
    let control = Arc::new(control);
    let lambda = lambda::Lambda::new(control.clone());
    tokio::spawn({
        let lambda = Arc::clone(&lambda);
        async move { lambda.resume().await }
    });
    let cloudwatch_logs = logs::CloudWatchLogs::new(control.logs.clone(), &control.arns);
    let identities = &access.identities;
    let iam = Arc::new(iam::Iam::new(control.catalog.clone(), identities.clone()));
    let services: Vec<Arc<dyn aws::Service>> = vec![
        Arc::new(lambda::LambdaService(Arc::clone(&lambda))),
        Arc::new(cloudwatch_logs),
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
    let documents = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/wharf/v1/node", get(node))
        .route("/wharf/v1/backup", get(backup::backup))
        .route("/wharf/v1/deployments", post(deploy))
        .route("/wharf/v1/functions", get(functions))
        .route("/wharf/v1/functions/{name}", get(function).delete(remove))
        .route("/wharf/v1/functions/{name}/logs", get(logs::lines))
        .route("/wharf/v1/apps/{name}", axum::routing::delete(remove_app))
        .route("/wharf/v1/distributions", get(distributions::list))
        .route(
            "/wharf/v1/distributions/{name}",
            get(distributions::get)
                .put(distributions::put)
                .delete(distributions::remove),
        )
        .route(
            "/wharf/v1/distributions/{name}/purge",
            post(distributions::purge),
        )
        .route("/wharf/v1/cache", get(distributions::cache))
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
            may(caller, &head.method, &head.uri)?;
            Ok::<_, Error>(next.run(Request::from_parts(head, body)).await)
        }
    };
    routes
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn(authorize))
}

/// Holds a request for one of the node's own paths against the policies of its caller.
fn may(caller: Option<&Caller>, method: &Method, uri: &Uri) -> Result<(), Error> {
    let caller = caller.ok_or(Refusal::Missing)?;
    let subject = Subject::of_request(method, uri, caller);
    let Subject {
        action,
        resources,
        context,
    } = &subject;
    let denied = caller.authorize(action, resources, context);
    Ok(denied.map_err(aws::Error::from)?)
}

/// A call of one of AWS's services, or nothing that is here.
async fn aws(State(api): Shared, request: Request) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let target = api.services.target(&head);
    let limit = target.as_ref().map_or(1 << 20, aws::Target::limit);
    let scope = target.as_ref().map_or_else(Scope::own, aws::Target::scope);
    let read = async {
        let request = Request::from_parts(head, body);
        let request = api.access.admit(request, limit, &scope).await?;
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, limit)
            .await
            .map_err(|error| body_error(&error, limit))?;
        Ok((head, body))
    };
    let (head, body) = match (read.await, &target) {
        (Ok(read), _) => read,
        (Err(Error::TooLarge(limit)), Some(target)) => {
            let response = target.too_large(limit);
            return response.ok_or(Error::TooLarge(limit));
        }
        (Err(Error::Refused(refusal)), Some(target)) => return Ok(target.refuse(refusal)),
        (Err(error), _) => return Err(error),
    };
    match target {
        Some(target) => Ok(api.services.answer(target, &head, body).await),
        None => Err(no_path(&head.uri)),
    }
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
