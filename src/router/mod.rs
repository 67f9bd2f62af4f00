//! Which target serves this authority, method and path.
//!
//! A [`Router`] is made once from the routes and functions there are, and never changes: a new one takes its place. It
//! is pure, and finding allocates nothing.
//!
//! Hosts are asked in this order, and the first that has a route for the path decides: the host itself, the function
//! whose URL it is (`NAME.localhost`, `NAME.<domain>`, `ID.lambda-url.REGION.localhost`), the longest wildcard above it, the routes of every host.
//! Within a host the segments of the path decide from left to right: a literal goes before a parameter, a parameter
//! before a rest. Then the method: a route that lists it goes before one for all methods. A path whose most specific
//! pattern does not allow the method is [`Miss::Method`]: no less specific pattern is tried.
//!
//! What is matched is what the function sees. The path is compared as it was sent, byte by byte ([`PathPattern`] tells
//! how), and never rewritten. A path that has `.` or `..` segments, plain or encoded, is one thing to a router and
//! another to code that resolves it, so it gets no route at all ([`Miss::DotSegment`]). A path that does not begin with
//! `/` (the `*` of `OPTIONS *`, or none at all) matches nothing.
//!
//! Why not the crate matchit: it takes `/a/{id}` beside `/a/{*rest}` for a conflict, and collects parameters before
//! anyone asks for them.
//!
//! [`PathPattern`]: crate::model::PathPattern

mod tree;

#[cfg(test)]
mod oracle;

use std::collections::HashMap;

use http::Method;

use crate::model::{FunctionName, Parameters, RoutePattern, URL_LABEL, has_dot_segment};
use tree::Tree;

/// The longest host name there is (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// The domain under which every node has its functions.
const LOCALHOST: &str = "localhost";

/// All routes of a node, and the URLs of its functions.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<Box<str>, Tree<T>>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<str>, Tree<T>>,
    every: Tree<T>,
    /// By name in lower case.
    functions: HashMap<Box<str>, T>,
    /// By id: those of function URLs that have a configuration.
    urls: HashMap<Box<str>, T>,
    region: Box<str>,
    domain: Option<Box<str>>,
}

/// A target, and what the pattern said about the path.
#[derive(Debug, Clone, Copy)]
pub struct Match<'router, 'path, T> {
    /// The target.
    pub target: &'router T,
    /// The parameters of the path; none for the URL of a function.
    pub parameters: Parameters<'router, 'path>,
}

/// Why there is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// No route has this host and path.
    #[error("no route has this host and path")]
    Route,
    /// A route has this host and path, but not for this method; those it has are here, for `Allow`.
    #[error("the route has other methods")]
    Method(Vec<Method>),
    /// The path has `.` or `..` segments, plain or encoded.
    #[error("the path has dot segments")]
    DotSegment,
}

/// Two routes that want the same requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{second}` is for requests that route `{first}` has already")]
pub struct Conflict {
    /// The one that was there.
    pub first: Box<RoutePattern>,
    /// The one that came after it.
    pub second: Box<RoutePattern>,
}

