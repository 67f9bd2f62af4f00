//! What one client leaves in the cache for the next: nothing that only its own request asked for.

use super::{
    server::{Heard, Server, Step, answer},
    site::{HOST, Setup, Site},
    wire,
};

const FRESH: &str = "cache-control: max-age=600\r\n";

/// A server that believes what no server should: each of these fields takes the place of the method, the host or the path, and
/// none is in `Vary`.
const BELIEVED: [&str; 14] = [
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-for",
    "forwarded",
    "x-host",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

fn credulous(heard: &Heard) -> String {
    let believed = BELIEVED
        .iter()
        .filter_map(|name| Some(format!("{name}={}\n", heard.field(name)?)));
    format!(
        "{} {}\n{}",
        heard.method,
        heard.target,
        believed.collect::<String>()
    )
}

#[tokio::test]
async fn no_field_that_the_key_lacks_changes_who_or_what_is_asked() {
    let server = Server::start(|heard, _| answer(FRESH, &credulous(heard))).await;
    let site = Site::of(&server.url()).await;
    let curl = site.curl();
    let plain = curl.get("/plain").await;
    for (number, name) in BELIEVED.iter().enumerate() {
        let path = format!("/{number}");
        let evil = format!("{name}: evil.example");
        let poisoned = curl.ask(&path, &["--header", &evil]).await;
        assert_eq!(poisoned.status, 200);
        assert!(
            !poisoned.text().contains("evil"),
            "{name}: {}",
            poisoned.text()
        );
        let next = curl.get(&path).await;
        assert!(next.is_hit(), "{next:?}");
        assert_eq!(next.text(), plain.text().replace("/plain", &path), "{name}");
    }
}

/// Where a request says itself that it is another, and is answered for itself alone, that is the server's business.
#[tokio::test]
async fn a_method_is_overridden_where_nothing_is_stored() {
    let server = Server::start(|heard, _| answer(FRESH, &credulous(heard))).await;
    let setup = Setup {
        behaviour: "methods = [\"GET\", \"POST\"]",
        more: "[[distributions.site.behaviours]]\npath = \"/live/*\"\norigin = \"main\"\ncache = false\n\
               [[distributions.site.behaviours]]\npath = \"/keyed/*\"\norigin = \"main\"\ncache = { headers = [\"x-original-url\"] }",
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let curl = site.curl();
    let put = ["--header", "x-http-method-override: PUT"];
    let posted = curl.ask("/a", &[&put[..], &["--data", "x"]].concat()).await;
    assert!(posted.text().contains("override=PUT"), "{posted:?}");
    assert!(
        curl.ask("/live/a", &put)
            .await
            .text()
            .contains("override=PUT")
    );
    // What the key has cannot poison.
    let original = async |url: &str| {
        let field = format!("x-original-url: {url}");
        curl.ask("/keyed/a", &["--header", &field]).await
    };
    for url in ["/one", "/two", "/one"] {
        assert!(
            original(url)
                .await
                .text()
                .contains(&format!("x-original-url={url}"))
        );
    }
    assert_eq!(server.asked("/keyed/a"), 2);
}

/// RFC 9110 section 4.2.3: case and the usual port do not count; another port is another site.
#[tokio::test]
async fn a_host_is_one_however_it_is_written() {
    let server = Server::start(|heard, number| {
        answer(
            FRESH,
            &format!("{number} {}\n", heard.field("host").unwrap()),
        )
    })
    .await;
    let setup = Setup {
        origin: "forward_host = true",
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let get = async |host: &str| {
        let request = format!("GET /page HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        wire::send(site.node.http, request).await
    };
    for (host, said) in [
        (HOST, "1 site.example\n"),
        ("SITE.Example", "1 site.example\n"),
        ("site.example:80", "1 site.example\n"),
        ("site.example:8080", "2 site.example:8080\n"),
        ("site.example:443", "3 site.example:443\n"),
        (HOST, "1 site.example\n"),
    ] {
        let got = get(host).await;
        assert!(got.ends_with(&format!("\r\n\r\n{said}")), "{host}: {got}");
    }
    for other in [
        "evil.example",
        "site.example.evil.example",
        "xsite.example",
        "127.0.0.1",
    ] {
        let got = get(other).await;
        assert_eq!(wire::status(&got), 404, "{other}: {got}");
    }
    assert_eq!(server.heard().len(), 3);
}

/// What is another path to the server is another to the cache, and nothing is resolved on the way.
#[tokio::test]
async fn a_path_is_stored_as_it_was_sent() {
    let server = Server::start(|heard, _| answer(FRESH, &format!("{}\n", heard.target))).await;
    let site = Site::of(&server.url()).await;
    let paths = [
        "/a/b",
        "/a//b",
        "//a/b",
        "/a/b/",
        "/a%2Fb",
        "/a%2fb",
        "/%61/b",
        "/A/b",
        "/a/b?",
        "/a/b?x",
        "/a/b;x",
        "/a/b%3Fx",
        "/a/b%23x",
        "/a/b%0d%0ax:y",
    ];
    for is_hit in [false, true] {
        for path in paths {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
            let got = wire::send(site.node.http, request).await;
            assert!(got.ends_with(&format!("\r\n\r\n{path}\n")), "{path}: {got}");
            assert_eq!(got.contains("wharf; hit"), is_hit, "{path}: {got}");
        }
    }
    for path in ["/a/../b", "/a/%2e%2e/b", "/a/..%2fb", "/a\\..\\b"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        assert_eq!(
            wire::status(&wire::send(site.node.http, request).await),
            400,
            "{path}"
        );
    }
    assert_eq!(server.heard().len(), paths.len());
}

/// An error that a client can bring about is not kept for the others.
#[tokio::test]
async fn an_error_is_not_stored_for_what_one_request_had_in_it() {
    let server = Server::start(|heard, _| {
        let length: usize = heard
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let has = |name| heard.field(name).is_some();
        let status = match () {
            () if length > 8000 => "431 Request Header Fields Too Large",
            () if has("x-evil") => "400 Bad Request",
            () if has("authorization") => "401 Unauthorized",
            () if has("expect") => "417 Expectation Failed",
            () if has("range") => "416 Range Not Satisfiable",
            () if has("content-length") || has("transfer-encoding") => "413 Content Too Large",
            () if has("x-down") => "503 Service Unavailable",
            () => return answer(FRESH, "page\n"),
        };
        vec![Step::send(format!(
            "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nevil"
        ))]
    })
    .await;
    let setup = Setup {
        // Such as sites have it.
        behaviour: "cache = { default = \"10 min\", minimum = \"1 min\", negative = { 404 = \"10 s\" } }",
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let curl = site.curl();
    let long = format!("x-long: {}", "y".repeat(9000));
    let chunked = "transfer-encoding: chunked";
    let attempts: [&[&str]; 8] = [
        &["--header", &long],
        &["--header", "x-evil: 1"],
        &["--header", "authorization: Basic x"],
        &["--range", "9999999-"],
        &["--request", "GET", "--data", "body"],
        &["--request", "GET", "--data", "body", "--header", chunked],
        &["--header", "x-down: 1"],
        &["--header", "expect: nonsense"],
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let path = format!("/{number}");
        let first = curl.ask(&path, attempt).await;
        assert!(first.status >= 400 || number == 7, "{attempt:?}: {first:?}");
        let next = curl.get(&path).await;
        assert_eq!(
            (next.status, next.text()),
            (200, "page\n"),
            "{attempt:?}: {next:?}"
        );
    }
}

/// What a part, a condition or a HEAD brought is not given to who asks for the whole.
#[tokio::test]
async fn who_asks_for_less_leaves_the_whole_for_the_next() {
    let server = Server::start(|heard, _| match (&*heard.method, heard.field("range"), heard.field("if-none-match")) {
        ("HEAD", _, _) => vec![Step::send(format!("HTTP/1.1 200 OK\r\n{FRESH}etag: \"a\"\r\ncontent-length: 10\r\n\r\n"))],
        (_, _, Some(_)) => vec![Step::send(format!("HTTP/1.1 304 Not Modified\r\n{FRESH}etag: \"a\"\r\n\r\n"))],
        (_, Some(_), _) => vec![Step::send(format!(
            "HTTP/1.1 206 Partial Content\r\n{FRESH}etag: \"a\"\r\ncontent-range: bytes 0-0/10\r\ncontent-length: 1\r\n\r\n0"
        ))],
        _ => answer(&format!("{FRESH}etag: \"a\"\r\n"), "0123456789"),
    })
    .await;
    let site = Site::of(&server.url()).await;
    let curl = site.curl();
    let attempts: [&[&str]; 5] = [
        &["--head"],
        &["--range", "0-0"],
        &["--range", "-1"],
        &["--header", "if-none-match: \"a\""],
        &[
            "--header",
            "if-modified-since: Sun, 06 Nov 2044 08:49:37 GMT",
        ],
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let path = format!("/{number}");
        curl.ask(&path, attempt).await;
        let whole = curl.get(&path).await;
        assert_eq!(
            (whole.exit, whole.status, whole.text()),
            (0, 200, "0123456789"),
            "{attempt:?}"
        );
    }
}

/// Behind a load balancer clients are told apart by what that says of them, and by nothing that they say themselves.
#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_themselves() {
    let server = Server::start(|_, _| answer(FRESH, "page\n")).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let setup = Setup {
        behaviour: "access = { deny = [\"203.0.113.0/24\"] }
            rate_limit = { requests = 1, per = \"1 h\" }
            redirect_to_https = true
            response_headers = { security = true }",
        node: &[
            "--trusted-proxy",
            "127.0.0.1,192.0.2.0/24",
            "--access-log",
            log.to_str().unwrap(),
        ],
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let curl = site.curl();
    let ask = async |told: &str, proto: &str| {
        let told = format!("x-forwarded-for: {told}");
        let proto = format!("x-forwarded-proto: {proto}");
        let fields = ["--header", &told, "--header", &proto];
        curl.ask("/", &fields).await
    };
    let first = ask("198.51.100.1", "https").await;
    assert_eq!(first.status, 200, "{first:?}");
    // It came by TLS, which ended before the node.
    assert_ne!(first.field("strict-transport-security"), "");
    for (told, proto, status) in [
        ("198.51.100.1", "https", 429),
        ("198.51.100.2", "https", 200),
        ("198.51.100.2, 192.0.2.9", "https", 429),
        ("198.51.100.3", "http", 308),
        ("203.0.113.9", "https", 403),
        // What the client had made up came first.
        ("198.51.100.4, 203.0.113.9", "https", 403),
        ("127.0.0.1, 198.51.100.1", "https", 429),
    ] {
        let got = ask(told, proto).await;
        assert_eq!(got.status, status, "{told}: {got:?}");
    }
    site.node.stop().await;
    let lines = std::fs::read_to_string(&log).unwrap();
    let clients: Vec<_> = crate::process::json_lines(&lines)
        .iter()
        .map(|line| line["client"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        clients[..3],
        ["198.51.100.1", "198.51.100.1", "198.51.100.2"]
    );
    assert!(!clients.contains(&"127.0.0.1".to_owned()), "{clients:?}");
}
