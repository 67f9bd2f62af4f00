//! The Rust examples do what their READMEs say: each is built by `wharf up` and asked from outside.

use crate::process::{App, Node, Reply};
use futures::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn hello_greets() {
    let app = App::example("hello");
    let node = Node::up(app.path()).await;
    assert_eq!(node.get("/").await.text(), "Hello, world!\n");
    assert_eq!(node.get("/?name=Ada").await.text(), "Hello, Ada!\n");
    let reply = node.get("/any/where?name=Jos%C3%A9+Luis").await;
    assert_eq!(reply.text(), "Hello, José Luis!\n");
    node.stop().await;
}

/// Width and height of a JPEG, from its frame header (ITU-T T.81, B.2.2).
fn jpeg_size(jpeg: &[u8]) -> (u16, u16) {
    assert!(jpeg.starts_with(b"\xff\xd8"), "no JPEG");
    let mut at = 2;
    loop {
        let [0xff, marker] = jpeg[at..at + 2] else {
            panic!("no segment at {at}");
        };
        let number = |at: usize| u16::from_be_bytes([jpeg[at], jpeg[at + 1]]);
        if matches!(marker, 0xc0..=0xc3) {
            return (number(at + 7), number(at + 5));
        }
        at += 2 + usize::from(number(at + 2));
    }
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 128])
    });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    jpeg.into_inner()
}

#[tokio::test]
async fn thumbnail_scales_images_and_refuses_what_is_none() {
    let app = App::example("thumbnail");
    let node = Node::up(app.path()).await;
    let post = async |query: &str, body: Vec<u8>| {
        Reply::of(node.request("POST", &format!("/{query}")).body(body)).await
    };
    let photo = jpeg(600, 400);
    let made = post("?width=200", photo.clone()).await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.header("content-type"), "image/jpeg");
    assert_eq!(jpeg_size(&made.body), (200, 133));
    assert_eq!(jpeg_size(&post("", photo.clone()).await.body), (320, 213));
    // A body that comes in pieces, without a length.
    let pieces: Vec<_> = photo
        .chunks(1000)
        .map(<[u8]>::to_vec)
        .map(Ok::<_, std::io::Error>)
        .collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let made = Reply::of(node.request("POST", "/").body(stream)).await;
    assert_eq!(jpeg_size(&made.body), (320, 213));

    // What is there of a JPEG that breaks off is a picture; one without its tables is none.
    let half = post("", photo[..photo.len() / 2].to_vec()).await;
    assert_eq!(jpeg_size(&half.body), (320, 213));
    let cut = photo[..100].to_vec();
    for (query, body, status, reason) in [
        ("", b"hello".to_vec(), 415, "not an image that can be read"),
        ("", Vec::new(), 415, "not an image that can be read"),
        ("", cut, 422, "not an image that can be read"),
        (
            "",
            vec![0; (16 << 20) + 1],
            413,
            "an image may have 16777216 bytes",
        ),
        ("", jpeg(10_001, 1), 413, "not an image that can be read"),
        (
            "?width=0",
            photo.clone(),
            400,
            "width is a number from 1 to 2000",
        ),
        (
            "?width=x",
            photo.clone(),
            400,
            "width is a number from 1 to 2000",
        ),
    ] {
        let refused = post(query, body).await;
        assert_eq!(refused.status, status, "{query}: {}", refused.text());
        assert!(refused.text().starts_with(reason), "{}", refused.text());
    }
    let got = node.get("/").await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "POST"));
    assert_eq!(got.text(), "POST a JPEG or PNG image\n");
    node.stop().await;
}

