//! A middleware of WASI 0.3 (`wasi:http/handler`, exported and imported) that streams the answer on in capitals, or does what
//! the path says.

wit_bindgen::generate!({
    path: "wit",
    world: "test:middleware/middleware",
    generate_all,
});

use exports::wasi::http::handler::Guest;
use wasi::http::{
    handler,
    types::{ErrorCode, Fields, Request, Response},
};
use wit_bindgen::{FutureReader, StreamReader, StreamResult, spawn_local};

/// What comes after a body.
type Trailers = FutureReader<Result<Option<Fields>, ErrorCode>>;

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

struct Middleware;

export!(Middleware);

impl Guest for Middleware {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        match path.as_str() {
            "/mw/own" => Ok(text("made by the middleware\n")),
            "/mw/error" => Err(ErrorCode::InternalError(Some("on purpose".to_owned()))),
            "/mw/trap" => panic!("this middleware panics on purpose"),
            "/mw/loop" => loop {
                std::hint::black_box(());
            },
            "/mw/rewrite" => {
                let headers = request.get_headers().clone();
                headers
                    .append("x-middleware", b"seen")
                    .expect("it is a field");
                let request = remade(request, headers, Step::Louder);
                request
                    .set_path_with_query(Some("/rewritten"))
                    .expect("it is a path");
                louder(handler::handle(request).await?, Step::Louder)
            }
            // Does not say whom the request has passed.
            "/mw/forget" => {
                let headers = request.get_headers().clone();
                for name in ["cdn-loop", "via"] {
                    headers.delete(name).expect("it may be taken out");
                }
                handler::handle(remade(request, headers, Step::Louder)).await
            }
            "/mw/dots" => {
                let headers = request.get_headers().clone();
                let request = remade(request, headers, Step::Louder);
                request
                    .set_path_with_query(Some("/a/%2e%2e/b"))
                    .expect("it is a path");
                handler::handle(request).await
            }
            // Sends the request's body on, and takes no notice of how it ends.
            "/mw/sloppy-request" => {
                let headers = request.get_headers().clone();
                handler::handle(remade(request, headers, Step::Sloppy)).await
            }
            "/mw/fallback" => match handler::handle(request).await {
                Ok(response) => Ok(response),
                Err(_) => Ok(text("made instead\n")),
            },
            "/mw/many" => {
                let mut answered = 0;
                for _ in 0..20 {
                    let headers = request.get_headers().clone();
                    let (again, _) = Request::new(headers, None, nothing(), None);
                    again.set_scheme(request.get_scheme().as_ref()).unwrap();
                    again
                        .set_authority(request.get_authority().as_deref())
                        .unwrap();
                    again.set_path_with_query(Some("/asked")).unwrap();
                    if handler::handle(again).await.is_ok() {
                        answered += 1;
                    }
                }
                Ok(text(&format!("{answered} answered\n")))
            }
            "/mw/sloppy" => louder(handler::handle(request).await?, Step::Sloppy),
            "/mw/trap-midway" => louder(handler::handle(request).await?, Step::Trap),
            "/mw/liar" => louder(handler::handle(request).await?, Step::Twice),
            _ => louder(handler::handle(request).await?, Step::Louder),
        }
    }
}

/// How a body is sent on.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// In capitals.
    Louder,
    /// In capitals, and as if it were complete however it ends.
    Sloppy,
    /// In capitals until a megabyte was sent on.
    Trap,
    /// Each piece twice, whatever was announced.
    Twice,
}

/// The response, its body as the step says.
fn louder(response: Response, step: Step) -> Result<Response, ErrorCode> {
    let status = response.get_status_code();
    let headers = response.get_headers().clone();
    let (_, result) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, result);
    let (body, trailers) = on(body, trailers, step);
    let (response, _) = Response::new(headers, Some(body), trailers);
    response.set_status_code(status).expect("it was a status");
    Ok(response)
}

/// The request with these header fields, its body as the step says.
fn remade(request: Request, headers: Fields, step: Step) -> Request {
    let method = request.get_method();
    let scheme = request.get_scheme();
    let authority = request.get_authority();
    let path = request.get_path_with_query();
    let (_, result) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, result);
    let (body, trailers) = on(body, trailers, step);
    let (request, _) = Request::new(headers, Some(body), trailers, None);
    request.set_method(&method).expect("it was a method");
    request
        .set_scheme(scheme.as_ref())
        .expect("it was a scheme");
    request
        .set_authority(authority.as_deref())
        .expect("it was an authority");
    request
        .set_path_with_query(path.as_deref())
        .expect("it was a path");
    request
}

/// Another body, which is written as this one is read.
fn on(mut from: StreamReader<u8>, trailers: Trailers, step: Step) -> (StreamReader<u8>, Trailers) {
    let (mut to, reader) = wit_stream::new();
    spawn_local(async move {
        let mut sent = 0;
        loop {
            let (result, mut piece) = from.read(Vec::with_capacity(PIECE)).await;
            piece.make_ascii_uppercase();
            sent += piece.len();
            if step == Step::Twice {
                piece.extend_from_within(..);
            }
            if step == Step::Trap && sent > 1 << 20 {
                panic!("this middleware panics midway on purpose");
            }
            // Nobody reads any more.
            if !to.write_all(piece).await.is_empty() {
                return;
            }
            if result != StreamResult::Complete(0) && !matches!(result, StreamResult::Complete(_)) {
                return;
            }
        }
    });
    match step {
        Step::Sloppy => (reader, nothing()),
        Step::Louder | Step::Trap | Step::Twice => (reader, trailers),
    }
}

fn text(text: &str) -> Response {
    let (mut to, body) = wit_stream::new();
    let bytes = text.as_bytes().to_vec();
    spawn_local(async move {
        to.write_all(bytes).await;
    });
    Response::new(Fields::new(), Some(body), nothing()).0
}

/// No trailers.
fn nothing() -> Trailers {
    wit_future::new(|| Ok(None)).1
}
