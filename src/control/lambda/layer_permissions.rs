//! Who else may use a version of a layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Lambda,
    layers::{LayerReference, version_key},
    members::revision_id,
    permissions::MAX_POLICY,
    reference::{conflict, not_found, precondition},
};
use crate::{
    control::aws::{Call, Error},
    store::{Change, Resource, Stored},
};

/// The statements about one version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerPermissions {
    layer: String,
    version: u64,
    /// By their ids.
    statements: BTreeMap<String, Value>,
}

impl Resource for LayerPermissions {
    const KIND: &'static str = "layer-permissions";

    fn key(&self) -> String {
        version_key(&self.layer, self.version)
    }
}

impl LayerPermissions {
    /// As a policy of IAM's language.
    fn policy(&self) -> Value {
        let statements: Vec<&Value> = self.statements.values().collect();
        json!({"Version": "2012-10-17", "Id": "default", "Statement": statements})
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Add {
    layer_name: String,
    version_number: i64,
    statement_id: String,
    action: String,
    principal: String,
    organization_id: Option<String>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    layer_name: String,
    version_number: i64,
    statement_id: Option<String>,
    revision_id: Option<String>,
}

impl Lambda {
    /// AddLayerVersionPermission.
    pub(super) async fn add_layer_permission(&self, call: Call) -> Result<Value, Error> {
        let add: Add = call.read()?;
        let (reference, stored) = self
            .layer_permissions(&add.layer_name, add.version_number)
            .await?;
        expect(stored.as_ref(), add.revision_id.as_deref())?;
        let (expected, mut permissions) = match stored {
            Some(stored) => (stored.revision, stored.value),
            None => {
                let permissions = LayerPermissions {
                    layer: reference.name.clone(),
                    version: reference.version,
                    statements: BTreeMap::new(),
                };
                (0, permissions)
            }
        };
        if permissions.statements.contains_key(&add.statement_id) {
            return Err(conflict(format!(
                "The statement id ({}) provided already exists. Please provide a new statement id, or remove the existing \
                 statement.",
                add.statement_id
            )));
        }
        let principal = match add.principal.as_str() {
            "*" => json!("*"),
            arn if arn.starts_with("arn:") => json!({"AWS": arn}),
            account => json!({"AWS": format!("arn:aws:iam::{account}:root")}),
        };
        let mut statement = json!({
            "Sid": add.statement_id,
            "Effect": "Allow",
            "Principal": principal,
            "Action": add.action,
            "Resource": reference.arn(&self.control.arns),
        });
        if let Some(organization) = add.organization_id.filter(|id| !id.is_empty()) {
            statement["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organization}});
        }
        let statements = &mut permissions.statements;
        statements.insert(add.statement_id, statement.clone());
        if permissions.policy().to_string().len() > MAX_POLICY {
            return Err(Error::new(
                "PolicyLengthExceededException",
                format!("The final policy size is bigger than the limit ({MAX_POLICY})."),
            )
            .with("Type", "User"));
        }
        let change = Change::put_expecting(&permissions, expected)?;
        let revision = self.control.catalog.apply(vec![change].into()).await?;
        Ok(json!({
            "Statement": statement.to_string(),
            "RevisionId": revision_id(LayerPermissions::KIND, &permissions.key(), revision),
        }))
    }

    /// RemoveLayerVersionPermission.
    pub(super) async fn remove_layer_permission(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let (_, stored) = self
            .layer_permissions(&named.layer_name, named.version_number)
            .await?;
        let id = named.statement_id.unwrap_or_default();
        let missing = || not_found(format!("Statement {id} is not found in resource policy."));
        let stored = stored.ok_or_else(missing)?;
        expect(Some(&stored), named.revision_id.as_deref())?;
        let mut permissions = stored.value;
        permissions.statements.remove(&id).ok_or_else(missing)?;
        let change = match permissions.statements.is_empty() {
            true => Change::Delete {
                kind: LayerPermissions::KIND,
                key: permissions.key(),
                expected: Some(stored.revision),
            },
            false => Change::put_expecting(&permissions, stored.revision)?,
        };
        self.control.catalog.apply(vec![change].into()).await?;
        Ok(Value::Null)
    }

    /// GetLayerVersionPolicy.
    pub(super) async fn get_layer_policy(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let (_, stored) = self
            .layer_permissions(&named.layer_name, named.version_number)
            .await?;
        let stored =
            stored.ok_or_else(|| not_found("No policy is associated with the given resource."))?;
        Ok(json!({
            "Policy": stored.value.policy().to_string(),
            "RevisionId": revision_of(&stored),
        }))
    }

    /// The statements about a version, which has to be there.
    async fn layer_permissions(
        &self,
        layer: &str,
        number: i64,
    ) -> Result<(LayerReference, Option<Stored<LayerPermissions>>), Error> {
        let reference = self.layer_number(layer, number)?;
        if self.layer_version(&reference).await?.is_none() {
            return Err(not_found(format!(
                "Layer version {} does not exist.",
                reference.arn(&self.control.arns)
            )));
        }
        let stored = self.control.catalog.get(&reference.key()).await?;
        Ok((reference, stored))
    }
}

fn revision_of(stored: &Stored<LayerPermissions>) -> String {
    revision_id(LayerPermissions::KIND, &stored.value.key(), stored.revision)
}

fn expect(stored: Option<&Stored<LayerPermissions>>, expected: Option<&str>) -> Result<(), Error> {
    let Some(expected) = expected else {
        return Ok(());
    };
    match stored.map(revision_of).as_deref() == Some(expected) {
        true => Ok(()),
        false => Err(precondition("LayerVersionPolicy")),
    }
}
