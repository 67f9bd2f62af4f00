use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::{glob::tests::obvious, *};
use crate::model::Network;

fn behaviour(path: Option<&str>) -> Behaviour {
    Behaviour {
        path: path.map(|path| path.parse().unwrap()),
        ..Behaviour::new(Target::Origin("main".to_owned()))
    }
}

fn distribution(paths: &[&str]) -> Distribution {
    Distribution {
        name: "site".parse().unwrap(),
        hosts: vec!["www.example.com".parse().unwrap()],
        certificate: None,
        origins: BTreeMap::from([(
            "main".to_owned(),
            origin(["https://origin.example.com".to_owned()]),
        )]),
        behaviours: paths.iter().map(|path| behaviour(Some(path))).collect(),
        default: behaviour(None),
    }
}

/// A hook that is given so much of a body.
fn given(bytes: u64) -> Hook {
    Hook {
        function: "auth".parse().unwrap(),
        on_failure: OnFailure::Fail,
        body: Some(ByteSize::bytes(bytes)),
    }
}

fn origin(urls: impl IntoIterator<Item = String>) -> Origin {
    let server = |url| OriginServer {
        url,
        weight: 1,
        backup: false,
    };
    Origin {
        servers: urls.into_iter().map(server).collect(),
        ..Origin::default()
    }
}

/// What is wrong with a sound distribution that was changed, as `key: problem`.
fn problems(change: impl FnOnce(&mut Distribution)) -> Vec<String> {
    let mut changed = distribution(&["/api/*"]);
    assert_eq!(changed.problems(), []);
    change(&mut changed);
    let problems = changed.problems();
    problems.iter().map(ToString::to_string).collect()
}

/// As a distribution is written that has something everywhere.
fn everything() -> serde_json::Value {
    json!({
        "name": "site",
        "hosts": ["www.example.com", "*.cdn.localhost"],
        "certificate": {"chain": "-----BEGIN CERTIFICATE-----"},
        "origins": {
            "main": {
                "servers": [
                    {"url": "https://origin.example.com", "weight": 2, "backup": false},
                    {"url": "http://10.0.0.2:8000/base", "weight": 1, "backup": true},
                ],
                "host": "origin.example.com:8443",
                "forward_host": false,
                "protocol": "http2",
                "tls": {"server_name": "inner.example.com", "ca": "/app/ca.pem"},
                "timeouts": {
                    "connect": {"secs": 3, "nanos": 0},
                    "first_byte": {"secs": 30, "nanos": 0},
                    "idle": {"secs": 0, "nanos": 500_000_000},
                },
                "retries": 2,
                "connections": 64,
                "health": {
                    "path": "/healthz",
                    "interval": {"secs": 10, "nanos": 0},
                    "timeout": {"secs": 2, "nanos": 0},
                    "healthy": 2,
                    "unhealthy": 3,
                    "statuses": {"start": 200, "end": 299},
                },
                "ejection": {
                    "failures": 5,
                    "duration": {"secs": 10, "nanos": 0},
                    "maximum": {"secs": 300, "nanos": 0},
                },
                "failover": [500, 503],
                "headers": [["x-from", "edge"]],
                "private": true,
            },
        },
        "behaviours": [{
            "path": "/api/*",
            "target": {"function": "api"},
            "methods": ["GET", "POST"],
            "cache": {
                "enabled": true,
                "ttl": {
                    "minimum": 1,
                    "default": 60,
                    "maximum": 86400,
                },
                "key": {
                    "headers": ["accept-language"],
                    "query": {"only": ["page"]},
                    "cookies": {"except": ["_ga"]},
                },
                "negative": {"404": 10},
                "stale_while_revalidate": 5,
                "stale_if_error": 6,
                "max_object": 1_048_576,
                "ignore_client": true,
                "expose_tags": true,
            },
            "compress": {"codings": ["br", "zstd", "gzip"], "minimum": 1024, "types": ["text/*"]},
            "hooks": {
                "viewer_request": [
                    {"function": "rewrite", "on_failure": "bypass"},
                    {"function": "auth", "on_failure": "fail"},
                ],
            },
            "response_headers": {
                "security": {
                    "hsts": {
                        "max_age": {"secs": 3600, "nanos": 0},
                        "subdomains": true,
                        "preload": false,
                    },
                    "nosniff": true,
                    "frame_options": "deny",
                    "referrer_policy": "no-referrer",
                    "content_security_policy": "default-src 'self'",
                },
                "cors": {
                    "AllowCredentials": true,
                    "AllowOrigins": ["https://app.example.com"],
                    "MaxAge": 60,
                },
                "remove": ["server"],
                "set": [["x-edge", "wharf"]],
            },
            "timeout": {"secs": 20, "nanos": 0},
            "request_body": 1024,
            "rate_limit": {"requests": 100, "per": {"secs": 1, "nanos": 0}, "burst": 200},
            "access": {
                "allow": ["10.0.0.0/8"],
                "deny": ["10.1.0.0/16"],
                "countries": {"only": ["AT", "DE"]},
            },
            "redirect_to_https": true,
            "websockets": false,
        }],
        "default": {
            "target": {"origin": "main"},
            "methods": ["GET", "HEAD", "OPTIONS"],
            "cache": {
                "enabled": true,
                "ttl": {
                    "minimum": 0,
                    "default": 0,
                    "maximum": 31_536_000,
                },
                "key": {"headers": [], "query": "all", "cookies": "none"},
                "negative": {},
                "stale_while_revalidate": 0,
                "stale_if_error": 0,
                "max_object": 1_073_741_824,
                "ignore_client": false,
                "expose_tags": false,
            },
            "compress": Compression::default(),
            "hooks": {},
            "response_headers": {"security": null, "cors": null, "remove": [], "set": []},
            "timeout": {"secs": 60, "nanos": 0},
            "request_body": 104_857_600,
            "rate_limit": null,
            "access": {"allow": [], "deny": [], "countries": "all"},
            "redirect_to_https": false,
            "websockets": false,
        },
    })
}

