//! What is wrong with a distribution, all of it at once.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Method, Uri,
    uri::{Authority, Scheme},
};

use super::super::{
    ByteSize, Cors, HostPattern, Network, has_dot_segment,
    hook::{MAX_BODY, Point},
    hop,
    name::is_name,
    text::nearest,
};
use super::{
    Access, Behaviour, CachePolicy, Compression, Countries, Distribution, HealthCheck, Hooks,
    KeyPolicy, Origin, Parts, RateLimit, ResponseHeaders, Target,
};

const MAX_HOSTS: usize = 100;
const MAX_ORIGINS: usize = 100;
/// Servers of an origin; those that were tried are bits of a number.
const MAX_SERVERS: usize = 64;
const MAX_BEHAVIOURS: usize = 100;
/// Hooks at one point.
const MAX_HOOKS: usize = 10;
/// Header fields that are set, or removed, or added to requests, or in the key; also parameters and cookies in the key.
const MAX_NAMES: usize = 50;
/// Networks that are allowed, or denied.
const MAX_NETWORKS: usize = 1000;
const MAX_WEIGHT: u32 = 1000;
const MAX_CONNECTIONS: u32 = 65_535;
const MAX_RETRIES: u32 = 10;
const MAX_TYPES: usize = 100;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest freshness that HTTP has a use for, and the default maximum.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The longest that a request may take anywhere, as a function's timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(900);

/// Something of a distribution that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", key.join("."))]
pub struct InvalidDistribution {
    /// The key, as it stands in the manifest's table of the distribution.
    pub key: Vec<String>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Distribution {
    /// Everything that is wrong with it. Whether its functions are there is [another question](Self::functions).
    pub fn problems(&self) -> Vec<InvalidDistribution> {
        let mut check = Check {
            distribution: self,
            at: Vec::new(),
            problems: Vec::new(),
        };
        check.distribution();
        check.problems
    }
}

struct Check<'a> {
    distribution: &'a Distribution,
    /// The key of what is looked at.
    at: Vec<String>,
    problems: Vec<InvalidDistribution>,
}

