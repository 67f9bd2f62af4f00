//! Before the cache: which of two front pages a visitor sees.
//!
//! The visitor's cookie decides, or without one the address, so that a visitor sees the same page each time. The choice goes into
//! the path, and so into the cache's key: there are two stored pages and not one for each visitor.

use wharf_sdk::hook::{Client, Request, RequestAction};

#[wharf_sdk::viewer_request]
fn choose(mut request: Request, client: Client) -> RequestAction {
    if request.path != "/" {
        return RequestAction::Next;
    }
    let chosen = request
        .headers
        .get("cookie")
        .and_then(|cookies| cookie(cookies, "variant"))
        .filter(|variant| matches!(*variant, "a" | "b"));
    let variant = chosen.unwrap_or_else(|| by_chance(&client.address));
    request.path = format!("/{variant}/");
    request.into()
}

/// The value of a cookie.
fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

/// The same for the same address, and each for about half of them.
fn by_chance(address: &str) -> &'static str {
    let sum = address.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    if sum.is_multiple_of(2) { "a" } else { "b" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(request: Request) -> String {
        match choose(request, Client::default()) {
            RequestAction::Next => "unchanged".to_owned(),
            RequestAction::Forward(forward) => forward.request.path,
            RequestAction::Respond(_) => "answered".to_owned(),
        }
    }

    #[test]
    fn the_cookie_decides_and_without_one_the_address() {
        let front = || Request::get("https://pier.example/");
        assert_eq!(path(front().header("cookie", "x=1; variant=b")), "/b/");
        assert_eq!(path(front().header("cookie", "variant=a")), "/a/");
        // Somebody's own idea of a path gets nowhere.
        for cookies in ["variant=../etc", "variant=", "other=b"] {
            assert_eq!(path(front().header("cookie", cookies)), "/a/");
        }
        assert_eq!(
            path(Request::get("https://pier.example/pier.svg")),
            "unchanged"
        );
        let others = (0..100).map(|n| by_chance(&format!("192.0.2.{n}")));
        let b = others.filter(|variant| *variant == "b").count();
        assert!((30..70).contains(&b), "{b}");
    }
}