#[test]
fn a_distribution_reads_back_from_the_catalog_as_it_was() {
    let document = everything();
    let distribution: Distribution = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(distribution.problems(), []);
    assert_eq!(serde_json::to_value(&distribution).unwrap(), document);
}

#[test]
fn what_a_document_does_not_say_has_its_default() {
    let least: Distribution = serde_json::from_value(json!({
        "name": "site",
        "hosts": ["www.example.com"],
        "origins": {"main": {"servers": [{"url": "https://origin.example.com"}]}},
        "default": {"target": {"origin": "main"}},
    }))
    .unwrap();
    assert_eq!(least, distribution(&[]));
}

#[test]
fn the_first_behaviour_that_has_the_path_is_taken() {
    let distribution = distribution(&["/api/v1/*", "/api/*", "*.jpg"]);
    for (path, place) in [
        ("/api/v1/x", 0),
        ("/api/v2/x", 1),
        ("/api/v1/a.jpg", 0),
        ("/%61pi/v2", 1),
        ("/a.jpg", 2),
        ("/", 3),
        ("*", 3),
        ("", 3),
    ] {
        let (index, behaviour) = distribution.behaviour(path);
        assert_eq!(index, place, "{path}");
        let expected = distribution.behaviours.get(place);
        assert_eq!(behaviour, expected.unwrap_or(&distribution.default));
    }
}

#[test]
fn get_includes_head() {
    let mut behaviour = behaviour(None);
    assert_eq!(behaviour.allow(), "GET, HEAD, OPTIONS");
    behaviour.methods = vec![Method::GET, Method::POST];
    assert!(behaviour.allows(&Method::HEAD) && !behaviour.allows(&Method::OPTIONS));
    assert_eq!(behaviour.allow(), "GET, POST, HEAD");
    behaviour.methods = vec![Method::POST];
    assert!(!behaviour.allows(&Method::HEAD));
    assert_eq!(behaviour.allow(), "POST");
}

#[test]
fn every_function_is_named_with_its_key() {
    let mut distribution: Distribution = serde_json::from_value(everything()).unwrap();
    distribution.default.target = Target::Function("home".parse().unwrap());
    let functions = distribution.functions();
    let functions: Vec<_> = functions
        .iter()
        .map(|(key, function, role)| (key.join("."), function.as_str(), *role))
        .collect();
    let hook = Role::Hook(Point::ViewerRequest);
    let expected = [
        ("default.function", "home", Role::Answer),
        ("behaviours.0.function", "api", Role::Answer),
        ("behaviours.0.hooks.viewer_request.0", "rewrite", hook),
        ("behaviours.0.hooks.viewer_request.1", "auth", hook),
    ];
    assert_eq!(
        functions,
        expected.map(|(key, function, role)| (key.to_owned(), function, role))
    );
}