#[tokio::test]
async fn counter_loses_no_count_and_keeps_them() {
    let app = App::example("counter");
    let node = Node::up(app.path()).await;
    let ask = async |node: &Node, method: &str, path: &str| {
        Reply::of(node.request(method, path)).await.text()
    };
    assert_eq!(ask(&node, "GET", "/visits").await, "0\n");
    let counts = join_all((0..100).map(|_| ask(&node, "POST", "/visits"))).await;
    let mut counts: Vec<u32> = counts
        .iter()
        .map(|count| count.trim().parse().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    assert_eq!(ask(&node, "GET", "/other").await, "0\n");
    assert_eq!(Reply::of(node.request("PUT", "/visits")).await.status, 405);
    node.stop().await;

    let node = Node::up(app.path()).await;
    assert_eq!(ask(&node, "GET", "/visits").await, "100\n");
    assert_eq!(ask(&node, "DELETE", "/visits").await, "0\n");
    assert_eq!(ask(&node, "GET", "/visits").await, "0\n");
    node.stop().await;
}

#[tokio::test]
async fn fanout_fetches_all_at_once_and_reaches_only_what_it_was_granted() {
    // Another node stands for the server of one's own.
    let data = tempfile::tempdir().unwrap();
    let server = Node::serve(data.path()).await;
    let own = App::new(
        "name = 'server'\n[functions.server]\ncomponent = '{hostile}'\n\
         [[routes]]\npath = '/{*rest}'\nfunction = 'server'",
    );
    server.deploy(own.path()).await;

    let app = App::example("fanout");
    app.edit("wharf.toml", "127.0.0.1:8000", &server.http.to_string());
    let node = Node::up(app.path()).await;
    let slow = format!("http://{}/sleep?ms=700", server.http);
    let none = format!("http://{}/none", server.http);
    let refused = "http://127.0.0.1:22/".to_owned();
    let urls = [&slow, &slow, &slow, &slow, &none, &refused];
    let query: String = urls
        .iter()
        .map(|url| format!("&url={}", url.replace('?', "%3f").replace('=', "%3d")))
        .collect();
    let reply = node.get(&format!("/?{}", &query[1..])).await;
    assert_eq!(reply.header("content-type"), "application/json");
    let fetched: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
    for (url, fetched) in urls.iter().zip(&fetched) {
        assert_eq!(fetched["url"], **url);
    }
    let statuses: Vec<_> = fetched.iter().map(|fetched| &fetched["status"]).collect();
    assert_eq!(json!(statuses), json!([200, 200, 200, 200, 404, null]));
    let error = fetched[5]["error"].as_str().unwrap();
    assert_eq!(error, "ErrorCode::DestinationIpProhibited");
    // At the same time: one after another, the fourth would have begun at 2.1 s, and the function's time is 10 s.
    for fetched in &fetched[..4] {
        let milliseconds = fetched["milliseconds"].as_u64().unwrap();
        assert!((700..2100).contains(&milliseconds), "{fetched}");
    }
    assert_eq!(node.get("/").await.status, 400);
    node.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn order_totals_an_order_or_says_what_is_wrong_with_it() {
    let app = App::example("order");
    let node = Node::up(app.path()).await;
    let good = r#"{"id":"A-1","lines":[{"sku":"tea","quantity":2,"unit_cents":450}]}"#;
    let receipt = "{\"id\":\"A-1\",\"pieces\":2,\"total_cents\":900}\n";
    assert_eq!(node.invoke("order", good).await.unwrap(), receipt);
    for (order, document) in [
        (
            r#"{"id":"A-1","lines":[]}"#,
            r#"{"errorType":"OrderError","errorMessage":"order A-1 has no lines","trace":[]}"#,
        ),
        (
            r#"{"id":"A-1"}"#,
            r#"{"errorType":"Runtime.UnmarshalError","errorMessage":"the event is not what the function takes: missing field `lines` at line 1 column 12","trace":[]}"#,
        ),
    ] {
        let error = node.invoke("order", order).await.unwrap_err();
        assert_eq!(error.lines().next().unwrap(), document);
    }
    let url = format!("http://{}/2015-03-31/functions/order/invocations", node.api);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let reply = client.post(url).bearer_auth(node.token()).body(good);
    assert_eq!(Reply::of(reply).await.text(), receipt.trim_end());

    // At its URL it gets the whole request as its event, which is no order.
    let request = node.request("POST", "/").header("host", "order.localhost");
    let reply = Reply::of(request.body(good)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-wharf-error")),
        (502, "function_error")
    );
    node.stop().await;
}
