//! From an origin's configuration to what sends requests. Whatever is wrong with it comes out here.

use std::{fs, path::Path, sync::Arc};

use http::{
    HeaderName, HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{
    Member, Origin, OriginConfigError, Origins,
    balance::Turns,
    check::Check,
    connect::{Dialer, server_name},
    fields::is_reserved,
    message::{Host, Target},
    server::Server,
};
use crate::{
    dial::{Open, Resolver},
    model::distribution::{self, Ejection, HealthCheck, OriginProtocol, OriginServer, OriginTls},
};

/// Tried servers are bits of a number.
const MAX_SERVERS: usize = u64::BITS as usize;

/// Everything that makes a server another one. What is not here may change under its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ServerKey {
    url: String,
    host: Option<String>,
    protocol: OriginProtocol,
    server_name: Option<String>,
    ca: Option<Vec<u8>>,
    connect: std::time::Duration,
    connections: u32,
    health: Option<HealthCheck>,
    ejection: Ejection,
    private: bool,
}

impl Origin {
    /// The origin for a configuration. Servers that `shared` knows keep their connections and their health.
    ///
    /// To be called in a tokio runtime. Reads the CA file.
    pub fn new(
        name: &str,
        config: &distribution::Origin,
        shared: &Origins,
    ) -> Result<Self, OriginConfigError> {
        check(config)?;
        let ca = config.tls.ca.as_deref().map(read).transpose()?;
        let roots = match &ca {
            Some(pem) => Arc::new(with_roots(&shared.roots, pem)?),
            None => Arc::clone(&shared.roots),
        };
        let mut members = Vec::with_capacity(config.servers.len());
        for (index, server) in config.servers.iter().enumerate() {
            let address = Address::parse(config, server).map_err(|message| {
                OriginConfigError::new(format!("servers[{index}].url"), message)
            })?;
            members.push(Member {
                server: shared.server(address.key(config, &ca), || {
                    address.server(config, &roots, shared)
                })?,
                target: address.target,
                backup: server.backup,
            });
        }
        let weights = |backup| {
            let weight = move |server: &OriginServer| match server.backup == backup {
                true => server.weight,
                false => 0,
            };
            Turns::new(config.servers.iter().map(weight))
        };
        Ok(Self {
            name: name.into(),
            primaries: weights(false),
            backups: weights(true),
            has_backups: config.servers.iter().any(|server| server.backup),
            members,
            timeouts: config.timeouts,
            retries: config.retries,
            failover: config.failover.iter().copied().collect(),
            headers: headers(&config.headers)?,
            forward_host: config.forward_host,
            signature: Arc::clone(&shared.signature),
            retried: 0.into(),
            failed_over: 0.into(),
        })
    }
}

fn check(config: &distribution::Origin) -> Result<(), OriginConfigError> {
    let primary = |server: &OriginServer| !server.backup && server.weight > 0;
    if !config.servers.iter().any(primary) {
        return Err(OriginConfigError::new(
            "servers",
            "there must be one that is no backup and has a weight",
        ));
    }
    if config.servers.len() > MAX_SERVERS {
        return Err(OriginConfigError::new(
            "servers",
            format!("there are more than {MAX_SERVERS}"),
        ));
    }
    for (index, server) in config.servers.iter().enumerate() {
        if server.weight > 1000 {
            return Err(OriginConfigError::new(
                format!("servers[{index}].weight"),
                "it is more than 1000",
            ));
        }
    }
    if config
        .host
        .as_deref()
        .is_some_and(|host| sent_host(host).is_none())
    {
        return Err(OriginConfigError::new("host", "it is no host"));
    }
    if let Some(name) = &config.tls.server_name
        && server_name(name).is_none()
    {
        return Err(OriginConfigError::new("tls.server_name", "it is no name"));
    }
    if config.connections == 0 {
        return Err(OriginConfigError::new("connections", "it is 0"));
    }
    let timeouts = &config.timeouts;
    for (key, timeout) in [
        ("timeouts.connect", timeouts.connect),
        ("timeouts.first_byte", timeouts.first_byte),
        ("timeouts.idle", timeouts.idle),
    ] {
        if timeout.is_zero() {
            return Err(OriginConfigError::new(key, "it is 0"));
        }
    }
    if let Some(health) = &config.health {
        if health.interval.is_zero() {
            return Err(OriginConfigError::new("health.interval", "it is 0"));
        }
        if !health.path.starts_with('/') || PathAndQuery::try_from(health.path.as_str()).is_err() {
            return Err(OriginConfigError::new("health.path", "it is no path"));
        }
    }
    Ok(())
}