/// What a manifest cannot even write down, but a document of the API can.
#[test]
fn a_document_is_held_to_what_types_do_not_hold() {
    assert_eq!(
        problems(|site| site.default.path = Some("/a".parse().unwrap())),
        ["default.path: the default has all other paths: leave it out"]
    );
    assert_eq!(
        problems(|site| site.behaviours[0].path = None),
        ["behaviours.0.path: say which paths: only the default has no pattern"]
    );
    assert_eq!(
        problems(|site| {
            let headers = &mut site.default.cache.key.headers;
            headers.extend(["Accept".to_owned(), "a b".to_owned()]);
        }),
        [
            "default.cache.headers: `Accept` is not the name of a header field in lower case",
            "default.cache.headers: `a b` is not the name of a header field in lower case",
        ]
    );
    assert_eq!(
        problems(|site| {
            let origin = site.origins["main"].clone();
            site.origins.insert("a b".to_owned(), origin);
        }),
        ["origins.a b: `a b` is not the name of an origin: 1 to 64 letters, digits, `-` or `_`"]
    );
}

#[test]
fn there_is_an_end_to_how_many() {
    let check = |change: fn(&mut Distribution), problem: &str| {
        assert_eq!(problems(change), [problem]);
    };
    fn networks(number: u32) -> Vec<Network> {
        let networks = (0..number).map(|bits| std::net::Ipv4Addr::from(bits).to_string());
        networks.map(|text| text.parse().unwrap()).collect()
    }
    fn names(number: usize) -> BTreeSet<String> {
        (0..number).map(|number| format!("n{number}")).collect()
    }
    check(
        |site| {
            site.hosts = (0..101)
                .map(|number| format!("h{number}.example.com").parse().unwrap())
                .collect();
        },
        "hosts: 101 hosts are more than the 100 allowed",
    );
    check(
        |site| {
            for number in 0..100 {
                let origin = site.origins["main"].clone();
                site.origins.insert(format!("o{number}"), origin);
            }
        },
        "origins: 101 origins are more than the 100 allowed",
    );
    check(
        |site| {
            let servers = (0..65).map(|number| format!("https://{number}.example.com"));
            site.origins = BTreeMap::from([("main".to_owned(), origin(servers))]);
        },
        "origins.main.servers: 65 servers are more than the 64 allowed",
    );
    check(
        |site| {
            for number in 1..101 {
                site.behaviours.push(behaviour(Some(&format!("/{number}"))));
            }
        },
        "behaviours: 101 behaviours are more than the 100 allowed",
    );
    check(
        |site| {
            let hook = Hook {
                function: "auth".parse().unwrap(),
                on_failure: OnFailure::Fail,
                body: None,
            };
            site.default.hooks.origin_request = vec![hook; 11];
        },
        "default.hooks.origin_request: 11 hooks are more than the 10 allowed",
    );
    check(
        |site| site.default.hooks.origin_response = vec![given(1), given((1 << 20) + 1)],
        "default.hooks.origin_response.1.body: 1048577 B is more than 1 MB",
    );
    check(
        |site| site.default.hooks.origin_request = vec![given(0)],
        "default.hooks.origin_request.0.body: 0 gives nothing: leave it out",
    );
    check(
        |site| site.default.hooks.viewer_request = vec![given(1)],
        "default.hooks.viewer_request.0.body: a body is given to hooks at `origin_request` and `origin_response` alone",
    );
    check(
        |site| site.default.access.deny = networks(1001),
        "default.access.deny: 1001 networks are more than the 1000 allowed",
    );
    check(
        |site| site.default.cache.key.headers = names(51),
        "default.cache.headers: 51 header fields are more than the 50 allowed",
    );
    check(
        |site| site.default.cache.key.query = Parts::Only(names(51)),
        "default.cache.query: 51 names are more than the 50 allowed",
    );
    assert_eq!(
        problems(|site| site.default.cache.key.query = Parts::Only(names(50))),
        [""; 0]
    );
}

proptest! {
    #[test]
    fn the_behaviour_is_the_obvious_one(
        paths in prop::collection::vec("/[ab*?]{1,4}", 0..6),
        path in "/[ab]{0,5}",
    ) {
        let texts: Vec<&str> = paths.iter().map(String::as_str).collect();
        let expected = paths
            .iter()
            .position(|pattern| obvious(pattern.as_bytes(), path.as_bytes()))
            .unwrap_or(paths.len());
        prop_assert_eq!(distribution(&texts).behaviour(&path).0, expected);
    }

    #[test]
    fn a_behaviour_that_is_never_reached_is_a_problem(
        first in "/[ab*]{1,4}",
        second in "/[ab*]{1,4}",
    ) {
        let site = distribution(&[&first, &second]);
        let globs = [0, 1].map(|index| site.behaviours[index].path.clone().unwrap());
        prop_assume!(!globs.iter().any(PathGlob::is_everything));
        // What a letter that no pattern has can stand for, only a `*` has.
        let reached = site.behaviour(&second.replace('*', "c")).0 == 1;
        prop_assert_eq!(site.problems().is_empty(), reached);
    }
}
