//! The distributions of a manifest: from tables to values, and what the rest of the manifest has to say to them.
//!
//! What is wrong within one is found by [`Distribution::problems`], which speaks of the same keys; here is only what a
//! value could not hold, and what is between a distribution and functions, routes and other distributions.

mod table;

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, Method};

use super::{
    super::{
        CachePolicy, Certificate, CertificateFiles, Compression, Cors, Distribution,
        DistributionName, FunctionName, HostPattern, KeyPolicy, Parts, RateLimit, Route, Ttl,
        distribution::{
            Access, Behaviour, Countries, Ejection, FrameOptions, HealthCheck, Hook, Hooks, Hsts,
            OnFailure, Origin, OriginServer, OriginTimeouts, OriginTls, ReferrerPolicy,
            ResponseHeaders, SecurityHeaders, Target,
        },
    },
    Check, ManifestFunction,
    value::Time,
};
pub(super) use table::DistributionTable;
use table::{
    AccessTable, AutomaticWord, BehaviourTable, CacheTable, Choice, CompressTable, CorsTable,
    CountryName, EjectionTable, FrameWord, HealthTable, HookName, HookTable, HooksTable, HstsTable,
    Named, OnFailureWord, OriginTable, RateLimitTable, ReferrerWord, ResponseHeadersTable,
    SecurityTable, ServerTable, Switch, TimeoutsTable, TlsTable,
};