fn sent_host(host: &str) -> Option<Host> {
    let authority = Authority::try_from(host).ok()?;
    match authority.as_str().contains('@') {
        true => None,
        false => Host::new(authority),
    }
}

/// A server's URL, taken apart.
struct Address {
    server: Uri,
    target: Target,
    /// For https.
    name: Option<ServerName<'static>>,
}

impl Address {
    fn parse(config: &distribution::Origin, server: &OriginServer) -> Result<Self, String> {
        let uri: Uri = server
            .url
            .parse()
            .map_err(|error| format!("it is no URL: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("it does not begin with http:// or https://".to_owned()),
        };
        if uri.query().is_some() || server.url.contains('#') {
            return Err("it has a query or a fragment".to_owned());
        }
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err("it has no host, or more than a host and a port".to_owned());
        }
        if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
            return Err("its port is no number up to 65535".to_owned());
        }
        let host = match &config.host {
            None => Host::new(authority.clone()),
            Some(host) => sent_host(host),
        };
        let name = match (secure, &config.tls.server_name) {
            (false, _) => None,
            (true, None) => Some(authority.host()),
            (true, Some(name)) => Some(name.as_str()),
        };
        let name = match name {
            Some(name) => Some(server_name(name).ok_or("its host is no name for TLS")?),
            None => None,
        };
        let base = uri.path().trim_end_matches('/').into();
        Ok(Self {
            target: Target {
                scheme: if secure { Scheme::HTTPS } else { Scheme::HTTP },
                host: host.ok_or("its host is no host")?,
                base,
            },
            server: uri,
            name,
        })
    }

    fn key(&self, config: &distribution::Origin, ca: &Option<Vec<u8>>) -> ServerKey {
        let OriginTls { server_name, ca: _ } = &config.tls;
        ServerKey {
            url: self.server.to_string(),
            // Only its checks depend on it.
            host: config.health.as_ref().and(config.host.clone()),
            protocol: config.protocol,
            server_name: server_name.clone(),
            ca: ca.clone(),
            connect: config.timeouts.connect,
            connections: config.connections,
            health: config.health.clone(),
            ejection: config.ejection,
            private: config.private,
        }
    }

    fn server(
        &self,
        config: &distribution::Origin,
        roots: &Arc<RootCertStore>,
        shared: &Origins,
    ) -> Result<Arc<Server>, OriginConfigError> {
        let open = match config.private {
            true => Open::All,
            false => Open::Public,
        };
        let resolver = Resolver::new(Arc::clone(&shared.resolver), open);
        let tls = self.name.clone().map(|name| (name, Arc::clone(roots)));
        let dialer = Dialer::new(
            self.server.clone(),
            resolver,
            tls,
            config.protocol,
            config.timeouts.connect,
        )
        .map_err(|error| OriginConfigError::new("tls", "TLS cannot be used").because(error))?;
        let check = match &config.health {
            Some(health) => Some(Check {
                config: health.clone(),
                target: self.target.clone(),
                path: PathAndQuery::try_from(health.path.as_str()).map_err(|error| {
                    OriginConfigError::new("health.path", "it is no path").because(error)
                })?,
            }),
            None => None,
        };
        Ok(Server::new(
            &self.server.to_string(),
            dialer,
            config.connections,
            config.ejection,
            check,
        ))
    }
}

fn headers(
    fields: &[(String, String)],
) -> Result<Box<[(HeaderName, HeaderValue)]>, OriginConfigError> {
    let field = |(index, (name, value)): (usize, &(String, String))| {
        let wrong = |message| OriginConfigError::new(format!("headers[{index}]"), message);
        let name = HeaderName::try_from(name).map_err(|_| wrong("its name is no field name"))?;
        let value =
            HeaderValue::try_from(value).map_err(|_| wrong("its value has control characters"))?;
        if is_reserved(&name) {
            return Err(wrong("the field is written by the node"));
        }
        Ok((name, value))
    };
    fields.iter().enumerate().map(field).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, OriginConfigError> {
    fs::read(path).map_err(|error| {
        OriginConfigError::new("tls.ca", format!("cannot read {}", path.display())).because(error)
    })
}

fn with_roots(roots: &RootCertStore, pem: &[u8]) -> Result<RootCertStore, OriginConfigError> {
    let mut roots = roots.clone();
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| {
            OriginConfigError::new("tls.ca", "it is no PEM file").because(error)
        })?;
        roots.add(certificate).map_err(|error| {
            OriginConfigError::new("tls.ca", "it has a certificate that is none").because(error)
        })?;
        found = true;
    }
    if !found {
        return Err(OriginConfigError::new("tls.ca", "it has no certificate"));
    }
    Ok(roots)
}
