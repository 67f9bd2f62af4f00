//! Policies that are attached to users and roles: those that every node has, and those that are made here.
//!
//! A policy has one version, `v1`: it is made and removed, and not changed.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Call, Change, Error, Iam, Role, Stored, User, concurrent, encoded, exceeded, no_such, pages,
    resource::{self, ManagedPolicy, arn},
    tag_list, tags, time, wanted,
};
use crate::{
    control::auth::{
        MANAGED, Managed, managed_by_arn, new_id,
        policy::{Kind, Policy},
    },
    store::Resource as _,
};

/// The most characters of a policy (IAM quotas).
const QUOTA: usize = 6144;

/// When the policies were made that every node has.
const FIRST: Timestamp = Timestamp::UNIX_EPOCH;

/// A policy that can be attached.
pub(super) enum Attachable {
    /// One that every node has.
    Managed(&'static Managed),
    /// One of this node.
    Own(Stored<ManagedPolicy>),
}

/// Whether a text is a document of that kind.
pub(super) fn check(document: &str, kind: Kind) -> Result<(), Error> {
    match Policy::parse(document, kind) {
        Ok(_) => Ok(()),
        Err(malformed) => Err(Error::new(
            "MalformedPolicyDocumentException",
            malformed.to_string(),
        )),
    }
}

impl Iam {
    pub(super) async fn create_policy(&self, call: &Call) -> Result<Value, Error> {
        let (name, document) = (wanted(call, "PolicyName")?, wanted(call, "PolicyDocument")?);
        check(document, Kind::Identity)?;
        if Policy::size(document) > QUOTA {
            return Err(exceeded(format!(
                "Cannot exceed quota for PolicySize: {QUOTA}"
            )));
        }
        let policy = ManagedPolicy {
            name: name.to_owned(),
            path: call.text("Path").unwrap_or("/").to_owned(),
            id: new_id("ANPA", 17).map_err(|error| Error::internal(&error))?,
            created: Timestamp::now(),
            description: call.text("Description").map(str::to_owned),
            document: document.to_owned(),
            tags: tags(&call.input),
        };
        let exists =
            format!("A policy called {name} already exists. Duplicate names are not allowed.");
        self.create(&policy, exists).await?;
        let policy = Attachable::Own(Stored {
            revision: 0,
            value: policy,
        });
        Ok(json!({"Policy": policy.describe(self.account(), 0)}))
    }

    pub(super) async fn get_policy(&self, call: &Call) -> Result<Value, Error> {
        let arn = wanted(call, "PolicyArn")?;
        let policy = self.policy(arn).await?.ok_or_else(|| not_found(arn))?;
        let attached = self.attachments().await?;
        let count = attached.get(arn).copied().unwrap_or(0);
        Ok(json!({"Policy": policy.describe(self.account(), count)}))
    }

    pub(super) async fn get_policy_version(&self, call: &Call) -> Result<Value, Error> {
        let (arn, version) = (wanted(call, "PolicyArn")?, wanted(call, "VersionId")?);
        let policy = self.policy(arn).await?.ok_or_else(|| not_found(arn))?;
        if version != "v1" {
            return Err(no_such(format!(
                "Policy {arn} version {version} does not exist or is not attachable."
            )));
        }
        let (document, created) = match &policy {
            Attachable::Managed(managed) => (managed.document, FIRST),
            Attachable::Own(policy) => (policy.value.document.as_str(), policy.value.created),
        };
        Ok(json!({"PolicyVersion": {
            "Document": encoded(document),
            "VersionId": "v1",
            "IsDefaultVersion": true,
            "CreateDate": time(created),
        }}))
    }

    pub(super) async fn list_policies(&self, call: &Call) -> Result<Value, Error> {
        let scope = call.text("Scope").unwrap_or("All");
        let only_attached = call.input.get("OnlyAttached").and_then(Value::as_bool);
        let prefix = call.text("PathPrefix").unwrap_or("/");
        let mut policies: Vec<Attachable> = Vec::new();
        if scope != "Local" {
            policies.extend(MANAGED.iter().map(Attachable::Managed));
        }
        if scope != "AWS" {
            let own = self.all().await?.into_iter();
            policies.extend(own.map(|value| Attachable::Own(Stored { revision: 0, value })));
        }
        let attached = self.attachments().await?;
        let mut listed: Vec<(String, Value)> = policies
            .iter()
            .filter(|policy| policy.path().starts_with(prefix))
            .filter_map(|policy| {
                let arn = policy.arn(self.account());
                let count = attached.get(&arn).copied().unwrap_or(0);
                if only_attached == Some(true) && count == 0 {
                    return None;
                }
                let mut described = policy.describe(self.account(), count);
                if let Some(members) = described.as_object_mut() {
                    // As IAM's lists, which are without.
                    members.remove("Tags");
                    members.remove("Description");
                }
                Some((arn, described))
            })
            .collect();
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        pages::page(call, "Policies", listed)
    }

