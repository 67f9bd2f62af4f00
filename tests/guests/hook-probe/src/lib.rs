//! All four request hooks (`wharf:edge`), made with the SDK. The path chooses what they do.
//!
//! The functions are named like the SDK's own parameters on purpose: a name of the user's never meets one of the attribute's.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wharf_sdk::{
    config,
    hook::{Body, Client, Forward, Request, RequestAction, Response, ResponseAction},
    key_value::Bucket,
    log::{self, LevelFilter},
};

#[wharf_sdk::viewer_request]
fn request(mut request: Request, client: Client) -> RequestAction {
    match request.path.as_str() {
        "/hook/respond" => Response::new(418)
            .header("content-type", "text/plain")
            .body("made by the hook\n")
            .into(),
        "/hook/redirect" => Response::redirect(301, "/").into(),
        "/hook/rewrite" => {
            request.path = "/rewritten".to_owned();
            request.headers.set("x-client", client.address);
            request.into()
        }
        "/hook/origin" => Forward {
            origin: Some("other".to_owned()),
            cache_key: Some("key".to_owned()),
            ..request.into()
        }
        .into(),
        "/hook/cookie" => {
            let variant = match request.headers.get("cookie") {
                Some(cookies) if cookies.split("; ").any(|cookie| cookie == "variant=b") => "b",
                _ => "a",
            };
            request.headers.set("x-variant", variant);
            request.into()
        }
        "/hook/same" => request.into(),
        "/hook/forget" => forgetful(request).into(),
        "/hook/country" => answer(who(client)),
        "/hook/nowhere" => Forward {
            origin: Some("nowhere".to_owned()),
            ..request.into()
        }
        .into(),
        "/hook/chain" => {
            request.headers.append("x-viewer-request", "seen");
            request.into()
        }
        "/hook/state" => {
            static CALLS: AtomicU32 = AtomicU32::new(0);
            answer((CALLS.fetch_add(1, Relaxed) + 1).to_string())
        }
        "/hook/key-value" => answer(
            match Bucket::open("default").map(|bucket| bucket.get("flag")) {
                Ok(Ok(value)) => String::from_utf8(value.unwrap_or_default()).unwrap(),
                Ok(Err(error)) | Err(error) => error.to_string(),
            },
        ),
        "/hook/granted" => {
            request
                .headers
                .set("x-viewer-request", granted("viewer_request"));
            request.into()
        }
        "/hook/config" => answer(config::get("flag").unwrap().unwrap_or_default()),
        "/hook/memory" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&kept);
            }
        }
        "/hook/print" => {
            println!("this hook prints");
            RequestAction::Next
        }
        "/hook/trap" => panic!("this hook panics on purpose"),
        "/hook/loop" => loop {
            std::hint::black_box(());
        },
        _ => {
            let path = request.path.clone();
            match path.strip_prefix("/hook/bad/") {
                Some(what) => bad(what, request),
                None => RequestAction::Next,
            }
        }
    }
}

/// Uses what a hook may be granted: counts in the store, reads the configuration, and says so in the log.
fn granted(point: &str) -> String {
    log::start(LevelFilter::Info);
    let store = Bucket::open("default").unwrap();
    let number = store.increment("count", 1).unwrap();
    let flag = config::get("flag").unwrap().unwrap_or_default();
    log::info!("{point} is number {number}");
    format!("{number} {flag}")
}

/// The request, without whom it has passed.
fn forgetful(mut request: Request) -> Request {
    for name in ["cdn-loop", "via"] {
        request.headers.remove(name);
    }
    request
}

/// What the other hooks say of themselves.
fn said(point: &str, request: &Request) -> String {
    match request.path.as_str() {
        "/hook/granted" => granted(point),
        _ => "seen".to_owned(),
    }
}

/// What a hook knows of the client.
fn who(client: Client) -> String {
    format!(
        "{} {} {}",
        client.address,
        client.tls_version.unwrap_or_default(),
        client.country.unwrap_or_default()
    )
}

fn answer(body: String) -> RequestAction {
    Response::new(200).body(body).into()
}

