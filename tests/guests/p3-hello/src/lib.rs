//! An HTTP function of WASI 0.3 (`wasi:http/handler`) whose path chooses a behaviour.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use wasip3::{
    clocks::monotonic_clock,
    http::types::{self, ErrorCode},
    http_compat::{IncomingRequestBody, http_from_wasi_request, http_into_wasi_response},
};

type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = ErrorCode>>>;

struct Probe;

wasip3::http::service::export!(Probe);

impl wasip3::exports::http::handler::Guest for Probe {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let response = serve(http_from_wasi_request(request)?).await?;
        http_into_wasi_response(response)
    }
}

async fn serve(request: Request<IncomingRequestBody>) -> Result<Response<AnyBody>, ErrorCode> {
    match request.uri().path() {
        "/" => Ok(text("hello\n")),
        "/state" => Ok(text(format!("{}\n", count_requests()))),
        // The body goes back as it comes.
        "/echo" => Ok(Response::new(Box::pin(request.into_body()))),
        "/sleep" => {
            monotonic_clock::wait_for(number(&request, "ms", 100) * 1_000_000).await;
            Ok(text("slept\n"))
        }
        "/never" => {
            monotonic_clock::wait_for(u64::MAX).await;
            Ok(text("now\n"))
        }
        "/hang-after" => Ok(Response::new(Box::pin(Hanging::default()))),
        "/endless" => Ok(Response::new(Box::pin(Endless))),
        "/trap" => core::arch::wasm32::unreachable(),
        "/panic" => panic!("this function panics on purpose"),
        "/loop" => loop {
            std::hint::black_box(());
        },
        "/memory" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 1 << 20]);
            }
        }
        "/error" => Err(ErrorCode::InternalError(Some("on purpose".into()))),
        _ => {
            let mut response = Response::new(Box::pin(Empty::new().map_err(never)) as AnyBody);
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

/// How many requests this instance has served.
fn count_requests() -> u64 {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    REQUESTS.fetch_add(1, Ordering::Relaxed) + 1
}

fn text(text: impl Into<Bytes>) -> Response<AnyBody> {
    Response::new(Box::pin(Full::new(text.into()).map_err(never)))
}

fn never(error: Infallible) -> ErrorCode {
    match error {}
}

fn number(request: &Request<IncomingRequestBody>, key: &str, default: u64) -> u64 {
    form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == key)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(default)
}

/// A part, and then nothing for as long as the clock runs.
#[derive(Default)]
struct Hanging(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl Body for Hanging {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        match &mut self.0 {
            Some(wait) => wait.as_mut().poll(context).map(|()| None),
            None => {
                self.0 = Some(Box::pin(monotonic_clock::wait_for(u64::MAX)));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"partial\n")))))
            }
        }
    }
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}