impl Check<'_> {
    /// The files of the distributions' own certificates.
    pub(super) fn certificates(
        &self,
        tables: &BTreeMap<DistributionName, DistributionTable>,
    ) -> BTreeMap<DistributionName, CertificateFiles> {
        let files = tables.iter().filter_map(|(name, table)| {
            let Some(Named::Table(table)) = &table.certificate else {
                return None;
            };
            let files = CertificateFiles {
                chain: self.folder.join(&table.chain),
                key: self.folder.join(&table.key),
            };
            Some((name.clone(), files))
        });
        files.collect()
    }

    /// The distributions, with what is wrong between them and the functions and routes.
    pub(super) fn distributions(
        &mut self,
        tables: BTreeMap<DistributionName, DistributionTable>,
        functions: &BTreeMap<FunctionName, ManifestFunction>,
        routes: &[(usize, Route)],
    ) -> BTreeMap<DistributionName, Distribution> {
        let mut distributions = BTreeMap::new();
        let mut owners: BTreeMap<String, DistributionName> = BTreeMap::new();
        for (name, table) in tables {
            let distribution = self.distribution(&name, table);
            for (key, function, _) in distribution.functions() {
                let key = within(&["distributions", name.as_str()], &key);
                self.function_is_there(&key, function, functions);
            }
            for invalid in distribution.problems() {
                let key = within(&["distributions", name.as_str()], &invalid.key);
                self.problem(&key, invalid.problem);
            }
            for (index, host) in distribution.hosts.iter().enumerate() {
                match owners.get(&host.to_string()) {
                    // Twice in one distribution is its own problem.
                    Some(owner) if *owner == name => {}
                    Some(owner) => {
                        let message =
                            format!("`{host}` is a host of the distribution `{owner}` too");
                        let index = index.to_string();
                        let key = ["distributions", name.as_str(), "hosts", &index];
                        self.problem(&key, message);
                    }
                    None => {
                        owners.insert(host.to_string(), name.clone());
                    }
                }
            }
            distributions.insert(name, distribution);
        }
        for (index, route) in routes {
            let host = route.pattern.host.as_ref().map(HostPattern::to_string);
            if let Some(host) = host
                && let Some(owner) = owners.get(&host)
            {
                let message = format!(
                    "`{host}` is a host of the distribution `{owner}`, which has all its paths: make the route a \
                     behaviour there"
                );
                self.problem(&["routes", &index.to_string(), "host"], message);
            }
        }
        distributions
    }

    fn distribution(&mut self, name: &DistributionName, table: DistributionTable) -> Distribution {
        let at = ["distributions", name.as_str()];
        let mut origins = BTreeMap::new();
        for (origin, table) in table.origins {
            let key = within(&at, &["origins", &origin]);
            let value = self.origin(&key, table);
            origins.insert(origin, value);
        }
        let mut behaviours = Vec::new();
        for (index, table) in table.behaviours.into_iter().enumerate() {
            let key = within(&at, &["behaviours", &index.to_string()]);
            behaviours.push(self.behaviour(&key, table));
        }
        Distribution {
            name: name.clone(),
            hosts: table.hosts.into_iter().map(|host| host.0).collect(),
            // That of files is put there when they are read.
            certificate: match table.certificate {
                Some(Named::Text(AutomaticWord::Automatic)) => Some(Certificate::Automatic),
                Some(Named::Table(_)) | None => None,
            },
            origins,
            behaviours,
            default: self.behaviour(&within(&at, &["default"]), table.default),
        }
    }

    fn origin(&mut self, key: &[String], table: OriginTable) -> Origin {
        let default = Origin::default();
        let mut failover = default.failover;
        for (index, status) in table.failover.into_iter().enumerate() {
            if !failover.insert(status) {
                let key = within(key, &["failover", &index.to_string()]);
                self.problem(&key, format!("{status} is listed twice"));
            }
        }
        Origin {
            servers: table.servers.into_iter().map(server).collect(),
            host: table.host,
            forward_host: table.forward_host,
            protocol: table.protocol,
            tls: table.tls.map_or(default.tls, |table| self.tls(table)),
            timeouts: table.timeouts.map_or(default.timeouts, timeouts),
            retries: table.retries.unwrap_or(default.retries),
            connections: table.connections.unwrap_or(default.connections),
            health: table.health.map(health),
            ejection: table.ejection.map_or(default.ejection, ejection),
            failover,
            headers: table.headers.into_iter().collect(),
            private: table.private,
        }
    }

    fn tls(&self, table: TlsTable) -> OriginTls {
        OriginTls {
            server_name: table.server_name,
            ca: table.ca.map(|path| self.folder.join(path)),
        }
    }

    fn behaviour(&mut self, key: &[String], table: BehaviourTable) -> Behaviour {
        let target = match (table.origin, table.function) {
            (Some(origin), None) => Target::Origin(origin),
            (None, Some(function)) => Target::Function(function),
            (Some(origin), Some(_)) => {
                let message = "one answers: keep one of `origin` and `function`";
                self.problem(key, message);
                Target::Origin(origin)
            }
            // That it names none is found with the rest.
            (None, None) => Target::Origin(String::new()),
        };
        let default = Behaviour::new(target);
        let methods = match table.methods {
            Some(texts) => self.behaviour_methods(key, texts),
            None => default.methods,
        };
        Behaviour {
            path: table.path,
            target: default.target,
            methods,
            cache: match table.cache {
                Some(Switch::Table(table)) => self.cache(&within(key, &["cache"]), table),
                Some(Switch::Word(enabled)) => CachePolicy {
                    enabled,
                    ..default.cache
                },
                None => default.cache,
            },
            compress: match table.compress {
                Some(Switch::Table(table)) => compression(table),
                Some(Switch::Word(true)) => Compression::on(),
                Some(Switch::Word(false)) | None => default.compress,
            },
            hooks: hooks(table.hooks),
            response_headers: self
                .response_headers(&within(key, &["response_headers"]), table.response_headers),
            timeout: table.timeout.map_or(default.timeout, |time| time.0),
            request_body: table
                .request_body
                .map_or(default.request_body, |size| size.0),
            rate_limit: table.rate_limit.map(rate_limit),
            access: self.access(&within(key, &["access"]), table.access),
            redirect_to_https: table.redirect_to_https,
            websockets: table.websockets,
        }
    }

    fn behaviour_methods(&mut self, key: &[String], texts: Vec<String>) -> Vec<Method> {
        let is_empty = texts.is_empty();
        let methods = self.methods(&within(key, &["methods"]), texts);
        match methods.is_empty() && !is_empty {
            // None was right, which was said: that there is none is no second problem.
            true => vec![Method::GET],
            false => methods,
        }
    }

    fn cache(&mut self, key: &[String], table: CacheTable) -> CachePolicy {
        let default = CachePolicy::default();
        let mut negative = BTreeMap::new();
        for (text, time) in table.negative {
            match text.parse() {
                Ok(status) => {
                    negative.insert(status, time.0);
                }
                Err(_) => {
                    let key = within(key, &["negative", &text]);
                    let message = format!("`{text}` is not a status, such as 404");
                    self.problem(&key, message);
                }
            }
        }
        let ttl = Ttl {
            minimum: or(table.minimum, default.ttl.minimum),
            default: or(table.default, default.ttl.default),
            maximum: or(table.maximum, default.ttl.maximum),
        };
        let lower = |name: String| name.to_ascii_lowercase();
        CachePolicy {
            enabled: true,
            ttl,
            key: KeyPolicy {
                headers: table.headers.into_iter().map(lower).collect(),
                query: table.query.map_or(default.key.query, parts),
                cookies: table.cookies.map_or(default.key.cookies, parts),
            },
            negative,
            stale_while_revalidate: or(
                table.stale_while_revalidate,
                default.stale_while_revalidate,
            ),
            stale_if_error: or(table.stale_if_error, default.stale_if_error),
            max_object: table.max_object.map_or(default.max_object, |size| size.0),
            ignore_client: table.ignore_client,
            expose_tags: table.expose_tags,
        }
    }

    fn response_headers(&mut self, key: &[String], table: ResponseHeadersTable) -> ResponseHeaders {
        let mut set = HeaderMap::new();
        for (text, value) in &table.set {
            let key = within(key, &["set", text]);
            let Some((name, value)) = self.field(&key, text, value) else {
                continue;
            };
            if set.contains_key(&name) {
                self.problem(&key, format!("`{name}` is listed twice"));
            }
            set.append(name, value);
        }
        let mut remove = Vec::new();
        for (index, text) in table.remove.iter().enumerate() {
            match text.parse::<HeaderName>() {
                Ok(name) => remove.push(name),
                Err(_) => {
                    let key = within(key, &["remove", &index.to_string()]);
                    self.problem(&key, "this is not the name of a header field");
                }
            }
        }
        ResponseHeaders {
            security: match table.security {
                Some(Switch::Table(table)) => Some(security(table)),
                Some(Switch::Word(true)) => Some(SecurityHeaders::default()),
                Some(Switch::Word(false)) | None => None,
            },
            cors: table
                .cors
                .map(|table| self.cors(&within(key, &["cors"]), table)),
            remove,
            set,
        }
    }

    fn cors(&mut self, key: &[String], table: CorsTable) -> Cors {
        let max_age = table.max_age.map(|time| {
            if time.0.subsec_nanos() != 0 {
                let key = within(key, &["max_age"]);
                self.problem(&key, "a browser counts in whole seconds");
            }
            u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX)
        });
        Cors {
            allow_credentials: table.allow_credentials.then_some(true),
            allow_headers: table.allow_headers,
            allow_methods: table.allow_methods,
            allow_origins: table.allow_origins,
            expose_headers: table.expose_headers,
            max_age,
        }
    }

    fn access(&mut self, key: &[String], table: AccessTable) -> Access {
        let codes = |names: Vec<CountryName>| names.into_iter().map(|name| name.0).collect();
        let countries = match table.countries {
            Some(Choice::Only(names)) => Countries::Only(codes(names)),
            Some(Choice::Except(table)) => Countries::Except(codes(table.except)),
            Some(Choice::Word(false)) => {
                let key = within(key, &["countries"]);
                self.problem(&key, "name the countries that may ask, such as [\"DE\"]");
                Countries::All
            }
            Some(Choice::Word(true)) | None => Countries::All,
        };
        Access {
            allow: table.allow.into_iter().map(|network| network.0).collect(),
            deny: table.deny.into_iter().map(|network| network.0).collect(),
            countries,
        }
    }
}

