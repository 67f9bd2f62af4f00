//! The API's client: what the command line uses, and nothing that others could not.

use std::{fmt, io, path::Path};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::{Method, Request, StatusCode, Uri, header, uri::InvalidUri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;

use super::{
    Token,
    api::{
        AddUser, AddedUser, CacheSummary, Deploy, Deployed, DistributionSummary, FunctionSummary,
        NodeSummary, Problem, PurgeRequest, Purged, UserSummary,
    },
};
use crate::{
    model::Digest,
    telemetry::logs::{LogLine, TailFrom},
};

/// A client of one node's API.
#[derive(Clone)]
pub struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    base: String,
    token: Token,
}

/// Why a request to the API gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no node answers at {base}; start one with `wharf serve`, or name another with --api")]
    Unreachable {
        /// Where it was looked for.
        base: String,
        /// Why it could not be reached.
        source: hyper_util::client::legacy::Error,
    },
    /// The node's token cannot be read.
    #[error("cannot read the API's token {path}; is the node's data folder another one (--data)?")]
    Token {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The address is none.
    #[error("`{address}` is not the address of an API, such as http://127.0.0.1:9080")]
    Address {
        /// What was given.
        address: String,
    },
    /// The node said no.
    #[error("{0}")]
    Refused(String),
    /// The answer broke off, or is not what an API says.
    #[error("the node's answer makes no sense: {0}")]
    Answer(String),
}

impl From<InvalidUri> for ClientError {
    fn from(error: InvalidUri) -> Self {
        Self::Answer(error.to_string())
    }
}

/// The answer of an invocation.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// The id of the invocation, which is in its log lines.
    pub request_id: Option<String>,
    /// The JSON that the function answered with, or the error document.
    pub payload: Bytes,
    /// Whether it is an error document (`X-Amz-Function-Error`).
    pub function_error: Option<String>,
    /// The end of the invocation's log, if it was asked for.
    pub log: Option<String>,
}

