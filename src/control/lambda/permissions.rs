//! Resource policies: who else may invoke a function, a version or an alias.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Lambda,
    members::revision_id,
    reference::{Reference, conflict, invalid, not_found, precondition},
};
use crate::{
    control::{
        auth::policy::{Kind, Malformed, Policy},
        aws::{Call, Error},
    },
    model::{FunctionName, Version},
    store::{Change, Resource, Stored},
};

/// The largest policy (Lambda quota: 20 KB).
pub(super) const MAX_POLICY: usize = 20 << 10;

/// The statements about one function, version or alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Permissions {
    function: FunctionName,
    /// Empty for the function as a whole.
    qualifier: String,
    /// By their ids.
    statements: BTreeMap<String, Value>,
}

impl Resource for Permissions {
    const KIND: &'static str = "permissions";

    fn key(&self) -> String {
        format!("{}/{}", self.function, self.qualifier)
    }
}

impl Permissions {
    /// The function that they are about, and the alias or version if it is one that they are about.
    pub fn of(&self) -> (FunctionName, Option<String>) {
        let qualifier = Some(self.qualifier.clone()).filter(|qualifier| !qualifier.is_empty());
        (self.function.clone(), qualifier)
    }

    /// As a policy that requests are held against.
    ///
    /// # Errors
    ///
    /// A statement is none that is known here.
    pub fn parse(&self) -> Result<Policy, Malformed> {
        Policy::parse(&self.policy().to_string(), Kind::Resource)
    }