/// A longer key.
fn within<'a>(key: &'a [impl AsRef<str>], rest: &'a [impl AsRef<str>]) -> Vec<String> {
    let rest = rest.iter().map(|part| part.as_ref().to_owned());
    key.iter()
        .map(|part| part.as_ref().to_owned())
        .chain(rest)
        .collect()
}

fn or(time: Option<Time>, default: Duration) -> Duration {
    time.map_or(default, |time| time.0)
}

fn server(written: Named<String, ServerTable>) -> OriginServer {
    let (url, weight, backup) = match written {
        Named::Text(url) => (url, None, false),
        Named::Table(table) => (table.url, table.weight, table.backup),
    };
    OriginServer {
        url,
        weight: weight.unwrap_or(1),
        backup,
    }
}

fn timeouts(table: TimeoutsTable) -> OriginTimeouts {
    let default = OriginTimeouts::default();
    OriginTimeouts {
        connect: or(table.connect, default.connect),
        first_byte: or(table.first_byte, default.first_byte),
        idle: or(table.idle, default.idle),
    }
}

fn health(table: HealthTable) -> HealthCheck {
    let default = HealthCheck::default();
    HealthCheck {
        path: table.path,
        interval: or(table.interval, default.interval),
        timeout: or(table.timeout, default.timeout),
        healthy: table.healthy.unwrap_or(default.healthy),
        unhealthy: table.unhealthy.unwrap_or(default.unhealthy),
        statuses: table.statuses.map_or(default.statuses, |range| range.0),
    }
}