impl<T> Router<T> {
    /// A router for these routes, and for the URLs of these functions: `NAME.localhost`, and `NAME.domain` if there is
    /// one.
    ///
    /// Host names have no case, function names do: of names that differ in nothing else the one in lower case has the
    /// URL, and if none is, none has it.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = (&'a RoutePattern, T)>,
        functions: impl IntoIterator<Item = (FunctionName, T)>,
        domain: Option<&str>,
    ) -> Result<Self, Conflict> {
        let mut router = Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            every: Tree::default(),
            functions: function_urls(functions),
            urls: HashMap::new(),
            region: Box::default(),
            domain: domain.map(|domain| domain.trim_matches('.').to_ascii_lowercase().into()),
        };
        for (pattern, target) in routes {
            let tree = match &pattern.host {
                None => &mut router.every,
                Some(host) if host.is_wildcard() => {
                    router.wildcards.entry(host.name().into()).or_default()
                }
                Some(host) => router.exact.entry(host.name().into()).or_default(),
            };
            tree.insert(pattern, target)?;
        }
        Ok(router)
    }

    /// The same router, which also has these function URLs, by id: `ID.lambda-url.REGION.localhost`, and the same under the
    /// domain if there is one.
    #[must_use]
    pub fn with_urls(mut self, region: &str, urls: impl IntoIterator<Item = (String, T)>) -> Self {
        self.region = region.to_ascii_lowercase().into();
        self.urls = urls
            .into_iter()
            .map(|(id, target)| (id.into_boxed_str(), target))
            .collect();
        self
    }

    /// The target for a request: `authority` as in `Host` or `:authority`, `path` as in the request, without query.
    ///
    /// Of the authority, the port, the case and one trailing dot do not count.
    pub fn find<'path>(
        &self,
        authority: &str,
        method: &Method,
        path: &'path str,
    ) -> Result<Match<'_, 'path, T>, Miss> {
        if has_dot_segment(path) {
            return Err(Miss::DotSegment);
        }
        let mut buffer = [0; MAX_HOST];
        let host = host(authority, &mut buffer);
        if let Some(found) = self
            .exact
            .get(host)
            .and_then(|tree| tree.find(method, path))
        {
            return found;
        }
        if let Some(target) = self.function(host).or_else(|| self.url(host)) {
            return Ok(Match {
                target,
                parameters: Parameters::default(),
            });
        }
        if !self.wildcards.is_empty() {
            let mut under = host;
            while let Some((_, parent)) = under.split_once('.') {
                let tree = self.wildcards.get(parent);
                if let Some(found) = tree.and_then(|tree| tree.find(method, path)) {
                    return found;
                }
                under = parent;
            }
        }
        self.every.find(method, path).unwrap_or(Err(Miss::Route))
    }

    /// The function whose URL has this host.
    fn function(&self, host: &str) -> Option<&T> {
        let (name, domain) = host.split_once('.')?;
        let ours = domain == LOCALHOST || self.domain.as_deref() == Some(domain);
        ours.then(|| self.functions.get(name)).flatten()
    }

    /// The function URL that has this host.
    fn url(&self, host: &str) -> Option<&T> {
        if self.urls.is_empty() {
            return None;
        }
        let (id, rest) = host.split_once('.')?;
        let domain = rest
            .strip_prefix(URL_LABEL)?
            .strip_prefix('.')?
            .strip_prefix(&*self.region)?
            .strip_prefix('.')?;
        let ours = domain == LOCALHOST || self.domain.as_deref() == Some(domain);
        ours.then(|| self.urls.get(id)).flatten()
    }
}

fn function_urls<T>(
    functions: impl IntoIterator<Item = (FunctionName, T)>,
) -> HashMap<Box<str>, T> {
    let is_lower = |name: &FunctionName| !name.as_str().bytes().any(|b| b.is_ascii_uppercase());
    let mut urls: HashMap<Box<str>, Option<(FunctionName, T)>> = HashMap::new();
    for (name, target) in functions {
        let url: Box<str> = name.as_str().to_ascii_lowercase().into();
        let entry = urls.entry(url);
        match entry {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Some((name, target)));
            }
            std::collections::hash_map::Entry::Occupied(mut occupied) => {
                let other_is_lower = occupied
                    .get()
                    .as_ref()
                    .is_some_and(|(name, _)| is_lower(name));
                if is_lower(&name) {
                    occupied.insert(Some((name, target)));
                } else if !other_is_lower {
                    occupied.insert(None);
                }
            }
        }
    }
    urls.into_iter()
        .filter_map(|(url, function)| function.map(|(_, target)| (url, target)))
        .collect()
}