    pub(super) async fn delete_policy(&self, call: &Call) -> Result<Value, Error> {
        let arn = wanted(call, "PolicyArn")?;
        for _ in 0..super::TRIES {
            let policy = match self.policy(arn).await?.ok_or_else(|| not_found(arn))? {
                Attachable::Own(policy) => policy,
                Attachable::Managed(_) => {
                    let message = "The policies of AWS's names cannot be deleted.";
                    return Err(Error::new("InvalidInputException", message));
                }
            };
            if self.attachments().await?.contains_key(arn) {
                return Err(Error::new(
                    "DeleteConflictException",
                    "Cannot delete a policy attached to entities.",
                ));
            }
            // Who attaches it meanwhile has written it again.
            let delete = Change::Delete {
                kind: ManagedPolicy::KIND,
                key: policy.value.key(),
                expected: Some(policy.revision),
            };
            if self.write(vec![delete]).await? {
                return Ok(json!({}));
            }
        }
        Err(concurrent())
    }

    /// The policy of an ARN.
    pub(super) async fn policy(&self, arn: &str) -> Result<Option<Attachable>, Error> {
        if let Some(managed) = managed_by_arn(arn) {
            return Ok(Some(Attachable::Managed(managed)));
        }
        let name = arn.rsplit('/').next().unwrap_or(arn);
        let stored = self
            .catalog
            .get::<ManagedPolicy>(&resource::key(name))
            .await?;
        let policy = stored.map(Attachable::Own);
        Ok(policy.filter(|policy| policy.arn(self.account()) == arn))
    }

    /// How many users and roles have each policy.
    async fn attachments(&self) -> Result<HashMap<String, usize>, Error> {
        let (users, roles) = (self.all::<User>().await?, self.all::<Role>().await?);
        let of_users = users.into_iter().flat_map(|user| user.policies.attached);
        let of_roles = roles.into_iter().flat_map(|role| role.policies.attached);
        let mut counts = HashMap::new();
        for arn in of_users.chain(of_roles) {
            *counts.entry(arn).or_default() += 1;
        }
        Ok(counts)
    }
}

impl Attachable {
    pub(super) fn arn(&self, account: &str) -> String {
        match self {
            Self::Managed(managed) => managed.arn(),
            Self::Own(policy) => arn(account, "policy", &policy.value.path, &policy.value.name),
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Managed(managed) => managed.path,
            Self::Own(policy) => &policy.value.path,
        }
    }

    fn describe(&self, account: &str, attached: usize) -> Value {
        let mut policy = json!({
            "Arn": self.arn(account),
            "Path": self.path(),
            "DefaultVersionId": "v1",
            "AttachmentCount": attached,
            "PermissionsBoundaryUsageCount": 0,
            "IsAttachable": true,
        });
        let more = match self {
            Self::Managed(managed) => json!({
                "PolicyName": managed.name,
                "PolicyId": format!("ANPA{:X<17}", managed.name.to_ascii_uppercase().replace('_', "").chars().take(17).collect::<String>()),
                "Description": managed.description,
                "CreateDate": time(FIRST),
                "UpdateDate": time(FIRST),
            }),
            Self::Own(Stored { value: policy, .. }) => json!({
                "PolicyName": policy.name,
                "PolicyId": policy.id,
                "Description": policy.description,
                "CreateDate": time(policy.created),
                "UpdateDate": time(policy.created),
                "Tags": tag_list(&policy.tags),
            }),
        };
        if let (Some(policy), Value::Object(more)) = (policy.as_object_mut(), more) {
            policy.extend(more);
        }
        policy
    }
}

fn not_found(arn: &str) -> Error {
    no_such(format!("Policy {arn} was not found."))
}