impl Client {
    /// A client of the API at `base`, such as `http://127.0.0.1:9080`.
    ///
    /// # Errors
    ///
    /// The address is none.
    pub fn new(base: &str, token: Token) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") {
            base.to_owned()
        } else {
            format!("http://{base}")
        };
        let valid = base.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http")
                && uri.authority().is_some()
                && matches!(uri.path(), "" | "/")
        });
        if !valid {
            return Err(ClientError::Address { address: base });
        }
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Ok(Self { http, base, token })
    }

    /// Reads the token of the node whose data is in `data`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn token(data: &Path) -> Result<Token, ClientError> {
        Token::read(data).map_err(|source| ClientError::Token {
            path: data.join(super::TOKEN_FILE).display().to_string(),
            source,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, self.token.authorization());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        self.http
            .request(request)
            .await
            .map_err(|source| ClientError::Unreachable {
                base: self.base.clone(),
                source,
            })
    }

    /// The whole body of a good answer, or what the node said against it.
    async fn read(response: http::Response<Incoming>) -> Result<Bytes, ClientError> {
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body
            .map_err(|error| ClientError::Answer(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(ClientError::Refused(
            match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => problem.message,
                Err(_) => format!(
                    "the node answered {status}: {}",
                    String::from_utf8_lossy(&body)
                ),
            },
        ))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let body = Self::read(self.send(method, path, &[], body).await?).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// What the node is.
    ///
    /// # Errors
    ///
    /// It cannot be reached or refuses.
    pub async fn node(&self) -> Result<NodeSummary, ClientError> {
        self.json(Method::GET, "/wharf/v1/node", Bytes::new()).await
    }

    /// Uploads a component, unless the node has it. Gives its digest.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses.
    pub async fn upload(&self, component: Bytes) -> Result<Digest, ClientError> {
        let code = Digest::of(&component);
        let path = format!("/wharf/v1/blobs/{code}");
        let present = self.send(Method::HEAD, &path, &[], Bytes::new()).await?;
        if present.status() == StatusCode::NOT_FOUND {
            Self::read(self.send(Method::PUT, &path, &[], component).await?).await?;
        } else if !present.status().is_success() {
            // The answer to HEAD has no message; the same GET-like question has.
            Self::read(self.send(Method::PUT, &path, &[], component).await?).await?;
        }
        Ok(code)
    }

    /// Deploys functions and routes. Returns when they are served.
    ///
    /// # Errors
    ///
    /// The node cannot be reached, or refuses: the message says which function and why.
    pub async fn deploy(&self, deploy: &Deploy) -> Result<Deployed, ClientError> {
        let body =
            serde_json::to_vec(deploy).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.json(Method::POST, "/wharf/v1/deployments", body.into())
            .await
    }

    /// All functions, by name.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses.
    pub async fn functions(&self) -> Result<Vec<FunctionSummary>, ClientError> {
        self.json(Method::GET, "/wharf/v1/functions", Bytes::new())
            .await
    }

    /// Removes a function.
    ///
    /// # Errors
    ///
    /// There is none of that name, or the node cannot be reached.
    pub async fn remove(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/wharf/v1/functions/{name}");
        Self::read(self.send(Method::DELETE, &path, &[], Bytes::new()).await?).await?;
        Ok(())
    }

    /// The state of the node in one archive: its size, and its bytes as they come. `key` and `credentials` say whether the
    /// node's key and the API's credentials are to be in it.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses: its disk may be full. An archive that breaks off ends with an error.
    pub async fn backup(
        &self,
        key: bool,
        credentials: bool,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes, ClientError>> + use<>), ClientError> {
        let path = format!("/wharf/v1/backup?key={key}&credentials={credentials}");
        let response = self.send(Method::GET, &path, &[], Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(Self::read(response)
                .await
                .err()
                .unwrap_or(ClientError::Answer("no archive".to_owned())));
        }
        let body = response.into_body();
        let size = hyper::body::Body::size_hint(&body).exact();
        let size = size.ok_or_else(|| ClientError::Answer("no size".to_owned()))?;
        let bytes = body.into_data_stream();
        let bytes = bytes.map_err(|error| ClientError::Answer(error.to_string()));
        Ok((size, bytes))
    }

    /// All distributions, by name.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses.
    pub async fn distributions(&self) -> Result<Vec<DistributionSummary>, ClientError> {
        self.json(Method::GET, "/wharf/v1/distributions", Bytes::new())
            .await
    }

    /// Removes a distribution, and what the cache has of it.
    ///
    /// # Errors
    ///
    /// There is none of that name, or the node cannot be reached.
    pub async fn remove_distribution(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/wharf/v1/distributions/{name}");
        Self::read(self.send(Method::DELETE, &path, &[], Bytes::new()).await?).await?;
        Ok(())
    }

    /// Has the cache give up what it has of a distribution.
    ///
    /// # Errors
    ///
    /// There is none of that name, or the node cannot be reached.
    pub async fn purge(&self, name: &str, what: &PurgeRequest) -> Result<Purged, ClientError> {
        let body =
            serde_json::to_vec(what).map_err(|error| ClientError::Answer(error.to_string()))?;
        let path = format!("/wharf/v1/distributions/{name}/purge");
        self.json(Method::POST, &path, body.into()).await
    }

    /// What the cache holds and did.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses.
    pub async fn cache(&self) -> Result<CacheSummary, ClientError> {
        self.json(Method::GET, "/wharf/v1/cache", Bytes::new())
            .await
    }

    /// Everybody who has access keys, by name.
    ///
    /// # Errors
    ///
    /// The node cannot be reached or refuses.
    pub async fn users(&self) -> Result<Vec<UserSummary>, ClientError> {
        self.json(Method::GET, "/wharf/v1/users", Bytes::new())
            .await
    }

    /// Makes a user with an access key.
    ///
    /// # Errors
    ///
    /// There is one of that name, a policy is none, or the node cannot be reached.
    pub async fn add_user(&self, name: &str, add: &AddUser) -> Result<AddedUser, ClientError> {
        let body =
            serde_json::to_vec(add).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.json(Method::PUT, &user_path(name), body.into()).await
    }

    /// Removes a user with their access keys.
    ///
    /// # Errors
    ///
    /// There is none of that name, they are of the credentials file, or the node cannot be reached.
    pub async fn remove_user(&self, name: &str) -> Result<(), ClientError> {
        let path = user_path(name);
        Self::read(self.send(Method::DELETE, &path, &[], Bytes::new()).await?).await?;
        Ok(())
    }

    /// Invokes a function with an event. `kind` says whether to wait: `RequestResponse` gives its answer, `Event` an
    /// empty one as soon as the node has taken the event over, `DryRun` only asks whether it could.
    ///
    /// # Errors
    ///
    /// There is none of that name, or the node cannot be reached. An error of the function is an answer.
    pub async fn invoke(
        &self,
        name: &str,
        event: Bytes,
        kind: &str,
        log: bool,
    ) -> Result<Invoked, ClientError> {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let mut headers = vec![("x-amz-invocation-type", kind.to_owned())];
        if log {
            headers.push(("x-amz-log-type", "Tail".to_owned()));
        }
        let response = self.send(Method::POST, &path, &headers, event).await?;
        let text = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let request_id = text("x-amzn-requestid");
        let function_error = text("x-amz-function-error");
        let log = text("x-amz-log-result").and_then(|log| {
            use base64::{Engine as _, prelude::BASE64_STANDARD};
            BASE64_STANDARD
                .decode(log)
                .ok()
                .map(|log| String::from_utf8_lossy(&log).into_owned())
        });
        Ok(Invoked {
            request_id,
            payload: Self::read(response).await?,
            function_error,
            log,
        })
    }

    /// The lines of a function's log, and with `follow` those to come.
    ///
    /// # Errors
    ///
    /// There is no such function, or the node cannot be reached.
    pub async fn logs(
        &self,
        name: &str,
        last: usize,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<LogLine, ClientError>> + use<>, ClientError> {
        self.logs_from(name, TailFrom::Last(last), follow, None)
            .await
    }

    /// The lines of a function's log from somewhere on, and with `follow` those to come; of them what `filter`, in
    /// CloudWatch's language, picks.
    ///
    /// # Errors
    ///
    /// There is no such function, the filter is none, or the node cannot be reached.
    pub async fn logs_from(
        &self,
        name: &str,
        from: TailFrom,
        follow: bool,
        filter: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LogLine, ClientError>> + use<>, ClientError> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        match from {
            TailFrom::Last(last) => query.append_pair("last", &last.to_string()),
            TailFrom::Since(ms) => query.append_pair("since", &ms.to_string()),
        };
        query.append_pair("follow", if follow { "true" } else { "false" });
        if let Some(filter) = filter {
            query.append_pair("filter", filter);
        }
        let path = format!("/wharf/v1/functions/{name}/logs?{}", query.finish());
        let response = self.send(Method::GET, &path, &[], Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(Self::read(response)
                .await
                .err()
                .unwrap_or(ClientError::Answer("no log".to_owned())));
        }
        let body = response.into_body();
        Ok(futures::stream::try_unfold(
            (body, Vec::new()),
            async |(mut body, mut rest)| {
                loop {
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        let line = serde_json::from_slice(&line)
                            .map_err(|error| ClientError::Answer(error.to_string()))?;
                        return Ok(Some((line, (body, rest))));
                    }
                    match body.frame().await {
                        None => return Ok(None),
                        Some(Ok(frame)) => {
                            rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data))
                        }
                        Some(Err(error)) => return Err(ClientError::Answer(error.to_string())),
                    }
                }
            },
        ))
    }
}

fn user_path(name: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/wharf/v1/users/{}", encoded.replace('+', "%20"))
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.base)
    }
}
