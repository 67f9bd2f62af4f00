//! AWS Lambda's API: the operations, by what they are about.
//!
//! Each file has the operations on one thing: their members come in as the model has them ([`Call::read`]), and a JSON
//! document with the model's names goes out. What the API knows of a function beyond what is deployed is a
//! [`Resource`](crate::store::Resource) of the catalog. `docs/lambda-compatibility.md` lists every operation, and where it
//! differs.
//!
//! [`invoke`] is apart from the others: it carries payloads, not documents.

mod absent;
mod aliases;
mod code;
mod code_signing;
mod concurrency;
mod downloads;
mod event_invoke;
mod functions;
mod invoke;
mod layer_permissions;
mod layers;
mod mappings;
mod members;
mod permissions;
mod proposal;
mod reference;
mod tags;
mod urls;
mod versions;

use std::{future::ready, sync::Arc};

use ::base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

pub use code::{folders, mend_layers};
pub(in crate::control) use code_signing::FunctionCodeSigning;
pub(in crate::control) use downloads::Downloads;
pub use permissions::Permissions;
pub(in crate::control) use proposal::Proposal;
pub(in crate::control) use reference::{Reference, invalid};

use super::{
    auth::{Subject, policy::Policy},
    aws::{
        Answer, Call, Error, Service,
        model::{LAMBDA, Model},
    },
    iam,
    verbs::Control,
};
use crate::{
    model::{FunctionName, FunctionSettings},
    store::{Change, of_function},
};

/// The code that an account may have (Lambda quota: 75 GB).
const TOTAL_CODE_SIZE: u64 = 80_530_636_800;

/// Items on a page of a list, where the caller does not say, and at most (Lambda API, `MaxItems`).
const PAGE: usize = 50;

/// Lambda's API on a node.
pub(in crate::control) struct Lambda {
    control: Arc<Control>,
    downloads: Downloads,
}

/// Answers calls: [`Lambda`] is what works on when they are answered, too.
pub(in crate::control) struct LambdaService(pub(in crate::control) Arc<Lambda>);

impl Service for LambdaService {
    fn model(&self) -> &'static Model {
        &LAMBDA
    }

    fn subject<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Subject>, Error>> {
        let Call {
            operation,
            input,
            caller,
            ..
        } = call;
        let subject = Subject::of_lambda(&operation.name, input, caller);
        Box::pin(ready(Ok(Some(subject))))
    }

    fn guard<'a>(&'a self, resource: &'a str) -> BoxFuture<'a, Result<Option<Policy>, Error>> {
        Box::pin(self.0.guard(resource))
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.0.answer(call))
    }
}

impl Lambda {
    pub(in crate::control) fn new(control: Arc<Control>) -> Arc<Self> {
        Arc::new(Self {
            control,
            downloads: Downloads::new(),
        })
    }

    /// The links to code.
    pub(in crate::control) fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    async fn answer(self: &Arc<Self>, call: Call) -> Result<Answer, Error> {
        // Whoever gives a function a role lets it do what the role may.
        let role = call.text("Role").filter(|role| !role.is_empty());
        if let ("CreateFunction" | "UpdateFunctionConfiguration", Some(role)) =
            (call.operation.name.as_str(), role)
        {
            iam::may_pass(&call.caller, role)?;
        }
        match call.operation.name.as_str() {
            "Invoke" => return self.invoke(call).await.map(Answer::Payload),
            "InvokeAsync" => return self.invoke_async(call).await.map(Answer::Payload),
            "InvokeWithResponseStream" => {
                let response = self.invoke_with_response_stream(call).await;
                return response.map(Answer::Payload);
            }
            _ => {}
        }
        // A client that hangs up does not leave a change half made.
        let lambda = Arc::clone(self);
        let answer = tokio::spawn(async move { lambda.document(call).await });
        let answer = answer.await.map_err(|error| Error::internal(&error))?;
        answer.map(Answer::from)
    }

