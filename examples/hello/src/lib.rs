//! The smallest HTTP function: it greets the world, or whom `?name=` says.

use std::convert::Infallible;

use wharf_sdk::http::{Body, Request, Response};

#[wharf_sdk::http]
async fn hello(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
    Ok(Response::new(match name {
        Some((_, name)) => format!("Hello, {name}!\n").into(),
        None => "Hello, world!\n".into(),
    }))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::http::block_on;

    use super::*;

    #[test]
    fn it_greets_the_world_or_whom_the_query_names() {
        for (uri, greeting) in [
            ("/", "Hello, world!\n"),
            ("/?other=1", "Hello, world!\n"),
            ("/?name=Ada", "Hello, Ada!\n"),
            ("/?name=Jos%C3%A9+Luis", "Hello, José Luis!\n"),
        ] {
            let request = Request::get(uri).body(Body::empty()).unwrap();
            block_on(async {
                let mut response = hello(request).await.unwrap();
                assert_eq!(response.body_mut().str_contents().await.unwrap(), greeting);
            });
        }
    }
}
