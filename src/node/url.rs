//! Who may call function URLs: signatures are the control plane's, URLs the data plane's.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;

use crate::{
    control::{Access, UrlRefusal},
    ingress::{Authorize, RequestBody, UrlDenied, UrlTarget},
    model::{Arns, UrlCaller},
};

/// Holds requests to function URLs against the node's users and their policies, and those of the functions.
pub(super) struct UrlAccess {
    pub(super) access: Arc<Access>,
    pub(super) arns: Arns,
}

#[async_trait]
impl Authorize for UrlAccess {
    fn anybody(&self, _url: &UrlTarget, _head: &Parts) -> Result<(), UrlDenied> {
        Ok(())
    }

    async fn signed(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> Result<(Parts, Bytes, UrlCaller), UrlDenied> {
        let alias = url
            .alias
            .as_ref()
            .map(|alias| alias as &dyn std::fmt::Display);
        let function = self.arns.function(url.function.as_str(), alias);
        self.access
            .admit_to_url(head, body, limit, &function)
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