    async fn document(self: &Arc<Self>, call: Call) -> Result<Value, Error> {
        match call.operation.name.as_str() {
            "CreateFunction" => self.create_function(call).await,
            "GetFunction" => self.get_function(call).await,
            "GetFunctionConfiguration" => self.get_function_configuration(call).await,
            "UpdateFunctionCode" => self.update_function_code(call).await,
            "UpdateFunctionConfiguration" => self.update_function_configuration(call).await,
            "DeleteFunction" => self.delete_function(call).await,
            "ListFunctions" => self.list_functions(call).await,
            "PublishVersion" => self.publish_version(call).await,
            "ListVersionsByFunction" => self.list_versions(call).await,
            "CreateAlias" => self.create_alias(call).await,
            "GetAlias" => self.get_alias(call).await,
            "UpdateAlias" => self.update_alias(call).await,
            "DeleteAlias" => self.delete_alias(call).await,
            "ListAliases" => self.list_aliases(call).await,
            "PutFunctionConcurrency" => self.put_concurrency(call).await,
            "GetFunctionConcurrency" => self.get_concurrency(call).await,
            "DeleteFunctionConcurrency" => self.delete_concurrency(call).await,
            "PutProvisionedConcurrencyConfig" => self.put_provisioned(call).await,
            "GetProvisionedConcurrencyConfig" => self.get_provisioned(call).await,
            "DeleteProvisionedConcurrencyConfig" => self.delete_provisioned(call).await,
            "ListProvisionedConcurrencyConfigs" => self.list_provisioned(call).await,
            "PutFunctionRecursionConfig" => self.put_recursion(call).await,
            "GetFunctionRecursionConfig" => self.get_recursion(call).await,
            "GetAccountSettings" => self.account_settings().await,
            "AddPermission" => self.add_permission(call).await,
            "RemovePermission" => self.remove_permission(call).await,
            "GetPolicy" => self.get_policy(call).await,
            "TagResource" => self.tag(call).await,
            "UntagResource" => self.untag(call).await,
            "ListTags" => self.list_tags(call).await,
            "PublishLayerVersion" => self.publish_layer_version(call).await,
            "GetLayerVersion" | "GetLayerVersionByArn" => self.get_layer_version(call).await,
            "ListLayerVersions" => self.list_layer_versions(call).await,
            "ListLayers" => self.list_layers(call).await,
            "DeleteLayerVersion" => self.delete_layer_version(call).await,
            "AddLayerVersionPermission" => self.add_layer_permission(call).await,
            "RemoveLayerVersionPermission" => self.remove_layer_permission(call).await,
            "GetLayerVersionPolicy" => self.get_layer_policy(call).await,
            "CreateFunctionUrlConfig" => self.create_url(call).await,
            "UpdateFunctionUrlConfig" => self.update_url(call).await,
            "GetFunctionUrlConfig" => self.get_url(call).await,
            "DeleteFunctionUrlConfig" => self.delete_url(call).await,
            "ListFunctionUrlConfigs" => self.list_urls(call).await,
            "PutFunctionEventInvokeConfig" => self.put_event_invoke(call).await,
            "UpdateFunctionEventInvokeConfig" => self.update_event_invoke(call).await,
            "GetFunctionEventInvokeConfig" => self.get_event_invoke(call).await,
            "DeleteFunctionEventInvokeConfig" => self.delete_event_invoke(call).await,
            "ListFunctionEventInvokeConfigs" => self.list_event_invoke(call).await,
            "CreateEventSourceMapping" => self.create_mapping(call).await,
            "GetEventSourceMapping" => self.get_mapping(call).await,
            "UpdateEventSourceMapping" => self.update_mapping(call).await,
            "DeleteEventSourceMapping" => self.delete_mapping(call).await,
            "ListEventSourceMappings" => self.list_mappings(call).await,
            "CreateCodeSigningConfig" => self.create_code_signing(call).await,
            "UpdateCodeSigningConfig" => self.update_code_signing(call).await,
            "GetCodeSigningConfig" => self.get_code_signing(call).await,
            "DeleteCodeSigningConfig" => self.delete_code_signing(call).await,
            "ListCodeSigningConfigs" => self.list_code_signing(call).await,
            "ListFunctionsByCodeSigningConfig" => self.list_functions_by_code_signing(call).await,
            "PutFunctionCodeSigningConfig" => self.put_function_code_signing(call).await,
            "GetFunctionCodeSigningConfig" => self.get_function_code_signing(call).await,
            "DeleteFunctionCodeSigningConfig" => self.delete_function_code_signing(call).await,
            "GetRuntimeManagementConfig" => self.get_runtime_management(call).await,
            "PutRuntimeManagementConfig" => self.put_runtime_management(call).await,
            other => Err(Error::unsupported(
                other,
                absent::reason(other).unwrap_or("it is not built yet"),
            )),
        }
    }

