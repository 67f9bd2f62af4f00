//! Chooses a variant by a cookie and names it in a header field, as hooks for experiments do. `envoy-hook` does the same.

use wharf_sdk::hook::{Client, Request, RequestAction};

#[wharf_sdk::viewer_request]
fn choose(mut request: Request, _: Client) -> RequestAction {
    let variant = match request.headers.get("cookie") {
        Some(cookies) if cookies.split("; ").any(|cookie| cookie == "variant=b") => "b",
        _ => "a",
    };
    request.headers.set("x-variant", variant);
    request.into()
}