impl Check<'_> {
    fn problem(&mut self, key: &[&str], problem: impl Into<String>) {
        let key = key.iter().map(|&part| part.to_owned());
        self.problems.push(InvalidDistribution {
            key: self.at.iter().cloned().chain(key).collect(),
            problem: problem.into(),
        });
    }

    /// Looks at what is under a key.
    fn under(&mut self, key: &[&str], look: impl FnOnce(&mut Self)) {
        let depth = self.at.len();
        self.at.extend(key.iter().map(|&part| part.to_owned()));
        look(self);
        self.at.truncate(depth);
    }

    fn distribution(&mut self) {
        let distribution = self.distribution;
        self.hosts(&distribution.hosts);
        self.certificate();
        self.at_most(
            &["origins"],
            distribution.origins.len(),
            MAX_ORIGINS,
            "origins",
        );
        for (name, origin) in &distribution.origins {
            self.under(&["origins", name], |check| {
                if !is_name(name) {
                    let message = format!(
                        "`{name}` is not the name of an origin: 1 to 64 letters, digits, `-` or `_`"
                    );
                    check.problem(&[], message);
                }
                check.origin(origin);
            });
        }
        let behaviours = &distribution.behaviours;
        self.at_most(
            &["behaviours"],
            behaviours.len(),
            MAX_BEHAVIOURS,
            "behaviours",
        );
        for (index, behaviour) in behaviours.iter().enumerate() {
            self.under(&["behaviours", &index.to_string()], |check| {
                check.path(behaviour, behaviours.get(..index).unwrap_or_default());
                check.behaviour(behaviour);
            });
        }
        self.under(&["default"], |check| {
            if distribution.default.path.is_some() {
                check.problem(&["path"], "the default has all other paths: leave it out");
            }
            check.behaviour(&distribution.default);
        });
    }

    fn hosts(&mut self, hosts: &[HostPattern]) {
        if hosts.is_empty() {
            self.problem(
                &["hosts"],
                "name at least one host, such as `www.example.com`",
            );
        }
        self.at_most(&["hosts"], hosts.len(), MAX_HOSTS, "hosts");
        for (index, host) in hosts.iter().enumerate() {
            if hosts[..index].contains(host) {
                let key = ["hosts", &index.to_string()];
                self.problem(&key, format!("`{host}` is listed twice"));
            }
        }
    }

    fn origin(&mut self, origin: &Origin) {
        self.servers(origin);
        if let Some(host) = &origin.host {
            let authority = host.parse::<Authority>();
            if authority.is_err() || host.contains('@') {
                let message = format!("`{host}` is not a host, perhaps with a port");
                self.problem(&["host"], message);
            }
            if origin.forward_host {
                let message = "`host` says what is sent already: leave one of them out";
                self.problem(&["forward_host"], message);
            }
        }
        if let Some(name) = &origin.tls.server_name
            && !name
                .parse::<HostPattern>()
                .is_ok_and(|host| !host.is_wildcard())
        {
            let message = format!("`{name}` is not the name of a host");
            self.problem(&["tls", "server_name"], message);
        }
        let timeouts = &origin.timeouts;
        self.lasts(
            &["timeouts", "connect"],
            timeouts.connect,
            MILLISECOND,
            MINUTE,
        );
        self.lasts(
            &["timeouts", "first_byte"],
            timeouts.first_byte,
            MILLISECOND,
            MAX_TIMEOUT,
        );
        self.lasts(&["timeouts", "idle"], timeouts.idle, MILLISECOND, HOUR);
        self.counts(&["retries"], origin.retries, 0, MAX_RETRIES);
        self.counts(&["connections"], origin.connections, 1, MAX_CONNECTIONS);
        if let Some(health) = &origin.health {
            self.under(&["health"], |check| check.health(health));
        }
        let ejection = &origin.ejection;
        self.counts(&["ejection", "failures"], ejection.failures, 0, 1000);
        self.lasts(&["ejection", "duration"], ejection.duration, SECOND, HOUR);
        self.lasts(
            &["ejection", "maximum"],
            ejection.maximum,
            ejection.duration,
            DAY,
        );
        for status in &origin.failover {
            if !(400..=599).contains(status) {
                let message = format!("{status} is not a status from 400 to 599");
                self.problem(&["failover"], message);
            }
        }
        if !origin.failover.is_empty() && !origin.servers.iter().any(|server| server.backup) {
            let message = "no server is a backup: say `backup = true` at one";
            self.problem(&["failover"], message);
        }
        let fields = origin.headers.iter();
        self.fields(
            "headers",
            fields.map(|(name, value)| (name.as_str(), value.as_bytes())),
            is_of_the_request,
        );
    }

    fn servers(&mut self, origin: &Origin) {
        let servers = &origin.servers;
        if servers.is_empty() {
            let message = "an origin has at least one server, such as `https://origin.example.com`";
            self.problem(&["servers"], message);
            return;
        }
        self.at_most(&["servers"], servers.len(), MAX_SERVERS, "servers");
        for (index, server) in servers.iter().enumerate() {
            let index_text = index.to_string();
            let key = ["servers", index_text.as_str()];
            match server_host(&server.url) {
                // What is not shown cannot be a password in a log.
                Err(problem) if server.url.contains('@') => self.problem(&key, problem),
                Err(problem) => {
                    let message = format!("`{}` is no server: {problem}", server.url);
                    self.problem(&key, message);
                }
                Ok(host) if !origin.private && is_private(&host) => {
                    let message =
                        format!("`{host}` is private: say `private = true` at the origin");
                    self.problem(&key, message);
                }
                Ok(_) => {}
            }
            if servers[..index]
                .iter()
                .any(|earlier| earlier.url == server.url)
            {
                self.problem(&key, "this server is listed twice");
            }
            if server.weight > MAX_WEIGHT {
                let message = format!("{} is more than {MAX_WEIGHT}", server.weight);
                self.problem(&["servers", &index_text, "weight"], message);
            }
        }
        let mut primaries = servers.iter().filter(|server| !server.backup).peekable();
        if primaries.peek().is_none() {
            let message = "all servers are backups: leave `backup` out at one";
            self.problem(&["servers"], message);
        } else if primaries.all(|server| server.weight == 0) {
            let message = "no server gets a request: give one a weight above 0";
            self.problem(&["servers"], message);
        }
    }

    fn certificate(&mut self) {
        let Distribution {
            certificate, hosts, ..
        } = self.distribution;
        if *certificate != Some(super::Certificate::Automatic) {
            return;
        }
        for (index, host) in hosts.iter().enumerate() {
            if host.is_wildcard() {
                let message = format!(
                    "`{host}` gets no automatic certificate: list the hosts, or bring a certificate"
                );
                self.problem(&["hosts", &index.to_string()], message);
            }
        }
        if hosts.iter().all(HostPattern::is_address) {
            let message = "no certificate is for an address: name a host";
            self.problem(&["certificate"], message);
        }
    }

    fn health(&mut self, health: &HealthCheck) {
        let path = health.path.as_str();
        let is_path = path.starts_with('/') && !path.contains('#') && path.parse::<Uri>().is_ok();
        if !is_path || has_dot_segment(path) {
            self.problem(
                &["path"],
                format!("`{path}` is not a path, such as `/healthz`"),
            );
        }
        self.lasts(&["interval"], health.interval, SECOND, HOUR);
        self.lasts(
            &["timeout"],
            health.timeout,
            MILLISECOND,
            health.interval.max(MILLISECOND),
        );
        self.counts(&["healthy"], health.healthy, 1, 100);
        self.counts(&["unhealthy"], health.unhealthy, 1, 100);
        let (first, last) = (health.statuses.start(), health.statuses.end());
        if !(200 <= *first && first <= last && *last <= 599) {
            let message = format!("{first}-{last} are not statuses from 200 to 599");
            self.problem(&["statuses"], message);
        }
    }

    fn path(&mut self, behaviour: &Behaviour, earlier: &[Behaviour]) {
        let Some(path) = &behaviour.path else {
            self.problem(
                &["path"],
                "say which paths: only the default has no pattern",
            );
            return;
        };
        let mut earlier = earlier.iter().filter_map(|earlier| earlier.path.as_ref());
        if path.is_everything() {
            let message = format!("`{path}` has every path: that is `default`");
            self.problem(&["path"], message);
        } else if let Some(rival) = earlier.find(|earlier| earlier.covers(path)) {
            let message = match rival == path {
                true => format!("`{path}` is there above already"),
                false => format!("no request comes here: `{rival}` above has these paths already"),
            };
            self.problem(&["path"], message);
        }
    }

    fn behaviour(&mut self, behaviour: &Behaviour) {
        if behaviour.websockets {
            let message = match &behaviour.target {
                Target::Function(_) => Some("a function takes no WebSocket"),
                Target::Origin(_) if !behaviour.hooks.transform.is_empty() => {
                    Some("a WebSocket passes no middleware: leave out this or `hooks.transform`")
                }
                Target::Origin(_) => None,
            };
            if let Some(message) = message {
                self.problem(&["websockets"], message);
            }
        }
        if let Target::Origin(name) = &behaviour.target
            && name.is_empty()
        {
            self.problem(&[], "say who answers: `origin` or `function`");
        } else if let Target::Origin(name) = &behaviour.target
            && !self.distribution.origins.contains_key(name)
        {
            let known: Vec<&str> = self
                .distribution
                .origins
                .keys()
                .map(String::as_str)
                .collect();
            let message = match nearest(name, &known) {
                Some(near) => format!("there is no origin `{name}`; did you mean `{near}`?"),
                None => format!("the distribution has no origin `{name}`"),
            };
            self.problem(&["origin"], message);
        }
        if behaviour.methods.is_empty() {
            self.problem(&["methods"], "name at least one method, such as `GET`");
        }
        for (index, method) in behaviour.methods.iter().enumerate() {
            if matches!(*method, Method::CONNECT | Method::TRACE) {
                let key = ["methods", &index.to_string()];
                self.problem(&key, format!("`{method}` is not served"));
            }
        }
        self.under(&["cache"], |check| check.cache(&behaviour.cache));
        self.under(&["compress"], |check| check.compress(&behaviour.compress));
        self.under(&["hooks"], |check| check.hooks(&behaviour.hooks));
        self.under(&["response_headers"], |check| {
            check.response_headers(&behaviour.response_headers);
        });
        self.lasts(&["timeout"], behaviour.timeout, MILLISECOND, MAX_TIMEOUT);
        if let Some(RateLimit {
            requests,
            per,
            burst,
        }) = behaviour.rate_limit
        {
            self.counts(&["rate_limit", "requests"], requests, 1, u32::MAX);
            self.lasts(&["rate_limit", "per"], per, SECOND, DAY);
            self.counts(&["rate_limit", "burst"], burst, 1, u32::MAX);
        }
        self.under(&["access"], |check| check.access(&behaviour.access));
    }

    fn cache(&mut self, cache: &CachePolicy) {
        let ttl = &cache.ttl;
        let before = self.problems.len();
        self.freshness(&["minimum"], ttl.minimum);
        self.freshness(&["default"], ttl.default);
        self.freshness(&["maximum"], ttl.maximum);
        let is_sound = self.problems.len() == before;
        if ttl.maximum.is_zero() {
            self.problem(&["maximum"], "0 keeps nothing: write `cache = false`");
        } else if is_sound && ttl.minimum > ttl.maximum {
            let (minimum, maximum) = (said(ttl.minimum), said(ttl.maximum));
            let message = format!("{minimum} is more than the maximum, which is {maximum}");
            self.problem(&["minimum"], message);
        } else if is_sound
            && !ttl.default.is_zero()
            && !(ttl.minimum..=ttl.maximum).contains(&ttl.default)
        {
            let (minimum, maximum) = (said(ttl.minimum), said(ttl.maximum));
            let default = said(ttl.default);
            let message = format!(
                "{default} is not between the minimum, {minimum}, and the maximum, {maximum}"
            );
            self.problem(&["default"], message);
        }
        self.freshness(&["stale_while_revalidate"], cache.stale_while_revalidate);
        self.freshness(&["stale_if_error"], cache.stale_if_error);
        for (status, time) in &cache.negative {
            let key = ["negative", &status.to_string()];
            if !(400..=599).contains(status) {
                self.problem(&key, format!("{status} is not a status from 400 to 599"));
            }
            self.freshness(&key, *time);
        }
        if cache.max_object.as_u64() == 0 {
            self.problem(&["max_object"], "0 keeps nothing: write `cache = false`");
        }
        self.key(&cache.key);
    }

    fn key(&mut self, key: &KeyPolicy) {
        self.at_most(&["headers"], key.headers.len(), MAX_NAMES, "header fields");
        for name in &key.headers {
            let parsed = name.parse::<HeaderName>();
            let message = match name.as_str() {
                _ if !parsed.is_ok_and(|parsed| parsed.as_str() == name) => {
                    format!("`{name}` is not the name of a header field in lower case")
                }
                "cookie" => "say with `cookies` which of them count".to_owned(),
                "host" => "the host is always in the key: leave it out".to_owned(),
                _ if is_of_the_request(name) || is_of_the_cache(name) => {
                    format!("the cache looks after `{name}` itself: leave it out")
                }
                _ => continue,
            };
            self.problem(&["headers"], message);
        }
        for (group, parts) in [("query", &key.query), ("cookies", &key.cookies)] {
            let (Parts::Only(names) | Parts::Except(names)) = parts else {
                continue;
            };
            self.at_most(&[group], names.len(), MAX_NAMES, "names");
            if names.contains("") {
                self.problem(&[group], "a name is not empty");
            }
        }
    }

    fn compress(&mut self, compress: &Compression) {
        for (index, coding) in compress.codings.iter().enumerate() {
            if compress.codings[..index].contains(coding) {
                let key = ["codings", &index.to_string()];
                self.problem(&key, format!("`{}` is listed twice", coding.as_str()));
            }
        }
        self.at_most(&["types"], compress.types.len(), MAX_TYPES, "types");
        for (index, kind) in compress.types.iter().enumerate() {
            let is_token = |text: &str| {
                text.parse::<HeaderName>()
                    .is_ok_and(|name| name.as_str() == text)
            };
            let fits = kind.split_once('/').is_some_and(|(kind, subtype)| {
                is_token(kind) && kind != "*" && (subtype == "*" || is_token(subtype))
            });
            if !fits {
                let message = format!(
                    "`{kind}` is not a media type in lower case, such as `application/json` or `text/*`"
                );
                self.problem(&["types", &index.to_string()], message);
            }
        }
    }

    fn hooks(&mut self, hooks: &Hooks) {
        let number = hooks.transform.len();
        self.at_most(&["transform"], number, MAX_HOOKS, "middlewares");
        for point in Point::ALL {
            let number = hooks.at(point).len();
            self.at_most(&[point.key()], number, MAX_HOOKS, "hooks");
            for (index, hook) in hooks.at(point).iter().enumerate() {
                let Some(size) = hook.body else { continue };
                let message = match size.as_usize() {
                    _ if !point.may_see_body() => {
                        "a body is given to hooks at `origin_request` and `origin_response` alone"
                            .to_owned()
                    }
                    0 => "0 gives nothing: leave it out".to_owned(),
                    1..=MAX_BODY => continue,
                    _ => format!("{size} is more than {}", ByteSize::bytes(MAX_BODY as u64)),
                };
                self.problem(&[point.key(), &index.to_string(), "body"], message);
            }
        }
    }

    fn response_headers(&mut self, headers: &ResponseHeaders) {
        let fields = headers.set.iter();
        self.fields(
            "set",
            fields.map(|(name, value)| (name.as_str(), value.as_bytes())),
            is_of_the_response,
        );
        self.at_most(
            &["remove"],
            headers.remove.len(),
            MAX_NAMES,
            "header fields",
        );
        for (index, name) in headers.remove.iter().enumerate() {
            let key = ["remove", &index.to_string()];
            if is_of_the_response(name.as_str()) {
                self.problem(&key, format!("the node sets `{name}`: leave it out"));
            }
            if headers.remove[..index].contains(name) {
                self.problem(&key, format!("`{name}` is listed twice"));
            }
        }
        if let Some(security) = &headers.security {
            if let Some(hsts) = security.hsts {
                let key = ["security", "hsts", "max_age"];
                self.whole_seconds(&key, hsts.max_age);
                self.lasts(&key, hsts.max_age, Duration::ZERO, MAX_TTL * 10);
            }
            let policy = security.content_security_policy.as_deref();
            if policy.is_some_and(|policy| policy.is_empty() || !is_visible(policy.as_bytes())) {
                let key = ["security", "content_security_policy"];
                self.problem(&key, "the value of a header field is visible ASCII");
            }
        }
        if let Some(cors) = &headers.cors {
            self.under(&["cors"], |check| check.cors(cors));
        }
    }

    fn cors(&mut self, cors: &Cors) {
        if cors.allow_origins.is_empty() {
            let message = "name at least one origin, such as `https://app.example.com`, or `*`";
            self.problem(&["allow_origins"], message);
        }
        let is_method: fn(&str) -> bool = |text| text.parse::<Method>().is_ok();
        let is_field: fn(&str) -> bool = |text| text.parse::<HeaderName>().is_ok();
        let origin = "an origin, which is a scheme and a host in lower case, such as `https://app.example.com`";
        let method = "a method, such as `GET`";
        let field = "the name of a header field";
        self.shared(
            cors,
            "allow_origins",
            &cors.allow_origins,
            is_web_origin,
            origin,
        );
        self.shared(
            cors,
            "allow_methods",
            &cors.allow_methods,
            is_method,
            method,
        );
        self.shared(cors, "allow_headers", &cors.allow_headers, is_field, field);
        self.shared(
            cors,
            "expose_headers",
            &cors.expose_headers,
            is_field,
            field,
        );
        if let Some(seconds) = cors.max_age {
            let time = Duration::from_secs(seconds.into());
            self.lasts(&["max_age"], time, Duration::ZERO, DAY);
        }
    }

    /// A list of CORS: `fits` says what may stand in it beside `*`, and `wanted` completes "… is not …".
    fn shared(
        &mut self,
        cors: &Cors,
        key: &str,
        list: &[String],
        fits: fn(&str) -> bool,
        wanted: &str,
    ) {
        self.at_most(&[key], list.len(), MAX_NAMES, "entries");
        for (index, entry) in list.iter().enumerate() {
            let key = [key, &index.to_string()];
            if entry == "*" && cors.allow_credentials == Some(true) {
                let message = "with credentials a `*` is no wildcard (Fetch standard): name each";
                self.problem(&key, message);
            } else if entry != "*" && !fits(entry) {
                self.problem(&key, format!("`{entry}` is not {wanted}"));
            }
        }
    }

    fn access(&mut self, access: &Access) {
        self.networks("allow", &access.allow);
        self.networks("deny", &access.deny);
        match &access.countries {
            Countries::All => {}
            Countries::Only(countries) | Countries::Except(countries) => {
                if countries.is_empty() {
                    self.problem(&["countries"], "name at least one country, such as `DE`");
                }
            }
        }
    }

    fn networks(&mut self, key: &str, networks: &[Network]) {
        self.at_most(&[key], networks.len(), MAX_NETWORKS, "networks");
        for (index, network) in networks.iter().enumerate() {
            if networks[..index].contains(network) {
                let key = [key, &index.to_string()];
                self.problem(&key, format!("`{network}` is listed twice"));
            }
        }
    }

    /// Fields that are set: `is_ours` are those that the node sets.
    fn fields<'f>(
        &mut self,
        group: &str,
        fields: impl Iterator<Item = (&'f str, &'f [u8])>,
        is_ours: fn(&str) -> bool,
    ) {
        let mut number = 0;
        for (name, value) in fields {
            number += 1;
            let key = [group, name];
            match name.parse::<HeaderName>() {
                Err(_) => self.problem(&key, "this is not the name of a header field"),
                Ok(name) if is_ours(name.as_str()) => {
                    self.problem(&key, format!("the node sets `{name}`: leave it out"));
                }
                Ok(_) if !is_visible(value) => {
                    self.problem(&key, "the value of a header field is visible ASCII");
                }
                Ok(_) => {}
            }
        }
        self.at_most(&[group], number, MAX_NAMES, "header fields");
    }

    fn at_most(&mut self, key: &[&str], number: usize, most: usize, what: &str) {
        if number > most {
            self.problem(
                key,
                format!("{number} {what} are more than the {most} allowed"),
            );
        }
    }

    fn counts(&mut self, key: &[&str], number: u32, least: u32, most: u32) {
        if !(least..=most).contains(&number) {
            self.problem(key, format!("{number} is not from {least} to {most}"));
        }
    }

    fn lasts(&mut self, key: &[&str], time: Duration, least: Duration, most: Duration) {
        if !(least..=most).contains(&time) {
            let (time, least, most) = (said(time), said(least), said(most));
            self.problem(key, format!("{time} is not from {least} to {most}"));
        }
    }

    /// HTTP counts freshness in seconds.
    fn freshness(&mut self, key: &[&str], time: Duration) {
        self.whole_seconds(key, time);
        self.lasts(key, time, Duration::ZERO, MAX_TTL);
    }

    fn whole_seconds(&mut self, key: &[&str], time: Duration) {
        if time.subsec_nanos() != 0 {
            self.problem(key, format!("{} are not whole seconds", said(time)));
        }
    }
}

