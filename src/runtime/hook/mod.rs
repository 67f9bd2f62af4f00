//! Request hooks: which of them a component has, and calling one.
//!
//! Every request of a distribution may wait for four of them, so a call costs as little as it can: header fields go into the
//! guest in one piece, the future is polled where it is awaited, and a hook that was called and comes back goes to the
//! same pool as other instances. What it answers is the guest's word until `answer` has made something of it.

mod answer;
pub mod invariants;

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, uri::Scheme};
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
        hook::{Point, Points, RequestAction, ResponseAction, ResponseHead, Seen, SeenBody},
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
        type Response<'a> = wit::Response<'a>;
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
    fn on_request<'a>(
        &'a self,
        point: Point,
        store: &'a mut Store<State>,
        shown: &'a Shown<'a>,
    ) -> Calling<'a, wit::RequestAction> {
        let (request, client) = (shown.request.clone(), shown.client.clone());
        if let (Point::ViewerRequest, Some(hook)) = (point, &self.viewer_request) {
            return boxed::pin(|| hook.call_handle(store, request, client));
        }
        if let (Point::OriginRequest, Some(hook)) = (point, &self.origin_request) {
            let body = shown.body.clone();
            return boxed::pin(|| hook.call_handle(store, request, client, body));
        }
        boxed::pin(|| absent(point))
    }

    fn on_response<'a>(
        &'a self,
        point: Point,
        store: &'a mut Store<State>,
        shown: &'a Shown<'a>,
        response: wit::Response<'a>,
    ) -> Calling<'a, wit::ResponseAction> {
        let request = shown.request.clone();
        if let (Point::OriginResponse, Some(hook)) = (point, &self.origin_response) {
            let body = shown.body.clone();
            return boxed::pin(|| hook.call_handle(store, request, response, body));
        }
        if let (Point::ViewerResponse, Some(hook)) = (point, &self.viewer_response) {
            let client = shown.client.clone();
            return boxed::pin(|| hook.call_handle(store, request, response, client));
        }
        boxed::pin(|| absent(point))
    }
}

/// A call of an export. In a box, as it is the most of a hook's future: what holds it stays small.
type Calling<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

/// The door asks a component only for what it has.
async fn absent<T>(point: Point) -> wasmtime::Result<T> {
    wasmtime::bail!("the component has no hook {point}")
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
    let shown = &shown(seen, &fields, &address);
    account.count_in(seen.body.map_or(0, |body| body.data.len()));
    let answer = invoke(lease, &account, bounds, async |hooks, store| {
        hooks.on_request(point, store, shown).await
    });
    let action = answer::request_action(answer.await?, point, seen.request);
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
    let shown = &shown(seen, &request_fields, &address);
    account.count_in(seen.body.map_or(0, |body| body.data.len()));
    let head = wit::Response {
        status: response.status.as_u16(),
        headers: &response_fields,
    };
    let answer = invoke(lease, &account, bounds, async |hooks, store| {
        hooks.on_response(point, store, shown, head).await
    });
    let action = answer::response_action(answer.await?, response);
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

/// Calls a hook, and holds the call to its limits. Gives how it failed, which the account then knows.
async fn invoke<T>(
    mut lease: Lease,
    account: &Account,
    bounds: Bounds,
    call: impl AsyncFnOnce(&Hooks, &mut Store<State>) -> wasmtime::Result<T>,
) -> Result<T, Outcome> {
    let instance = lease.instance();
    let exports = instance.exports.clone();
    let ended = match &*exports {
        Exports::Hook(hooks) => {
            let call = pin!(call(hooks, &mut instance.store));
            let mut guest = Bounded::new(call, bounds.cpu, bounds.deadline);
            let ended = (&mut guest).await;
            account.set_cpu(guest.cpu());
            ended
        }
        Exports::HttpP2(_)
        | Exports::HttpP3(_)
        | Exports::Event(_)
        | Exports::CommandP2(_)
        | Exports::CommandP3(_) => Ok(Err(wasmtime::format_err!("the function is no hook"))),
    };
    match ended {
        Ok(answer) => {
            let (answer, ended) = split(answer);
            end(lease, ended, account);
            answer.ok_or_else(|| account.outcome())
        }
        Err(limit) => {
            account.stop(limit);
            Err(account.outcome())
        }
    }
}

/// What a hook is shown, but for the response at the points that see one.
struct Shown<'a> {
    request: wit::Request<'a>,
    client: wit::Client<'a>,
    body: Option<wit::Body<'a>>,
}

/// The same, of the request with these `fields`, from a client with this `address`.
fn shown<'a>(seen: Seen<'a>, fields: &'a str, address: &'a str) -> Shown<'a> {
    let uri = seen.request.uri;
    Shown {
        request: wit::Request {
            method: seen.request.method.as_str(),
            scheme: match uri.scheme() == Some(&Scheme::HTTPS) {
                true => wit::Scheme::Https,
                false => wit::Scheme::Http,
            },
            authority: uri.authority().map_or("", |authority| authority.as_str()),
            path: uri.path(),
            query: uri.query(),
            headers: fields,
        },
        client: wit::Client {
            address,
            tls_version: seen.client.tls_version,
            country: seen.client.country,
        },
        body: seen
            .body
            .map(|SeenBody { data, truncated }| wit::Body { data, truncated }),
    }
}

/// The fields of a head in one piece, as `header-fields` says: each string of its own would cost a call of the guest's allocator.
fn fields(headers: &HeaderMap) -> String {
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let mut fields = String::with_capacity(headers.iter().map(length).sum());
    for (name, value) in headers {
        fields.push_str(name.as_str());
        fields.push_str(": ");
        match str::from_utf8(value.as_bytes()) {
            Ok(text) if text.is_ascii() => fields.push_str(text),
            Ok(_) | Err(_) => fields.extend(value.as_bytes().iter().copied().map(char::from)),
        }
        fields.push_str("\r\n");
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// RFC 9112 §5: by who takes the lines apart as HTTP/1.1 has them.
        #[test]
        fn header_fields_are_read_as_they_were_sent(
            fields in prop::collection::vec(("[a-z0-9-]{1,9}", prop::collection::vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8, Just(b'\t')], 0..9)), 0..9),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                let name = HeaderName::try_from(name).unwrap();
                headers.append(name, HeaderValue::from_bytes(value.trim_ascii()).unwrap());
            }
            let bytes: Vec<_> = super::fields(&headers).chars().map(|c| u8::try_from(c).unwrap()).collect();
            let mut rest = bytes.as_slice();
            let mut read = Vec::new();
            while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let line = &rest[..end];
                let colon = line.iter().position(|byte| *byte == b':').unwrap();
                read.push((str::from_utf8(&line[..colon]).unwrap(), line[colon + 1..].trim_ascii()));
                rest = &rest[end + 2..];
            }
            prop_assert!(rest.is_empty());
            let sent = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            prop_assert_eq!(read, sent.collect::<Vec<_>>());
        }
    }
}