    /// What a caller means by a function's name.
    fn reference(&self, text: &str, qualifier: Option<&str>) -> Result<Reference, Error> {
        Reference::read(text, qualifier, &self.control.arns)
    }

    /// Whether a function is there, in whatever state.
    async fn existing(&self, reference: &Reference) -> Result<(), Error> {
        match self.find(&reference.name).await? {
            Some(_) => Ok(()),
            None => Err(reference.not_found(&self.control.arns)),
        }
    }

    /// What is true of a function whatever its version.
    async fn settings(&self, name: &FunctionName) -> Result<FunctionSettings, Error> {
        let stored = self
            .control
            .catalog
            .get::<FunctionSettings>(&of_function(name))
            .await?;
        Ok(stored.map_or_else(
            || FunctionSettings::new(name.clone()),
            |stored| stored.value,
        ))
    }

    /// Changes that, whoever else does meanwhile.
    async fn update_settings(
        &self,
        reference: &Reference,
        change: impl Fn(&mut FunctionSettings),
    ) -> Result<(), Error> {
        const TRIES: usize = 10;
        let key = of_function(&reference.name);
        for _ in 0..TRIES {
            let stored = self.control.catalog.get::<FunctionSettings>(&key).await?;
            let (revision, mut settings) = match stored {
                Some(stored) => (stored.revision, stored.value),
                None => (0, FunctionSettings::new(reference.name.clone())),
            };
            change(&mut settings);
            let written = self
                .control
                .apply(vec![Change::put_expecting(&settings, revision)?])
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(super::Error::Conflict) => {}
                Err(error) => return Err(Error::internal(&error)),
            }
        }
        Err(crate::store::Error::Conflict {
            what: key,
            expected: 0,
            found: 0,
        }
        .into())
    }

    /// Makes changes and waits until they are served.
    async fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        match self.control.apply(changes).await {
            Ok(_) => Ok(()),
            Err(super::Error::Conflict) => Err(reference::conflict(
                "The resource was changed by another call at the same time. Read it again and try once more.",
            )),
            Err(error) => Err(Error::internal(&error)),
        }
    }

    /// Whether the role that is given may be, where the node is to check it.
    async fn check_role(&self, members: &Map<String, Value>) -> Result<(), Error> {
        let role = functions::given(members, "Role").filter(|role| !role.is_empty());
        let Some(role) = role.filter(|_| self.control.check_roles) else {
            return Ok(());
        };
        match iam::lambda_may_assume(&self.control.catalog, role).await? {
            true => Ok(()),
            false => Err(invalid(
                "The role defined for the function cannot be assumed by Lambda.",
            )),
        }
    }
}

/// A page of a list (Lambda API, `Marker` and `MaxItems`).
pub(in crate::control) struct Page {
    /// The last key of the page before.
    pub(in crate::control) after: Option<String>,
    /// The most items.
    pub(in crate::control) limit: usize,
}

impl Page {
    pub(in crate::control) fn new(
        marker: Option<&str>,
        items: Option<usize>,
    ) -> Result<Self, Error> {
        let after = marker
            .filter(|marker| !marker.is_empty())
            .map(|marker| {
                let bytes = BASE64_URL_SAFE_NO_PAD.decode(marker).ok();
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                text.ok_or_else(|| invalid("Invalid marker value."))
            })
            .transpose()?;
        Ok(Self {
            after,
            limit: items.unwrap_or(PAGE).clamp(1, PAGE),
        })
    }

    /// The page, and where the next begins, if there is one.
    pub(in crate::control) fn document(
        &self,
        member: &str,
        items: Vec<Value>,
        next: Option<String>,
    ) -> Value {
        let mut document = json!({member: items});
        if let Some(next) = next {
            document["NextMarker"] = BASE64_URL_SAFE_NO_PAD.encode(next).into();
        }
        document
    }
}
