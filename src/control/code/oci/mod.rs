//! Components from OCI registries, as `wkg`, ORAS and others push them.
//!
//! A tag is looked up once, when a function is deployed; from then on the image is named by the digest that was found.
//! Everything that comes is held against the digest that it was asked by, so who stands between can withhold, and not change.
//! The protocol is the pulling part of the OCI Distribution Specification 1.1.

mod login;
mod manifest;
mod reference;

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use url::{Host, Url};

use super::{
    archive::MAX_UNZIPPED,
    fetch::{Fetch, FetchError, Fetched, Reach},
};
use crate::model::Digest;
use login::Challenge;
use manifest::{Manifest, Next};
use reference::Reference;

/// The largest manifest that registries have to take (OCI Distribution Specification 1.1, "Pushing Manifests").
const MAX_MANIFEST: u64 = 4 << 20;

/// The largest answer of who gives out tokens.
const MAX_TOKEN: u64 = 64 << 10;

/// The registry behind the name `docker.io`.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Which registries a node uses, and how.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// Registries that may be called in clear text, or at addresses that are not public: `http://registry.internal:5000`.
    /// Loopback addresses need not be named.
    pub named: Vec<Url>,
    /// A file of users and passwords, as `docker login` writes it. It is read whenever a registry wants to know who asks.
    pub credentials: Option<PathBuf>,
}

/// A component from a registry.
#[derive(Debug, Clone)]
pub struct Image {
    /// The component.
    pub component: Bytes,
    /// The SHA-256 of the manifest that the name stood for.
    pub digest: Digest,
    /// The name with that digest in place of a tag (Lambda: `ResolvedImageUri`).
    pub resolved: String,
}

/// Why there is no component. Where Lambda has words for it, they are Lambda's.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is no name of an image.
    #[error(
        "Source image {0} is not valid. Provide a valid source image: REGISTRY/REPOSITORY, and :TAG or @sha256:DIGEST."
    )]
    Name(String),
    /// The registry has none of that name.
    #[error("Source image {0} does not exist. Provide a valid source image.")]
    Missing(String),
    /// The registry does not let the node in.
    #[error("The node does not have permission to access the image {image}: {problem}")]
    Denied {
        /// The image.
        image: String,
        /// What was tried.
        problem: String,
    },
    /// It holds something else.
    #[error("Source image {image} is not valid: it {problem}")]
    Content {
        /// The image.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry did not answer, or not as registries do.
    #[error("Source image {image} cannot be fetched: {problem}")]
    Unreachable {
        /// The image.
        image: String,
        /// What went wrong.
        problem: String,
    },
}

/// Registries, as a node reaches them. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    settings: RegistrySettings,
    fetch: Fetch,
}

impl Registries {
    /// Registries under these settings.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(settings: RegistrySettings) -> Result<Self, rustls::Error> {
        Ok(Self {
            settings,
            fetch: Fetch::new()?,
        })
    }

    /// The component of an image.
    ///
    /// # Errors
    ///
    /// It is not there, may not be had, or is none.
    pub async fn pull(&self, image: &str) -> Result<Image, ImageError> {
        let shown: String = image.chars().take(300).collect();
        let reference = Reference::parse(image).ok_or_else(|| ImageError::Name(shown.clone()))?;
        let mut pull = Pull {
            registries: self,
            base: self.base(&reference.registry, &shown)?,
            reference: &reference,
            image: shown,
            authorization: None,
        };
        let (mut manifest, digest) = pull.manifest(&reference.wanted(), reference.digest).await?;
        // An index leads to manifests, and not to another index.
        for _ in 0..2 {
            let next = manifest.next().map_err(|problem| pull.content(problem))?;
            match next {
                Next::Manifest(found) => {
                    let wanted = found.digest().ok_or_else(|| pull.other_digest())?;
                    let name = format!("sha256:{wanted}");
                    manifest = pull.manifest(&name, Some(wanted)).await?.0;
                }
                Next::Component(found) => {
                    let wanted = found.digest().ok_or_else(|| pull.other_digest())?;
                    return Ok(Image {
                        component: pull.blob(wanted, found.size).await?,
                        digest,
                        resolved: reference.pinned(&digest),
                    });
                }
            }
        }
        Err(pull.content("is an index of indexes".to_owned()))
    }

    /// Where a registry is. In clear text only where the operator said so, or nobody can listen.
    fn base(&self, registry: &str, image: &str) -> Result<Url, ImageError> {
        let invalid = |_| ImageError::Name(image.to_owned());
        let host = match registry {
            DOCKER_HUB => DOCKER_HUB_HOST,
            other => other,
        };
        let https = Url::parse(&format!("https://{host}/v2/")).map_err(invalid)?;
        let http = Url::parse(&format!("http://{host}/v2/")).map_err(invalid)?;
        let named = |url: &Url| {
            let mut named = self.settings.named.iter();
            named.any(|named| named.origin() == url.origin())
        };
        let clear = !named(&https) && (named(&http) || is_loopback(&http));
        Ok(if clear { http } else { https })
    }

    /// What an address may lead to that a registry names, where `base` is the registry. This machine's own addresses are
    /// for registries on it, and not for others to send the node to.
    fn reach(&self, base: &Url, url: &Url) -> Reach {
        let mut named = self.settings.named.iter();
        let own = is_loopback(base) && is_loopback(url);
        match own || named.any(|named| named.origin() == url.origin()) {
            true => Reach::Named,
            false => Reach::Public,
        }
    }
}

