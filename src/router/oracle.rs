//! The router against the obvious slow version: every route is tried, and the most specific that fits is taken.

use http::Method;
use proptest::prelude::*;

use super::{Miss, Router};
use crate::model::{PathPattern, RoutePattern, Segment};

/// What a route is compared by: its host, then its segments from the left. The smallest wins.
fn specificity(pattern: &RoutePattern) -> (u8, isize, Vec<u8>) {
    let (kind, length) = match &pattern.host {
        Some(host) if host.is_wildcard() => (1, -host.name().len().cast_signed()),
        Some(_) => (0, 0),
        None => (2, 0),
    };
    let segments = pattern.path.segments().iter().map(|segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Parameter(_) => 1,
        Segment::Rest(_) => 2,
    });
    (kind, length, segments.collect())
}

fn has_host(pattern: &RoutePattern, host: &str) -> bool {
    match &pattern.host {
        None => true,
        Some(wildcard) if wildcard.is_wildcard() => {
            host.ends_with(&format!(".{}", wildcard.name()))
        }
        Some(exact) => exact.name() == host,
    }
}

fn has_path(pattern: &PathPattern, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let segments = pattern.segments();
    let ends_in_rest = matches!(segments.last(), Some(Segment::Rest(_)));
    let lengths_fit = if ends_in_rest {
        parts.len() >= segments.len()
    } else {
        parts.len() == segments.len()
    };
    lengths_fit
        && segments
            .iter()
            .zip(&parts)
            .all(|(segment, part)| match segment {
                Segment::Literal(literal) => **literal == **part,
                Segment::Parameter(_) => !part.is_empty(),
                Segment::Rest(_) => true,
            })
}

fn slowly(
    routes: &[RoutePattern],
    host: &str,
    method: &Method,
    path: &str,
) -> Result<usize, &'static str> {
    let fitting: Vec<usize> = (0..routes.len())
        .filter(|&index| has_host(&routes[index], host) && has_path(&routes[index].path, path))
        .collect();
    let best = fitting
        .iter()
        .map(|&index| specificity(&routes[index]))
        .min()
        .ok_or("route")?;
    let mut candidates: Vec<(u8, usize)> = fitting
        .into_iter()
        .filter(|&index| specificity(&routes[index]) == best)
        .filter_map(|index| {
            let methods = &routes[index].methods;
            if methods.contains(method) {
                Some((0, index))
            } else if method == Method::HEAD && methods.contains(&Method::GET) {
                Some((1, index))
            } else {
                methods.is_empty().then_some((2, index))
            }
        })
        .collect();
    candidates.sort_unstable();
    candidates.first().map(|(_, index)| *index).ok_or("method")
}

/// The requests of a route, told in a way in which two routes conflict if they are equal in one.
fn claims(pattern: &RoutePattern) -> Vec<String> {
    let path: Vec<&str> = pattern
        .path
        .segments()
        .iter()
        .map(|segment| match segment {
            Segment::Literal(literal) => &**literal,
            Segment::Parameter(_) => "{}",
            Segment::Rest(_) => "{*}",
        })
        .collect();
    let methods: Vec<&str> = match &*pattern.methods {
        [] => vec!["all"],
        methods => methods.iter().map(Method::as_str).collect(),
    };
    methods
        .iter()
        .map(|method| format!("{method} {:?} {}", pattern.host, path.join("/")))
        .collect()
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST])
}

// Few letters, so that patterns and paths meet.
fn route() -> impl Strategy<Value = RoutePattern> {
    let hosts = vec!["", "a", "b.a", "*.a", "*.b.a"];
    let segment = prop::sample::select(vec!["", "x", "y", "{p}"]);
    let last = prop::sample::select(vec!["", "/", "/x", "/{q}", "/{*q}"]);
    (
        prop::sample::select(hosts),
        prop::collection::vec(segment, 0..4),
        last,
        prop::collection::vec(method(), 0..3),
    )
        .prop_filter_map("a path is wanted", |(host, segments, last, mut methods)| {
            let mut path = String::new();
            for (index, segment) in segments.iter().enumerate() {
                path.push('/');
                // Two parameters of one name are an error.
                path.push_str(&segment.replace('p', &format!("p{index}")));
            }
            path.push_str(last);
            methods.sort_by_key(|method| method.to_string());
            methods.dedup();
            Some(RoutePattern {
                host: (!host.is_empty()).then(|| host.parse().unwrap()),
                path: path.parse().ok()?,
                methods,
            })
        })
}

fn request() -> impl Strategy<Value = (&'static str, Method, String)> {
    let part = prop::sample::select(vec!["", "x", "y", "z"]);
    (
        prop::sample::select(vec!["", "a", "b.a", "c.b.a", "d"]),
        method(),
        prop::collection::vec(part, 1..5),
    )
        .prop_map(|(host, method, parts)| (host, method, format!("/{}", parts.join("/"))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_router_finds_what_the_slow_version_finds(
        routes in prop::collection::vec(route(), 0..24),
        requests in prop::collection::vec(request(), 1..32),
    ) {
        let mut claimed = std::collections::HashSet::new();
        let mut kept = Vec::new();
        for route in routes {
            let claims = claims(&route);
            let conflicts = claims.iter().any(|claim| claimed.contains(claim));
            // A conflict is an error exactly where two routes claim the same requests.
            let together = kept.iter().chain([&route]).map(|route| (route, ()));
            prop_assert_eq!(Router::new(together, [], None).is_err(), conflicts);
            if !conflicts {
                claimed.extend(claims);
                kept.push(route);
            }
        }
        let indexed = kept.iter().enumerate().map(|(index, route)| (route, index));
        let router = Router::new(indexed, [], None).unwrap();
        for (host, method, path) in requests {
            let found = match router.find(host, &method, &path) {
                Ok(found) => {
                    // The parameters put back into the pattern give the path.
                    let mut filled = kept[*found.target].path.to_string();
                    for (name, value) in found.parameters.iter() {
                        filled = filled.replace(&format!("{{{name}}}"), value);
                        filled = filled.replace(&format!("{{*{name}}}"), value);
                    }
                    prop_assert_eq!(&filled, &path);
                    Ok(*found.target)
                }
                Err(Miss::Route) => Err("route"),
                Err(Miss::Method(_)) => Err("method"),
                Err(Miss::DotSegment) => Err("dots"),
            };
            prop_assert_eq!(found, slowly(&kept, host, &method, &path), "{} {} {}", host, method, path);
        }
    }
}
