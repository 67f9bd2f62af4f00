//! Request hooks: which of them a component has, and calling one.
//!
//! Every request of a distribution may wait for four of them, so a call costs as little as it can: heads are lowered into the
//! guest from where they lie, the future is polled where it is awaited, and a hook that was called and comes back goes to the
//! same pool as other instances. What it answers is the guest's word until `answer` has made something of it.

mod answer;
pub mod invariants;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use wasmtime::{
    Store,
    component::{InstancePre, types::ComponentItem},
};

use super::{
    account::Account,
    bindings::hook::{
        exports::wharf::edge::{origin_request, origin_response, viewer_request, viewer_response},
        wit,
    },
    call::{end, split},
    component::PrepareError,
    instance::{Exports, State},
    limits::Bounded,
    pool::Lease,
};
use crate::{
    boxed,
    model::{
        Outcome, address_text,
        hook::{
            Client, Point, Points, RequestAction, RequestHead, ResponseAction, ResponseHead, Seen,
            SeenBody,
        },
    },
};

/// A component with one hook or more, everything resolved but the instance.
pub(super) struct HookPre {
    pre: InstancePre<State>,
    viewer_request: Option<viewer_request::GuestIndices>,
    origin_request: Option<origin_request::GuestIndices>,
    origin_response: Option<origin_response::GuestIndices>,
    viewer_response: Option<viewer_response::GuestIndices>,
}

/// The hooks of an instance.
pub(super) struct Hooks {
    viewer_request: Option<viewer_request::Guest>,
    origin_request: Option<origin_request::Guest>,
    origin_response: Option<origin_response::Guest>,
    viewer_response: Option<viewer_response::Guest>,
}

impl HookPre {
    /// Looks the hooks of a component up, and at their types: an instance is not the place to find out that they are others.
    ///
    /// # Errors
    ///
    /// It has none, or one that is no function of its point's type.
    pub(super) fn new(pre: InstancePre<State>) -> Result<Self, PrepareError> {
        let hooks = Self {
            viewer_request: viewer_request::GuestIndices::new(&pre).ok(),
            origin_request: origin_request::GuestIndices::new(&pre).ok(),
            origin_response: origin_response::GuestIndices::new(&pre).ok(),
            viewer_response: viewer_response::GuestIndices::new(&pre).ok(),
            pre,
        };
        let points = hooks.points();
        if points.is_empty() {
            return Err(PrepareError::Export);
        }
        for point in points.iter() {
            hooks
                .check_type(point)
                .map_err(|error| PrepareError::Hook(point, super::compile::describe(&error)))?;
        }
        Ok(hooks)
    }

    fn check_type(&self, point: Point) -> wasmtime::Result<()> {
        type Body<'a> = Option<wit::Body<'a>>;
        type Request<'a> = wit::Request<'a>;
        type Response<'a> = wit::ResponseParam<'a>;
        let component = self.pre.component();
        let interface = format!("wharf:edge/{point}@0.1.0");
        let instance = component.get_export_index(None, interface.as_str());
        let handle = component.get_export(instance.as_ref(), "handle");
        let Some((ComponentItem::ComponentFunc(function), _)) = handle else {
            wasmtime::bail!("`handle` is not a function");
        };
        let types = self.pre.instance_type();
        match point {
            Point::ViewerRequest => {
                function.typecheck::<(Request<'_>, wit::Client<'_>), (wit::RequestAction,)>(&types)
            }
            Point::OriginRequest => function
                .typecheck::<(Request<'_>, wit::Client<'_>, Body<'_>), (wit::RequestAction,)>(
                    &types,
                ),
            Point::OriginResponse => function
                .typecheck::<(Request<'_>, Response<'_>, Body<'_>), (wit::ResponseAction,)>(&types),
            Point::ViewerResponse => function
                .typecheck::<(Request<'_>, Response<'_>, wit::Client<'_>), (wit::ResponseAction,)>(
                    &types,
                ),
        }
    }

    /// The points at which it can stand.
    pub(super) fn points(&self) -> Points {
        let has = |point: &Point| match point {
            Point::ViewerRequest => self.viewer_request.is_some(),
            Point::OriginRequest => self.origin_request.is_some(),
            Point::OriginResponse => self.origin_response.is_some(),
            Point::ViewerResponse => self.viewer_response.is_some(),
        };
        Point::ALL.into_iter().filter(has).collect()
    }

    pub(super) async fn instantiate_async(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Hooks> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let Self {
            pre: _,
            viewer_request,
            origin_request,
            origin_response,
            viewer_response,
        } = self;
        Ok(Hooks {
            viewer_request: match viewer_request {
                Some(indices) => Some(indices.load(&mut *store, &instance)?),
                None => None,
            },
            origin_request: match origin_request {
                Some(indices) => Some(indices.load(&mut *store, &instance)?),
                None => None,
            },
            origin_response: match origin_response {
                Some(indices) => Some(indices.load(&mut *store, &instance)?),
                None => None,
            },
            viewer_response: match viewer_response {
                Some(indices) => Some(indices.load(&mut *store, &instance)?),
                None => None,
            },
        })
    }
}

impl Hooks {
    async fn on_request(
        &self,
        point: Point,
        store: &mut Store<State>,
        request: wit::Request<'_>,
        client: wit::Client<'_>,
        body: Option<wit::Body<'_>>,
    ) -> wasmtime::Result<wit::RequestAction> {
        if let (Point::ViewerRequest, Some(hook)) = (point, &self.viewer_request) {
            return hook.call_handle(store, request, client).await;
        }
        if let (Point::OriginRequest, Some(hook)) = (point, &self.origin_request) {
            return hook.call_handle(store, request, client, body).await;
        }
        Err(absent(point))
    }