/// Whether an address says by itself that it is this machine's own.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// One image being fetched.
struct Pull<'a> {
    registries: &'a Registries,
    reference: &'a Reference,
    base: Url,
    /// The name as it was given.
    image: String,
    /// What the registry wanted to see.
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Pull<'_> {
    /// A manifest, and the digest that it has. With `digest`, it has that one.
    async fn manifest(
        &mut self,
        name: &str,
        digest: Option<Digest>,
    ) -> Result<(Manifest, Digest), ImageError> {
        let body = self
            .get(
                &format!("manifests/{name}"),
                manifest::ACCEPTED,
                MAX_MANIFEST,
            )
            .await?;
        let found = Digest::of(&body);
        if digest.is_some_and(|digest| digest != found) {
            return Err(self.content("is not what its digest says".to_owned()));
        }
        let manifest = serde_json::from_slice(&body)
            .map_err(|_| self.content("has a manifest that is none".to_owned()))?;
        Ok((manifest, found))
    }

    async fn blob(&mut self, digest: Digest, size: u64) -> Result<Bytes, ImageError> {
        if size > MAX_UNZIPPED {
            return Err(self.content(format!("is larger than {MAX_UNZIPPED} bytes")));
        }
        let body = self
            .get(&format!("blobs/sha256:{digest}"), "*/*", size)
            .await?;
        let (body, found) = tokio::task::spawn_blocking(move || {
            let found = Digest::of(&body);
            (body, found)
        })
        .await
        .map_err(|error| self.unreachable(error.to_string()))?;
        if found != digest || body.len() as u64 != size {
            return Err(self.content("is not what its digest says".to_owned()));
        }
        Ok(body)
    }

    /// What the registry has below the repository. It is asked who it wants to answer to, once.
    async fn get(
        &mut self,
        below: &str,
        accept: &'static str,
        limit: u64,
    ) -> Result<Bytes, ImageError> {
        let path = format!("{}/{below}", self.reference.repository);
        let url = self.base.join(&path);
        let url = url.map_err(|_| ImageError::Name(self.image.clone()))?;
        let mut fetched = self.once(&url, accept, limit).await?;
        if fetched.status == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorization = Some(self.log_in(&fetched.headers).await?);
            fetched = self.once(&url, accept, limit).await?;
        }
        match fetched.status {
            StatusCode::OK => Ok(fetched.body),
            StatusCode::NOT_FOUND => Err(ImageError::Missing(self.image.clone())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.denied(format!("{} refuses it", self.reference.registry)))
            }
            status => Err(self.unreachable(format!("{} says {status}", self.reference.registry))),
        }
    }

    async fn once(
        &self,
        url: &Url,
        accept: &'static str,
        limit: u64,
    ) -> Result<Fetched, ImageError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        self.fetch(url.clone(), headers, limit).await
    }

    async fn fetch(&self, url: Url, headers: HeaderMap, limit: u64) -> Result<Fetched, ImageError> {
        let reach = |url: &Url| self.registries.reach(&self.base, url);
        let fetched = self.registries.fetch.get(url, headers, &reach, limit);
        fetched.await.map_err(|error| match error {
            FetchError::TooLarge { .. } => {
                self.content(format!("holds more than it says, or than it may: {error}"))
            }
            FetchError::Unreachable { .. } | FetchError::Timeout(_) | FetchError::Refused(_) => {
                self.unreachable(error.to_string())
            }
        })
    }

    /// What the registry wants to see, from what it asked for.
    async fn log_in(&self, asked: &HeaderMap) -> Result<HeaderValue, ImageError> {
        let registry = &self.reference.registry;
        let challenge = Challenge::read(asked)
            .ok_or_else(|| self.denied(format!("{registry} wants what the node does not know")))?;
        let basic = match &self.registries.settings.credentials {
            Some(file) => {
                let (path, name) = (file.clone(), registry.clone());
                let read = tokio::task::spawn_blocking(move || login::basic(&path, &name)).await;
                let read = read.unwrap_or_else(|error| Err(error.to_string()));
                read.map_err(|problem| {
                    self.denied(format!("the credentials in {}: {problem}", file.display()))
                })?
            }
            None => None,
        };
        let (realm, service, scope) = match (challenge, basic.as_ref()) {
            (Challenge::Basic, Some(basic)) => return Ok(basic.clone()),
            (Challenge::Basic, None) => {
                return Err(self.denied(format!(
                    "{registry} wants a user, and the node has none for it (--registry-credentials)"
                )));
            }
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                _,
            ) => (realm, service, scope),
        };
        let mut url = Url::parse(&realm)
            .map_err(|_| self.denied(format!("{registry} gives out tokens nowhere")))?;
        let pull = format!("repository:{}:pull", self.reference.repository);
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope.as_deref().unwrap_or(&pull));
        }
        let mut headers = HeaderMap::new();
        if let Some(basic) = basic {
            headers.insert(header::AUTHORIZATION, basic);
        }
        let fetched = self.fetch(url, headers, MAX_TOKEN).await?;
        if fetched.status != StatusCode::OK {
            return Err(self.denied(format!("{registry} gives out no token")));
        }
        let token: Option<Token> = serde_json::from_slice(&fetched.body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token
            .and_then(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            })
            .ok_or_else(|| self.denied(format!("{registry} gives out a token that is none")))
    }

    fn content(&self, problem: String) -> ImageError {
        ImageError::Content {
            image: self.image.clone(),
            problem,
        }
    }

    fn other_digest(&self) -> ImageError {
        self.content("is named by a digest that is not SHA-256".to_owned())
    }

    fn denied(&self, problem: String) -> ImageError {
        ImageError::Denied {
            image: self.image.clone(),
            problem,
        }
    }

    fn unreachable(&self, problem: String) -> ImageError {
        ImageError::Unreachable {
            image: self.image.clone(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(named: &[&str]) -> Registries {
        let named = named.iter().map(|url| url.parse().unwrap()).collect();
        Registries::new(RegistrySettings {
            named,
            credentials: None,
        })
        .unwrap()
    }

    #[test]
    fn a_registry_is_called_in_clear_text_only_where_that_was_allowed() {
        let registries = registries(&["http://reg.internal:5000", "https://127.0.0.1:5443"]);
        for (registry, expected) in [
            ("ghcr.io", "https://ghcr.io/v2/"),
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("reg.internal:5000", "http://reg.internal:5000/v2/"),
            ("reg.internal:5001", "https://reg.internal:5001/v2/"),
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("localhost.example.com", "https://localhost.example.com/v2/"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("127.0.0.1:5443", "https://127.0.0.1:5443/v2/"),
            ("10.0.0.1", "https://10.0.0.1/v2/"),
        ] {
            let base = registries.base(registry, "").unwrap();
            assert_eq!(base.as_str(), expected);
        }
    }

    #[test]
    fn only_a_registry_on_this_machine_leads_to_this_machine() {
        let registries = registries(&["http://reg.internal:5000"]);
        for (base, url, expected) in [
            (
                "https://ghcr.io/v2/",
                "https://elsewhere.com/x",
                Reach::Public,
            ),
            ("https://ghcr.io/v2/", "http://127.0.0.1/x", Reach::Public),
            ("https://ghcr.io/v2/", "http://localhost/x", Reach::Public),
            ("https://ghcr.io/v2/", "https://[::1]/x", Reach::Public),
            (
                "http://localhost:5000/v2/",
                "http://127.0.0.1:9/x",
                Reach::Named,
            ),
            (
                "http://localhost:5000/v2/",
                "https://10.0.0.1/x",
                Reach::Public,
            ),
            (
                "https://ghcr.io/v2/",
                "http://reg.internal:5000/x",
                Reach::Named,
            ),
            (
                "https://ghcr.io/v2/",
                "http://reg.internal/x",
                Reach::Public,
            ),
        ] {
            let reach = registries.reach(&base.parse().unwrap(), &url.parse().unwrap());
            assert_eq!(reach, expected, "{base} {url}");
        }
    }
}