fn ejection(table: EjectionTable) -> Ejection {
    let default = Ejection::default();
    Ejection {
        failures: table.failures.unwrap_or(default.failures),
        duration: or(table.duration, default.duration),
        maximum: or(table.maximum, default.maximum),
    }
}

fn parts(choice: Choice<String>) -> Parts {
    match choice {
        Choice::Word(true) => Parts::All,
        Choice::Word(false) => Parts::None,
        Choice::Only(names) if names.is_empty() => Parts::None,
        Choice::Only(names) => Parts::Only(names.into_iter().collect()),
        Choice::Except(table) if table.except.is_empty() => Parts::All,
        Choice::Except(table) => Parts::Except(table.except.into_iter().collect()),
    }
}

fn compression(table: CompressTable) -> Compression {
    let on = Compression::on();
    Compression {
        codings: table.codings.unwrap_or(on.codings),
        minimum: table.minimum.map_or(on.minimum, |size| size.0),
        types: match table.types {
            Some(types) => types.iter().map(|text| text.to_ascii_lowercase()).collect(),
            None => on.types,
        },
    }
}

fn hooks(table: HooksTable) -> Hooks {
    let hook = |written| match written {
        Named::Text(HookName(function)) => Hook {
            function,
            on_failure: OnFailure::default(),
            body: None,
        },
        Named::Table(HookTable {
            function,
            on_failure,
            body,
        }) => Hook {
            function,
            on_failure: match on_failure {
                OnFailureWord::Fail => OnFailure::Fail,
                OnFailureWord::Bypass => OnFailure::Bypass,
            },
            body: body.map(|size| size.0),
        },
    };
    let hooks = |written: Vec<_>| written.into_iter().map(hook).collect();
    Hooks {
        viewer_request: hooks(table.viewer_request),
        origin_request: hooks(table.origin_request),
        origin_response: hooks(table.origin_response),
        viewer_response: hooks(table.viewer_response),
        transform: table.transform.into_iter().map(|name| name.0).collect(),
    }
}

fn security(table: SecurityTable) -> SecurityHeaders {
    let default = SecurityHeaders::default();
    SecurityHeaders {
        hsts: match table.hsts {
            Some(Switch::Table(table)) => Some(hsts(table)),
            Some(Switch::Word(true)) | None => default.hsts,
            Some(Switch::Word(false)) => None,
        },
        nosniff: table.nosniff.unwrap_or(default.nosniff),
        frame_options: match table.frame_options {
            Some(FrameWord::Deny) => Some(FrameOptions::Deny),
            Some(FrameWord::Sameorigin) => Some(FrameOptions::Sameorigin),
            Some(FrameWord::Off) => None,
            None => default.frame_options,
        },
        referrer_policy: match table.referrer_policy {
            Some(word) => referrer_policy(word),
            None => default.referrer_policy,
        },
        content_security_policy: table.content_security_policy,
    }
}

fn hsts(table: HstsTable) -> Hsts {
    Hsts {
        max_age: or(table.max_age, Hsts::default().max_age),
        subdomains: table.subdomains,
        preload: table.preload,
    }
}

fn referrer_policy(word: ReferrerWord) -> Option<ReferrerPolicy> {
    Some(match word {
        ReferrerWord::NoReferrer => ReferrerPolicy::NoReferrer,
        ReferrerWord::NoReferrerWhenDowngrade => ReferrerPolicy::NoReferrerWhenDowngrade,
        ReferrerWord::Origin => ReferrerPolicy::Origin,
        ReferrerWord::OriginWhenCrossOrigin => ReferrerPolicy::OriginWhenCrossOrigin,
        ReferrerWord::SameOrigin => ReferrerPolicy::SameOrigin,
        ReferrerWord::StrictOrigin => ReferrerPolicy::StrictOrigin,
        ReferrerWord::StrictOriginWhenCrossOrigin => ReferrerPolicy::StrictOriginWhenCrossOrigin,
        ReferrerWord::UnsafeUrl => ReferrerPolicy::UnsafeUrl,
        ReferrerWord::Off => return None,
    })
}

fn rate_limit(table: RateLimitTable) -> RateLimit {
    RateLimit {
        requests: table.requests,
        per: or(table.per, Duration::from_secs(1)),
        burst: table.burst.unwrap_or(table.requests),
    }
}