/// A duration in its largest whole unit.
fn said(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds == 0 {
        return "0 s".to_owned();
    }
    for (unit, length) in [("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)] {
        if milliseconds.is_multiple_of(length.as_millis()) {
            return format!("{} {unit}", milliseconds / length.as_millis());
        }
    }
    format!("{milliseconds} ms")
}

/// The host of a server's URL, or what is wrong with it.
fn server_host(url: &str) -> Result<String, &'static str> {
    let wanted = "write `http://` or `https://`, a host, perhaps a port, and perhaps a path";
    if url.contains('#') {
        return Err("leave out `#` and what follows it");
    }
    let uri: Uri = url.parse().map_err(|_| wanted)?;
    let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let authority = uri.authority().filter(|_| is_http).ok_or(wanted)?;
    if authority.as_str().contains('@') {
        return Err(
            "leave the user out of the URL: say in `headers` what the origin wants to know",
        );
    }
    if uri.query().is_some() {
        return Err("leave out the query: it is the viewer's");
    }
    if has_dot_segment(uri.path()) {
        return Err("`.` and `..` are not segments");
    }
    let host: HostPattern = authority.host().parse().map_err(|_| wanted)?;
    if host.is_wildcard() {
        return Err("name the host: a `*` is none");
    }
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("a port is a number from 1 to 65535");
    }
    Ok(host.name().to_owned())
}