    async fn on_response(
        &self,
        point: Point,
        store: &mut Store<State>,
        request: wit::Request<'_>,
        response: wit::ResponseParam<'_>,
        client: wit::Client<'_>,
        body: Option<wit::Body<'_>>,
    ) -> wasmtime::Result<wit::ResponseAction> {
        if let (Point::OriginResponse, Some(hook)) = (point, &self.origin_response) {
            return hook.call_handle(store, request, response, body).await;
        }
        if let (Point::ViewerResponse, Some(hook)) = (point, &self.viewer_response) {
            return hook.call_handle(store, request, response, client).await;
        }
        Err(absent(point))
    }
}

/// The door asks a component only for what it has.
fn absent(point: Point) -> wasmtime::Error {
    wasmtime::format_err!("the component has no hook {point}")
}

/// Has a hook see a request.
pub(super) async fn on_request(
    lease: Lease,
    point: Point,
    seen: Seen<'_>,
    account: Arc<Account>,
    bounds: Bounds,
) -> Result<RequestAction, Outcome> {
    let fields = fields(seen.request.headers);
    let address = address_text(seen.client.address);
    let request = shown(seen.request, &fields);
    let client = sender(seen.client, &address);
    let body = given(seen.body, &account);
    let call = boxed::pin(|| {
        run(lease, &account, async move |hooks, store| {
            hooks.on_request(point, store, request, client, body).await
        })
    });
    let answer = bounded(call, &account, bounds).await?;
    let action = answer::request_action(answer, point, seen.request);
    let made = match &action {
        Ok(RequestAction::Forward(forward)) => forward.body.as_ref(),
        Ok(RequestAction::Respond(response)) => response.body.as_ref(),
        Ok(RequestAction::Next) | Err(_) => None,
    };
    account.count_out(made.map_or(0, Bytes::len));
    action.map_err(|invalid| account.refuse(&invalid))
}

/// Has a hook see a response, and the request that it answers.
pub(super) async fn on_response(
    lease: Lease,
    point: Point,
    seen: Seen<'_>,
    response: ResponseHead<'_>,
    account: Arc<Account>,
    bounds: Bounds,
) -> Result<ResponseAction, Outcome> {
    let request_fields = fields(seen.request.headers);
    let response_fields = fields(response.headers);
    let address = address_text(seen.client.address);
    let request = shown(seen.request, &request_fields);
    let client = sender(seen.client, &address);
    let made = wit::ResponseParam {
        status: response.status.as_u16(),
        headers: &response_fields,
        body: None,
    };
    let body = given(seen.body, &account);
    let call = boxed::pin(|| {
        run(lease, &account, async move |hooks, store| {
            hooks
                .on_response(point, store, request, made, client, body)
                .await
        })
    });
    let answer = bounded(call, &account, bounds).await?;
    let action = answer::response_action(answer, response);
    if let Ok(ResponseAction::Replace(response)) = &action {
        account.count_out(response.body.as_ref().map_or(0, Bytes::len));
    }
    action.map_err(|invalid| account.refuse(&invalid))
}

/// When a hook is stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) cpu: std::time::Duration,
    pub(super) deadline: std::time::Instant,
}

/// The guest's side of a call. Gives nothing when it failed, which the account then knows.
async fn run<T>(
    mut lease: Lease,
    account: &Account,
    call: impl AsyncFnOnce(&Hooks, &mut Store<State>) -> wasmtime::Result<T>,
) -> Option<T> {
    let instance = lease.instance();
    let exports = instance.exports.clone();
    let store = &mut instance.store;
    let answer = match &*exports {
        Exports::Hook(hooks) => call(hooks, store).await,
        Exports::HttpP2(_)
        | Exports::HttpP3(_)
        | Exports::Event(_)
        | Exports::CommandP2(_)
        | Exports::CommandP3(_) => Err(wasmtime::format_err!("the function is no hook")),
    };
    let (answer, ended) = split(answer);
    end(lease, ended, account);
    answer
}

/// Holds a call to its limits.
async fn bounded<T>(
    call: Pin<Box<impl Future<Output = Option<T>> + Send>>,
    account: &Account,
    bounds: Bounds,
) -> Result<T, Outcome> {
    let mut guest = Bounded::new(call, bounds.cpu, bounds.deadline);
    let ended = (&mut guest).await;
    account.set_cpu(guest.cpu());
    match ended {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(account.outcome()),
        Err(limit) => {
            account.stop(limit);
            Err(account.outcome())
        }
    }
}

/// A request as a hook sees it.
fn shown<'a>(request: RequestHead<'a>, fields: &'a [(&'a str, &'a [u8])]) -> wit::Request<'a> {
    let uri = request.uri;
    wit::Request {
        method: request.method.as_str(),
        scheme: uri.scheme_str().unwrap_or("http"),
        authority: uri.authority().map_or("", |authority| authority.as_str()),
        path: uri.path(),
        query: uri.query(),
        headers: fields,
    }
}

/// Who sent the request, as a hook sees it.
fn sender<'a>(client: Client<'a>, address: &'a str) -> wit::Client<'a> {
    wit::Client {
        address,
        tls_version: client.tls_version,
        country: client.country,
    }
}

/// A body as a hook sees it. Its bytes count as coming in.
fn given<'a>(body: Option<SeenBody<'a>>, account: &Account) -> Option<wit::Body<'a>> {
    let SeenBody { data, truncated } = body?;
    account.count_in(data.len());
    Some(wit::Body { data, truncated })
}

/// The fields of a head, where they lie.
fn fields(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}
