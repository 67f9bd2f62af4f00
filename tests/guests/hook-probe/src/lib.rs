//! All four request hooks (`wharf:edge`), made with the SDK. The path chooses what they do.
//!
//! The functions are named like the SDK's own parameters on purpose: a name of the user's never meets one of the attribute's.

use wharf_sdk::hook::{Client, Forward, Request, RequestAction, Response, ResponseAction};

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
            request,
            origin: Some("other".to_owned()),
            cache_key: Some("key".to_owned()),
        }
        .into(),
        "/hook/trap" => panic!("this hook panics on purpose"),
        "/hook/loop" => loop {
            std::hint::black_box(());
        },
        _ => RequestAction::Next,
    }
}

#[wharf_sdk::origin_request]
fn client(request: Request) -> Request {
    request.header("x-origin-request", "seen")
}

#[wharf_sdk::origin_response]
fn response(_request: Request, response: Response) -> Response {
    response.header("x-origin-response", "seen")
}

#[wharf_sdk::viewer_response]
fn handle(request: Request, response: Response) -> ResponseAction {
    if request.path == "/hook/untouched" {
        return ResponseAction::Next;
    }
    response.header("x-viewer-response", "seen").into()
}