/// Whether a host is private to see. What a name resolves to is looked at when it is asked.
fn is_private(host: &str) -> bool {
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    let is_private = |address: Ipv4Addr| {
        address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_unspecified()
    };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => match address.to_canonical() {
            IpAddr::V4(address) => is_private(address),
            IpAddr::V6(address) => {
                address == Ipv6Addr::LOCALHOST
                    || address == Ipv6Addr::UNSPECIFIED
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        },
        Err(_) => false,
    }
}

/// An origin as browsers write it in `Origin`: no path, no `/` at the end.
fn is_web_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    text == format!("{scheme}://{authority}")
        && !text.contains(['@', '*'])
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What HTTP libraries agree to send.
fn is_visible(value: &[u8]) -> bool {
    HeaderValue::from_bytes(value).is_ok_and(|value| value.to_str().is_ok())
}

/// Fields that are for one connection, or frame the message.
fn is_of_the_connection(name: &str) -> bool {
    hop::is_for_one(name) || matches!(name, "content-length" | "trailer")
}

/// Fields of a request that the node writes, or acts on.
fn is_of_the_request(name: &str) -> bool {
    is_of_the_connection(name)
        || name.starts_with("x-forwarded-")
        || matches!(
            name,
            "cdn-loop" | "forwarded" | "host" | "via" | "x-real-ip"
        )
        || is_of_the_cache(name)
}

/// Fields of a request by which the cache finds what to answer.
fn is_of_the_cache(name: &str) -> bool {
    name.starts_with("if-") || matches!(name, "accept-encoding" | "cache-control" | "range")
}

/// Fields of a response that the node writes.
fn is_of_the_response(name: &str) -> bool {
    is_of_the_connection(name)
        || matches!(
            name,
            "age" | "content-encoding" | "content-range" | "date" | "via"
        )
}