/// The host of an authority, in lower case, without port and trailing dot. What is too long to be a host is none.
fn host<'a>(authority: &'a str, buffer: &'a mut [u8; MAX_HOST]) -> &'a str {
    let host = match authority.find(']') {
        Some(bracket) if authority.starts_with('[') => &authority[..=bracket],
        _ => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > MAX_HOST {
        return "";
    }
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return host;
    }
    let lower = &mut buffer[..host.len()];
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).expect("changing the case of ASCII letters leaves UTF-8 valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> RoutePattern {
        let (methods, place) = text.split_once(' ').unwrap_or(("", text));
        let (host, path) = place.split_at(place.find('/').unwrap());
        RoutePattern {
            host: (!host.is_empty()).then(|| host.parse().unwrap()),
            path: path.parse().unwrap(),
            methods: methods
                .split(',')
                .filter(|method| !method.is_empty())
                .map(|method| method.parse().unwrap())
                .collect(),
        }
    }

    fn try_router(routes: &[&str], functions: &[&str]) -> Result<Router<String>, Conflict> {
        let routes: Vec<_> = routes.iter().map(|text| (pattern(text), *text)).collect();
        Router::new(
            routes
                .iter()
                .map(|(pattern, text)| (pattern, (*text).to_owned())),
            functions
                .iter()
                .map(|name| (name.parse().unwrap(), format!("fn {name}"))),
            Some("Fn.Example.com."),
        )
    }

    fn router(routes: &[&str], functions: &[&str]) -> Router<String> {
        try_router(routes, functions).unwrap()
    }

    fn get(router: &Router<String>, authority: &str, path: &str) -> Option<String> {
        let found = router.find(authority, &Method::GET, path).ok()?;
        Some(found.target.clone())
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        let mut routes = [
            "/",
            "/{*rest}",
            "/{a}",
            "/users",
            "/users/{id}",
            "/users/{*rest}",
            "/users/{id}/posts",
            "/users/me",
            "/{a}/me/x",
        ];
        for _ in 0..2 {
            let router = router(&routes, &[]);
            for (path, route) in [
                ("/", "/"),
                ("/users", "/users"),
                ("/other", "/{a}"),
                ("/other/", "/{*rest}"),
                ("/users/", "/users/{*rest}"),
                ("/users/me", "/users/me"),
                ("/users/7", "/users/{id}"),
                ("/users/7/posts", "/users/{id}/posts"),
                ("/users/me/posts", "/users/{id}/posts"),
                ("/users/7/other", "/users/{*rest}"),
                ("/users//x", "/users/{*rest}"),
                ("/users/me/x", "/users/{*rest}"),
                ("/x/me/x", "/{a}/me/x"),
                ("//", "/{*rest}"),
                ("/Users", "/{a}"),
                ("/%75sers", "/{a}"),
            ] {
                assert_eq!(get(&router, "x", path).as_deref(), Some(route), "{path}");
            }
            routes.reverse();
        }
    }

    #[test]
    fn a_host_goes_before_its_wildcards_and_they_before_every_host() {
        let router = router(
            &[
                "a.example.com/x",
                "*.example.com/x",
                "*.b.example.com/x",
                "/{*rest}",
            ],
            &[],
        );
        for (authority, path, route) in [
            ("a.example.com", "/x", "a.example.com/x"),
            ("A.Example.COM.:8080", "/x", "a.example.com/x"),
            ("a.example.com", "/y", "/{*rest}"),
            ("b.example.com", "/x", "*.example.com/x"),
            ("c.a.example.com", "/x", "*.example.com/x"),
            ("c.b.example.com", "/x", "*.b.example.com/x"),
            ("example.com", "/x", "/{*rest}"),
            ("aexample.com", "/x", "/{*rest}"),
            ("", "/x", "/{*rest}"),
            ("[::1]:80", "/x", "/{*rest}"),
            (&"a.".repeat(500), "/x", "/{*rest}"),
        ] {
            assert_eq!(
                get(&router, authority, path).as_deref(),
                Some(route),
                "{authority}"
            );
        }
    }

    #[test]
    fn an_address_is_a_host() {
        let router = router(&["[::1]/", "127.0.0.1/"], &[]);
        assert_eq!(get(&router, "[::1]:8080", "/").as_deref(), Some("[::1]/"));
        assert_eq!(
            get(&router, "127.0.0.1:80", "/").as_deref(),
            Some("127.0.0.1/")
        );
        assert_eq!(get(&router, "[::1", "/"), None);
    }

    #[test]
    fn a_function_has_a_url_of_its_own() {
        let router = router(
            &["hello.localhost/only", "*.localhost/", "/{*rest}"],
            &["hello", "Mixed_Case"],
        );
        for (authority, path, target) in [
            ("hello.localhost:8080", "/a", "fn hello"),
            ("HELLO.localhost", "/a", "fn hello"),
            ("hello.fn.example.com", "/a", "fn hello"),
            ("mixed_case.localhost", "/a", "fn Mixed_Case"),
            ("hello.localhost", "/only", "hello.localhost/only"),
            ("other.localhost", "/", "*.localhost/"),
            ("other.localhost", "/a", "/{*rest}"),
            ("x.hello.localhost", "/a", "/{*rest}"),
            ("hello.example.com", "/a", "/{*rest}"),
            ("hello", "/a", "/{*rest}"),
        ] {
            assert_eq!(
                get(&router, authority, path).as_deref(),
                Some(target),
                "{authority}"
            );
        }
    }

    #[test]
    fn a_function_url_has_a_host_of_its_id() {
        let urls = [("abc".to_owned(), "url abc".to_owned())];
        let router = router(&["/{*rest}"], &["abc"]).with_urls("us-east-1", urls);
        for (authority, target) in [
            ("abc.lambda-url.us-east-1.localhost:8080", "url abc"),
            ("ABC.Lambda-URL.us-east-1.localhost", "url abc"),
            ("abc.lambda-url.us-east-1.fn.example.com", "url abc"),
            ("abc.localhost", "fn abc"),
            ("abc.lambda-url.eu-west-1.localhost", "/{*rest}"),
            ("abd.lambda-url.us-east-1.localhost", "/{*rest}"),
            ("abc.lambda-url.us-east-1.example.com", "/{*rest}"),
            ("abc.lambda-url.us-east-1", "/{*rest}"),
        ] {
            assert_eq!(
                get(&router, authority, "/").as_deref(),
                Some(target),
                "{authority}"
            );
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_do_not_take_each_others_url() {
        for functions in [["Hello", "hello", "HELLO"], ["HELLO", "Hello", "hello"]] {
            let router = router(&[], &functions);
            assert_eq!(
                get(&router, "hello.localhost", "/").as_deref(),
                Some("fn hello")
            );
        }
        assert_eq!(
            get(&router(&[], &["Hello", "HELLO"]), "hello.localhost", "/"),
            None
        );
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let router = router(&["GET,PUT /a", "POST /a", "GET /b", "/b", "/{*rest}"], &[]);
        let find = |method: &Method, path: &'static str| {
            router
                .find("x", method, path)
                .map(|found| found.target.as_str())
        };
        assert_eq!(find(&Method::PUT, "/a"), Ok("GET,PUT /a"));
        assert_eq!(find(&Method::POST, "/a"), Ok("POST /a"));
        assert_eq!(find(&Method::HEAD, "/a"), Ok("GET,PUT /a"));
        assert_eq!(
            find(&Method::DELETE, "/a"),
            Err(Miss::Method(vec![
                Method::GET,
                Method::HEAD,
                Method::PUT,
                Method::POST
            ]))
        );
        assert_eq!(find(&Method::GET, "/b"), Ok("GET /b"));
        assert_eq!(find(&Method::HEAD, "/b"), Ok("GET /b"));
        assert_eq!(find(&Method::DELETE, "/b"), Ok("/b"));
    }

    #[test]
    fn paths_that_mean_something_else_get_no_route() {
        let router = router(&["/{*rest}"], &["hello"]);
        for path in ["/a/../b", "/a/%2e%2e/b", "/..%2fb"] {
            for authority in ["x", "hello.localhost"] {
                let found = router.find(authority, &Method::GET, path);
                assert_eq!(found.unwrap_err(), Miss::DotSegment);
            }
        }
        for path in ["", "*", "a"] {
            assert_eq!(
                router.find("x", &Method::GET, path).unwrap_err(),
                Miss::Route
            );
        }
    }

    #[test]
    fn parameters_are_those_of_the_pattern_that_matched() {
        let router = router(&["GET /u/{id}", "POST /u/{name}", "/f/{*rest}"], &[]);
        let parameters = |method, path: &'static str| {
            let found = router.find("x", &method, path).unwrap();
            found.parameters.iter().collect::<Vec<_>>()
        };
        assert_eq!(parameters(Method::GET, "/u/7"), [("id", "7")]);
        assert_eq!(parameters(Method::POST, "/u/7"), [("name", "7")]);
        assert_eq!(parameters(Method::GET, "/f/a/b"), [("rest", "a/b")]);
    }

    #[test]
    fn two_routes_for_the_same_requests_are_a_conflict_that_names_both() {
        for (first, second) in [
            ("/a/{id}", "/a/{name}"),
            ("GET,PUT /a", "POST,PUT /a"),
            ("*.a.example/{*x}", "*.a.example/{*y}"),
        ] {
            let conflict = try_router(&[first, second], &[]).unwrap_err();
            assert_eq!(
                conflict.to_string(),
                format!("route `{second}` is for requests that route `{first}` has already")
            );
        }
        try_router(&["GET /a", "POST /a", "/a", "x/a", "*.x/a"], &[]).unwrap();
    }
}
