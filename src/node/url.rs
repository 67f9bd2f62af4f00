//! Who may call function URLs: users and policies are the control plane's, URLs the data plane's.
//!
//! A function's resource policy has to allow `lambda:InvokeFunctionUrl`: for a URL that wants no signature it alone, for one
//! that does it or the policies of who signed (Lambda Developer Guide, "Control access to Lambda function URLs").

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;

use crate::{
    control::{
        Access, UrlRefusal,
        policy::{self, Context, Decision, Policy, Principal, Request},
    },
    ingress::{Authorize, RequestBody, UrlDenied, UrlTarget},
    model::{Arns, FunctionName, UrlAuthType, UrlCaller},
};

/// What may be done with a URL.
const ACTION: &str = "lambda:InvokeFunctionUrl";

/// The policies of functions and of their aliases.
pub(super) type Policies = HashMap<(FunctionName, Option<String>), Arc<Policy>>;

/// Holds requests to function URLs against users and policies.
pub(super) struct UrlAccess {
    access: Arc<Access>,
    arns: Arns,
    policies: ArcSwap<Policies>,
}

impl UrlAccess {
    pub(super) fn new(access: Arc<Access>, arns: Arns) -> Self {
        Self {
            access,
            arns,
            policies: ArcSwap::default(),
        }
    }

    /// Makes `policies` the ones in force.
    pub(super) fn publish(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    fn policy(&self, url: &UrlTarget) -> Option<Arc<Policy>> {
        let key = (url.function.clone(), url.alias.clone());
        self.policies.load().get(&key).cloned()
    }

    fn arn(&self, url: &UrlTarget) -> String {
        let alias = url.alias.as_ref();
        self.arns.function(
            url.function.as_str(),
            alias.map(|alias| alias as &dyn std::fmt::Display),
        )
    }

    async fn admit(
        &self,
        url: &UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> Result<(Parts, Bytes, UrlCaller), UrlDenied> {
        let admitted = self.access.admit_to_url(head, body, limit).await;
        let (head, body, caller, told) = admitted.map_err(denied)?;
        let policy = self.policy(url);
        caller
            .authorize_on(
                ACTION,
                &self.arn(url),
                policy.as_deref(),
                &context(url.url.auth_type),
            )
            .map_err(|_| denied(UrlRefusal::forbidden()))?;
        Ok((head, body, told))
    }
}

fn context(auth_type: UrlAuthType) -> Context {
    let auth_type = match auth_type {
        UrlAuthType::None => "NONE",
        UrlAuthType::AwsIam => "AWS_IAM",
    };
    Context::default().with("lambda:FunctionUrlAuthType", auth_type)
}

impl Authorize for UrlAccess {
    fn anybody(&self, url: &UrlTarget, _head: &Parts) -> Result<(), UrlDenied> {
        let policy = self.policy(url);
        let (resource, context) = (self.arn(url), context(url.url.auth_type));
        let request = Request {
            principal: &Principal::Anonymous,
            action: ACTION,
            resource: &resource,
            context: &context,
        };
        match policy::evaluate(&[], policy.as_deref(), request) {
            Decision::Allowed => Ok(()),
            Decision::ImplicitlyDenied | Decision::ExplicitlyDenied => {
                Err(denied(UrlRefusal::forbidden()))
            }
        }
    }

    fn signed<'a>(
        &'a self,
        url: &'a UrlTarget,
        head: Parts,
        body: RequestBody,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Parts, Bytes, UrlCaller), UrlDenied>> {
        Box::pin(self.admit(url, head, body, limit))
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