    /// As a policy of IAM's language.
    pub(in crate::control) fn policy(&self) -> Value {
        let statements: Vec<&Value> = self.statements.values().collect();
        json!({"Version": "2012-10-17", "Id": "default", "Statement": statements})
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Add {
    function_name: String,
    qualifier: Option<String>,
    statement_id: String,
    action: String,
    principal: String,
    source_arn: Option<String>,
    source_account: Option<String>,
    event_source_token: Option<String>,
    #[serde(rename = "PrincipalOrgID")]
    principal_org_id: Option<String>,
    function_url_auth_type: Option<String>,
    invoked_via_function_url: Option<bool>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Remove {
    function_name: String,
    qualifier: Option<String>,
    statement_id: Option<String>,
    revision_id: Option<String>,
}

impl Lambda {
    /// AddPermission.
    pub(super) async fn add_permission(&self, call: Call) -> Result<Value, Error> {
        let add: Add = call.read()?;
        let reference = self
            .permitted(&add.function_name, add.qualifier.as_deref())
            .await?;
        if add.function_url_auth_type.is_some() && add.action != "lambda:InvokeFunctionUrl" {
            return Err(invalid(
                "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
            ));
        }
        let stored = self.permissions(&reference).await?;
        let expected = stored.as_ref().map_or(0, |stored| stored.revision);
        expect(stored.as_ref(), add.revision_id.as_deref())?;
        let mut permissions = match stored {
            Some(stored) => stored.value,
            None => Permissions {
                function: reference.name.clone(),
                qualifier: qualifier(&reference),
                statements: BTreeMap::new(),
            },
        };
        if permissions.statements.contains_key(&add.statement_id) {
            return Err(conflict(format!(
                "The statement id ({}) provided already exists. Please provide a new statement id, or remove the existing \
                 statement.",
                add.statement_id
            )));
        }
        let statement = statement(&add, &reference.arn(&self.control.arns))?;
        permissions
            .statements
            .insert(add.statement_id, statement.clone());
        // A statement that cannot be read would have the whole policy allow nothing.
        if permissions.parse().is_err() {
            return Err(invalid(
                "The provided principal was invalid. Please check the principal and try again.",
            ));
        }
        if permissions.policy().to_string().len() > MAX_POLICY {
            return Err(Error::new(
                "PolicyLengthExceededException",
                format!("The final policy size is bigger than the limit ({MAX_POLICY})."),
            )
            .with("Type", "User"));
        }
        self.apply(vec![Change::put_expecting(&permissions, expected)?])
            .await?;
        Ok(json!({"Statement": statement.to_string()}))
    }

    /// RemovePermission.
    pub(super) async fn remove_permission(&self, call: Call) -> Result<Value, Error> {
        let remove: Remove = call.read()?;
        let reference = self
            .permitted(&remove.function_name, remove.qualifier.as_deref())
            .await?;
        let id = remove.statement_id.unwrap_or_default();
        let missing = || not_found("Statement id is not found in resource policy.");
        let stored = self.permissions(&reference).await?.ok_or_else(missing)?;
        expect(Some(&stored), remove.revision_id.as_deref())?;
        let mut permissions = stored.value;
        permissions.statements.remove(&id).ok_or_else(missing)?;
        let change = match permissions.statements.is_empty() {
            true => Change::Delete {
                kind: Permissions::KIND,
                key: permissions.key(),
                expected: Some(stored.revision),
            },
            false => Change::put_expecting(&permissions, stored.revision)?,
        };
        self.apply(vec![change]).await?;
        Ok(Value::Null)
    }

    /// GetPolicy.
    pub(super) async fn get_policy(&self, call: Call) -> Result<Value, Error> {
        let named: Remove = call.read()?;
        let reference = self
            .permitted(&named.function_name, named.qualifier.as_deref())
            .await?;
        let stored = self.permissions(&reference).await?;
        let stored =
            stored.ok_or_else(|| not_found("The resource you requested does not exist."))?;
        let key = stored.value.key();
        Ok(json!({
            "Policy": stored.value.policy().to_string(),
            "RevisionId": revision_id(Permissions::KIND, &key, stored.revision),
        }))
    }

    /// The statements about exactly what is referred to.
    pub(in crate::control) async fn permissions(
        &self,
        reference: &Reference,
    ) -> Result<Option<Stored<Permissions>>, Error> {
        let key = format!("{}/{}", reference.name, qualifier(reference));
        Ok(self.control.catalog.get(&key).await?)
    }

    async fn permitted(&self, name: &str, qualifier: Option<&str>) -> Result<Reference, Error> {
        let reference = self.reference(name, qualifier)?;
        if reference.qualifier.is_some() && reference.version() == Some(Version::Latest) {
            return Err(invalid(
                "We currently do not support adding policies for $LATEST.",
            ));
        }
        self.resolve(&reference).await?;
        Ok(reference)
    }
}

fn qualifier(reference: &Reference) -> String {
    let qualifier = reference.qualifier.as_ref();
    qualifier.map(ToString::to_string).unwrap_or_default()
}

impl Lambda {
    /// The policy of the function, version or alias of an ARN, where it has one that can be read.
    pub(in crate::control) async fn guard(&self, arn: &str) -> Result<Option<Policy>, Error> {
        let mut parts = arn.split(':').skip(5);
        let (Some("function"), Some(name)) = (parts.next(), parts.next()) else {
            return Ok(None);
        };
        let qualifier = parts.next().unwrap_or_default();
        let key = format!("{name}/{qualifier}");
        let Some(stored) = self.control.catalog.get::<Permissions>(&key).await? else {
            return Ok(None);
        };
        match stored.value.parse() {
            Ok(policy) => Ok(Some(policy)),
            Err(error) => {
                tracing::warn!(%error, arn, "the policy of a function allows nothing: it cannot be read");
                Ok(None)
            }
        }
    }
}

fn expect(stored: Option<&Stored<Permissions>>, expected: Option<&str>) -> Result<(), Error> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let present =
        stored.map(|stored| revision_id(Permissions::KIND, &stored.value.key(), stored.revision));
    match present.as_deref() == Some(expected) {
        true => Ok(()),
        false => Err(precondition("Policy")),
    }
}

fn statement(add: &Add, arn: &str) -> Result<Value, Error> {
    let principal = &add.principal;
    let is_account = principal.len() == 12 && principal.bytes().all(|byte| byte.is_ascii_digit());
    let principal = if principal == "*" {
        json!("*")
    } else if is_account {
        json!({"AWS": format!("arn:aws:iam::{principal}:root")})
    } else if principal.starts_with("arn:") {
        json!({"AWS": principal})
    } else if principal.contains('.') {
        json!({"Service": principal})
    } else {
        return Err(invalid(
            "The provided principal was invalid. Please check the principal and try again.",
        ));
    };
    let mut conditions: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut condition = |operator, key: &str, value: Option<&str>| {
        if let Some(value) = value {
            let values = conditions.entry(operator).or_default();
            values.insert(key.to_owned(), value.into());
        }
    };
    condition("ArnLike", "AWS:SourceArn", add.source_arn.as_deref());
    condition(
        "StringEquals",
        "AWS:SourceAccount",
        add.source_account.as_deref(),
    );
    condition(
        "StringEquals",
        "aws:PrincipalOrgID",
        add.principal_org_id.as_deref(),
    );
    condition(
        "StringEquals",
        "lambda:EventSourceToken",
        add.event_source_token.as_deref(),
    );
    condition(
        "StringEquals",
        "lambda:FunctionUrlAuthType",
        add.function_url_auth_type.as_deref(),
    );
    let via_url = add.invoked_via_function_url.map(|via| via.to_string());
    condition("Bool", "lambda:InvokedViaFunctionUrl", via_url.as_deref());
    let mut statement = json!({
        "Sid": add.statement_id,
        "Effect": "Allow",
        "Principal": principal,
        "Action": add.action,
        "Resource": arn,
    });
    if !conditions.is_empty() {
        statement["Condition"] = json!(conditions);
    }
    Ok(statement)
}
