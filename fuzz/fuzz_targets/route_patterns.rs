//! Patterns of any text, and requests of any text. The first line is the request's path, the second its authority; each
//! line that follows is a route, `host/path`, or a redirect target after `> `.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use wharf::{
    model::{PathPattern, RedirectTarget, RoutePattern, has_dot_segment},
    router::{Miss, Router},
};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(path), Some(authority)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut patterns: Vec<RoutePattern> = Vec::new();
    let mut targets: Vec<RedirectTarget> = Vec::new();
    for line in lines.take(64) {
        if let Some(target) = line.strip_prefix("> ") {
            if let Ok(target) = target.parse::<RedirectTarget>() {
                assert_eq!(target.to_string().parse().as_ref(), Ok(&target));
                targets.push(target);
            }
            continue;
        }
        let (host, path) = line.split_at(line.find('/').unwrap_or(line.len()));
        let Ok(path) = path.parse::<PathPattern>() else {
            continue;
        };
        assert_eq!(path.to_string().parse().as_ref(), Ok(&path));
        let host = match host {
            "" => None,
            host => match host.parse() {
                Ok(host) => Some(host),
                Err(_) => continue,
            },
        };
        let pattern = RoutePattern {
            host,
            path,
            methods: Vec::new(),
        };
        if !patterns
            .iter()
            .any(|earlier| earlier.conflicts_with(&pattern))
        {
            patterns.push(pattern);
        }
    }

    let routes = patterns.iter().map(|pattern| (pattern, pattern));
    let router = Router::new(routes, [], None).expect("there are no conflicts");
    match router.find(authority, &Method::GET, path) {
        Ok(found) => {
            assert!(path.starts_with('/') && !has_dot_segment(path));
            // The parameters are parts of the path, in its order.
            let mut remaining = path;
            for (name, value) in found.parameters.iter() {
                assert!(found.target.path.has_parameter(name));
                let at = remaining.find(value).expect("a part of the path");
                remaining = &remaining[at + value.len()..];
            }
            for target in &targets {
                let location = target.location(&found.parameters, Some("query"));
                let location = location.to_str().expect("visible ASCII");
                // What begins as a path stays a path, and a host stays the host.
                if target.to_string().starts_with('/') {
                    assert!(location.starts_with('/'));
                    assert!(!location.starts_with("//") && !location.starts_with("/\\"));
                } else {
                    let host = |url: &str| url.split(['/', '?', '#']).nth(2).map(str::to_owned);
                    assert_eq!(host(location), host(&target.to_string()));
                }
            }
        }
        Err(Miss::DotSegment) => assert!(has_dot_segment(path)),
        Err(Miss::Route) => {}
        Err(Miss::Method(_)) => panic!("every route has every method"),
    }
});
