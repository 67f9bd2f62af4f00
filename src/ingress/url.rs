//! Function URLs: who may call them, and what pages of other origins may do with them.
//!
//! A URL without a configuration (`NAME.localhost`) is none of these: its requests go to their function as they are.
//!
//! Preflights are answered here, as Lambda does: the function is not asked, and needs no signature. Every other answer gets
//! the CORS fields of the configuration beside those that the function gave, also where they say the same.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde_json::json;

use super::{
    RequestBody,
    request::{DataPlane, Failure},
    visit::Visit,
};
use crate::{
    invoke::{Arrival, MAX_EVENT, ResponseBody, UrlArrival},
    model::{FunctionName, FunctionUrl, Outcome, Qualifier, UrlAuthType, UrlCaller},
};

/// A function URL: whose it is, and what it does.
#[derive(Debug, Clone)]
pub struct UrlTarget {
    /// Its id, which its host begins with.
    pub id: String,
    /// The function.
    pub function: FunctionName,
    /// The alias; without one, `$LATEST`.
    pub alias: Option<String>,
    /// Its configuration.
    pub url: FunctionUrl,
}

/// Says who may call function URLs. The node implements it: nothing here knows users or policies.
pub trait Authorize: Send + Sync + 'static {
    /// Whether anybody may call a URL that wants no signature.
    ///
    /// # Errors
    ///
    /// Nobody may: the function's policy does not say so.
    fn anybody(&self, url: &UrlTarget, head: &Parts) -> Result<(), UrlDenied>;

    /// Who signed a request, and the request, with its body of at most `limit` bytes. What comes back was signed.
    ///
    /// # Errors
    ///
    /// It was not, or whoever signed it may not call the URL.
    fn signed<'a>(
        &'a self,
        url: &'a UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Parts, Bytes, UrlCaller), UrlDenied>>;
}

/// Why a request to a function URL is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlDenied {
    /// The status.
    pub status: StatusCode,
    /// The error's name (`x-amzn-ErrorType`).
    pub error: &'static str,
    /// What is wrong, for the caller.
    pub message: String,
}

impl UrlDenied {
    /// How the request ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self.status {
            StatusCode::FORBIDDEN => Outcome::Forbidden,
            _ => Outcome::BadRequest,
        }
    }

    /// What a client is told.
    pub(super) fn respond(&self) -> Response<Bytes> {
        // Two services of AWS's answer for function URLs, and spell it differently.
        let member = match self.error {
            "AccessDeniedException" => "Message",
            _ => "message",
        };
        let document = json!({ member: self.message }).to_string();
        let mut response = Response::new(Bytes::from(document));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.error));
        response
    }
}

impl DataPlane {
    /// What happens to a request to a function URL.
    pub(super) async fn serve_url(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        arrival: Arrival<'_>,
        visit: &mut Visit,
    ) -> Response<ResponseBody> {
        let cors = url.url.cors.as_ref();
        if let Some(headers) = cors.and_then(|cors| cors.preflight(&head)) {
            let mut response = Response::new(ResponseBody::Complete(Some(Bytes::new())));
            *response.headers_mut() = headers;
            return response;
        }
        let origin = head.headers.get(header::ORIGIN).cloned();
        let id = arrival.request_id;
        let mut response = match self.call_url(url, head, body, arrival, visit).await {
            Ok(response) => response,
            Err(failure) => {
                visit.failed(failure.outcome());
                self.fail(failure, id)
                    .map(|body| ResponseBody::Complete(Some(body)))
            }
        };
        if let Some(cors) = cors {
            cors.share(origin.as_ref(), response.headers_mut());
        }
        response
    }

    async fn call_url(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        arrival: Arrival<'_>,
        visit: &mut Visit,
    ) -> Result<Response<ResponseBody>, Failure> {
        let qualifier = url.alias.clone().map(Qualifier::Alias);
        let resolved = self
            .invoke
            .resolve(url.function.as_str(), qualifier.as_ref());
        let function = resolved.ok_or(Outcome::NoRoute)?.function;
        visit.leads_to(&function);
        let mut by = UrlArrival {
            id: &url.id,
            invoke_mode: url.url.invoke_mode,
            caller: None,
        };
        match url.url.auth_type {
            UrlAuthType::None => {
                self.authorize.anybody(url, &head)?;
                let arrival = Arrival {
                    url: Some(by),
                    ..arrival
                };
                let request = Request::from_parts(head, body);
                let response = self.invoke.http(&function, request, arrival).await;
                Ok(response?)
            }
            UrlAuthType::AwsIam => {
                let signed = self.authorize.signed(url, head, body, MAX_EVENT).await;
                let (head, body, caller) = signed?;
                by.caller = Some(&caller);
                let arrival = Arrival {
                    url: Some(by),
                    ..arrival
                };
                let request = Request::from_parts(head, Full::new(body));
                let response = self.invoke.http(&function, request, arrival).await;
                Ok(response?)
            }
        }
    }
}
