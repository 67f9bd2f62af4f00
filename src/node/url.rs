//! Who may call function URLs: signatures are the control plane's, URLs the data plane's.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;

use crate::{
    control::{Access, UrlRefusal},
    ingress::{Authorize, RequestBody, UrlDenied, UrlTarget},
    model::UrlCaller,
};

/// Holds requests to function URLs against the node's users. All of them may call every URL: there are no policies yet.
pub(super) struct UrlAccess {
    pub(super) access: Arc<Access>,
    pub(super) account: String,
}

#[async_trait]
impl Authorize for UrlAccess {
    fn anybody(&self, _url: &UrlTarget, _head: &Parts) -> Result<(), UrlDenied> {
        Ok(())
    }

    async fn signed(
        &self,
        _url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> Result<(Parts, Bytes, UrlCaller), UrlDenied> {
        self.access
            .admit_to_url(head, body, limit, &self.account)
            .await
            .map_err(denied)
    }
}

fn denied(refusal: UrlRefusal) -> UrlDenied {
    let UrlRefusal {
        status,
        error,
        message,
    } = refusal;
    UrlDenied {
        status,
        error,
        message,
    }
}