/// What no hook may answer.
fn bad(what: &str, mut request: Request) -> RequestAction {
    let ok = || Response::new(200);
    match what {
        "status" => return Response::new(199).into(),
        "status-600" => return Response::new(600).into(),
        "body-of-204" => return Response::new(204).body("x").into(),
        "name" => return ok().header("a b", "c").into(),
        "newline" => return ok().header("a", "b\r\nset-cookie: c").into(),
        "fields" => {
            let many = (0..300).fold(ok(), |response, n| response.header(&format!("x-{n}"), "1"));
            return many.into();
        }
        "field-bytes" => return ok().header("a", vec![b'b'; 70_000]).into(),
        "fields-more" => append(&mut request, 300),
        "changes" => append(&mut request, 513),
        "body" => return ok().body(vec![b'b'; (1 << 20) + 1]).into(),
        "huge" => return ok().body(vec![b'b'; 6 << 20]).into(),
        "hops" => {
            let hops = [
                "connection",
                "keep-alive",
                "transfer-encoding",
                "content-length",
                "te",
            ];
            let hops = hops
                .into_iter()
                .fold(ok(), |response, name| response.header(name, "1"));
            return hops.header("x-stays", "1").body("hops").into();
        }
        "path" => "rewritten".clone_into(&mut request.path),
        "path-control" => "/a\r\nb".clone_into(&mut request.path),
        "path-query" => "/a?b".clone_into(&mut request.path),
        "path-dots" => "/a/%2e./b".clone_into(&mut request.path),
        "query" => request.query = Some("a#b".to_owned()),
        "method" => "GE T".clone_into(&mut request.method),
        "authority" => "user@host".clone_into(&mut request.authority),
        "host" => request.headers.set("Host", "other.example"),
        other => panic!("{other} is no case"),
    }
    request.into()
}

fn append(request: &mut Request, fields: u32) {
    for n in 0..fields {
        request.headers.append(&format!("x-{n}"), "1");
    }
}

#[wharf_sdk::origin_request]
fn client(request: Request, _client: Client, body: Option<Body>) -> RequestAction {
    let said = said("origin_request", &request);
    let is_for_body = request.path.starts_with("/hook/body");
    let mut forward = Forward::from(request.header("x-origin-request", said));
    match forward.request.path.as_str() {
        "/hook/forget" => forward.request = forgetful(forward.request),
        "/hook/late-key" => forward.cache_key = Some("key".to_owned()),
        "/hook/late-origin" => forward.origin = Some("other".to_owned()),
        _ => {}
    }
    if is_for_body {
        let described = described(body.as_ref());
        forward.request = forward.request.header("x-request-body", described);
        if forward.request.path == "/hook/body/request" {
            forward.body = Some(louder(body));
        }
    }
    forward.into()
}

#[wharf_sdk::origin_response]
fn response(request: Request, mut response: Response, body: Option<Body>) -> Response {
    if request.path.starts_with("/hook/body") {
        response = response.header("x-response-body", described(body.as_ref()));
    }
    match request.path.as_str() {
        "/hook/body/response" => response.body(louder(body)),
        "/hook/body/coded" => {
            response.headers.set("content-encoding", "br");
            response.body("coded")
        }
        "/hook/body/via" => {
            response.headers.set("via", "1.1 other");
            response
        }
        "/hook/body/trap" => panic!("this hook panics on purpose"),
        _ => response.header("x-origin-response", said("origin_response", &request)),
    }
}

/// How much a hook was given of a body.
fn described(body: Option<&Body>) -> String {
    match body {
        None => "none".to_owned(),
        Some(body) if body.truncated => format!("{} of more", body.data.len()),
        Some(body) => body.data.len().to_string(),
    }
}

/// What a hook was given, in capitals.
fn louder(body: Option<Body>) -> Vec<u8> {
    body.map(|body| body.data.to_ascii_uppercase())
        .unwrap_or_default()
}

#[wharf_sdk::viewer_response]
fn handle(request: Request, response: Response, client: Client) -> ResponseAction {
    match request.path.as_str() {
        "/hook/client" => response.header("x-client", who(client)).into(),
        "/hook/untouched" => ResponseAction::Next,
        "/hook/replace" => Response::new(503).body("replaced\n").into(),
        _ => response
            .header("x-viewer-response", said("viewer_response", &request))
            .into(),
    }
}
