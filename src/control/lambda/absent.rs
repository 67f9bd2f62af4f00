//! What Lambda has and Wharf has not: operations that are refused, each with the reason, and the one setting of a runtime
//! that is true here.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Lambda, reference::invalid};
use crate::control::aws::{Call, Error};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuntimeManagement {
    function_name: String,
    qualifier: Option<String>,
    update_runtime_on: Option<String>,
    runtime_version_arn: Option<String>,
}

/// Why an operation is not here, if it is one of those that never were meant to be.
pub(super) fn reason(operation: &str) -> Option<&'static str> {
    let reason = match operation {
        "CreateCapacityProvider"
        | "GetCapacityProvider"
        | "UpdateCapacityProvider"
        | "DeleteCapacityProvider"
        | "ListCapacityProviders"
        | "ListFunctionVersionsByCapacityProvider" => {
            "it has no capacity providers; functions run on the node itself."
        }
        "PutFunctionScalingConfig" | "GetFunctionScalingConfig" => {
            "the scaling of execution environments belongs to capacity providers, which it does not have. Provisioned and \
             reserved concurrency do what it is for."
        }
        "CheckpointDurableExecution"
        | "DeleteDurableExecution"
        | "GetDurableExecution"
        | "GetDurableExecutionHistory"
        | "GetDurableExecutionState"
        | "ListDurableExecutionsByFunction"
        | "PauseDurableExecution"
        | "ResumeDurableExecution"
        | "SendDurableExecutionCallbackFailure"
        | "SendDurableExecutionCallbackHeartbeat"
        | "SendDurableExecutionCallbackSuccess"
        | "StopDurableExecution" => {
            "it has no durable executions; an invocation runs once, from its start to its end."
        }
        "PutResourcePolicy" | "GetResourcePolicy" | "DeleteResourcePolicy" => {
            "a function's policy is read with GetPolicy, and changed statement by statement with AddPermission and \
             RemovePermission."
        }
        _ => return None,
    };
    Some(reason)
}

impl Lambda {
    /// GetRuntimeManagementConfig: what runs components is the node's, and is updated with it.
    pub(super) async fn get_runtime_management(&self, call: Call) -> Result<Value, Error> {
        self.runtime_management(&call.read()?).await
    }

    /// PutRuntimeManagementConfig: takes what is true anyway, and refuses the rest.
    pub(super) async fn put_runtime_management(&self, call: Call) -> Result<Value, Error> {
        let wanted: RuntimeManagement = call.read()?;
        let update = wanted.update_runtime_on.as_deref();
        if update != Some("Auto") || wanted.runtime_version_arn.is_some() {
            return Err(invalid(format!(
                "Wharf cannot honour UpdateRuntimeOn {}{}: a component brings its own runtime, and what runs components is updated \
                 with the node. Auto is taken.",
                update.unwrap_or_default(),
                match wanted.runtime_version_arn {
                    Some(_) => " with a RuntimeVersionArn",
                    None => "",
                },
            )));
        }
        self.runtime_management(&wanted).await
    }

    async fn runtime_management(&self, wanted: &RuntimeManagement) -> Result<Value, Error> {
        let reference = self.reference(&wanted.function_name, wanted.qualifier.as_deref())?;
        self.resolve(&reference).await?;
        Ok(json!({
            "UpdateRuntimeOn": "Auto",
            "FunctionArn": reference.arn(&self.control.arns),
        }))
    }
}
