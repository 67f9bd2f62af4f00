//! IAM and STS: users, roles, policies and access keys, as far as a node has a use for them.
//!
//! What is made here counts with the next call: [`Identities`] reads the same documents. The users of the credentials file
//! are users too, who are shown here and changed there. What Wharf does not have (groups, permissions boundaries, MFA,
//! federation) is refused, not passed over.
//!
//! Errors and their words: IAM API Reference, and what IAM answers.

mod holder;
mod pages;
mod policies;
pub(super) mod resource;
mod roles;
mod sts;
mod users;
mod verbs;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{
    auth::{
        Caller, Denied, Identities, IdentityKind, Subject,
        policy::{self, Policy, Principal},
    },
    aws::{
        Answer, Call, Error, Service,
        model::{IAM, Model},
    },
};
use crate::store::{self, Catalog, Change, Resource, Stored};

use holder::Holder;
use resource::{Role, User, arn};
pub(super) use sts::Sts;

/// How often a change is tried that others come before.
const TRIES: usize = 10;

/// How many documents are read at once.
const BATCH: usize = 1000;

/// IAM on a node.
pub(super) struct Iam {
    catalog: Arc<dyn Catalog>,
    identities: Arc<Identities>,
}

impl Iam {
    pub(super) fn new(catalog: Arc<dyn Catalog>, identities: Arc<Identities>) -> Self {
        Self {
            catalog,
            identities,
        }
    }

    async fn document(&self, call: Call) -> Result<Value, Error> {
        match call.operation.name.as_str() {
            "CreateRole" => self.create_role(&call).await,
            "CreateServiceLinkedRole" => self.create_service_linked_role(&call).await,
            "GetRole" => self.get_role(&call).await,
            "ListRoles" => self.list_roles(&call).await,
            "UpdateRole" => self.update_role(&call).await,
            "UpdateRoleDescription" => self.update_role_description(&call).await,
            "UpdateAssumeRolePolicy" => self.update_trust(&call).await,
            "DeleteRole" => self.delete_role(&call).await,
            "TagRole" => self.tag_role(&call).await,
            "UntagRole" => self.untag_role(&call).await,
            "ListRoleTags" => self.list_role_tags(&call).await,
            "ListInstanceProfilesForRole" => {
                self.find::<Role>(wanted(&call, "RoleName")?).await?;
                Ok(json!({"InstanceProfiles": [], "IsTruncated": false}))
            }
            "PutRolePolicy" => self.put_inline::<Role>(&call).await,
            "GetRolePolicy" => self.get_inline::<Role>(&call).await,
            "DeleteRolePolicy" => self.delete_inline::<Role>(&call).await,
            "ListRolePolicies" => self.list_inline::<Role>(&call).await,
            "AttachRolePolicy" => self.attach::<Role>(&call).await,
            "DetachRolePolicy" => self.detach::<Role>(&call).await,
            "ListAttachedRolePolicies" => self.list_attached::<Role>(&call).await,
            "CreateUser" => self.create_user(&call).await,
            "GetUser" => self.get_user(&call).await,
            "ListUsers" => self.list_users(&call).await,
            "DeleteUser" => self.delete_user(&call).await,
            "PutUserPolicy" => self.put_inline::<User>(&call).await,
            "GetUserPolicy" => self.get_inline::<User>(&call).await,
            "DeleteUserPolicy" => self.delete_inline::<User>(&call).await,
            "ListUserPolicies" => self.list_inline::<User>(&call).await,
            "AttachUserPolicy" => self.attach::<User>(&call).await,
            "DetachUserPolicy" => self.detach::<User>(&call).await,
            "ListAttachedUserPolicies" => self.list_attached::<User>(&call).await,
            "CreateAccessKey" => self.create_access_key(&call).await,
            "UpdateAccessKey" => self.update_access_key(&call).await,
            "DeleteAccessKey" => self.delete_access_key(&call).await,
            "ListAccessKeys" => self.list_access_keys(&call).await,
            "CreatePolicy" => self.create_policy(&call).await,
            "GetPolicy" => self.get_policy(&call).await,
            "GetPolicyVersion" => self.get_policy_version(&call).await,
            "ListPolicies" => self.list_policies(&call).await,
            "DeletePolicy" => self.delete_policy(&call).await,
            other => Err(Error::unsupported(other, "it is not built yet")),
        }
    }

    /// A user or a role, by name.
    async fn find<H: Holder>(&self, name: &str) -> Result<Stored<H>, Error> {
        let stored = self.catalog.get::<H>(&resource::key(name)).await?;
        // Names are unique whatever their case, and are asked for as they are.
        let stored = stored.filter(|stored| stored.value.name() == name);
        match stored {
            Some(stored) => Ok(stored),
            None if H::NOUN == "user" && self.identities.file().named(name).is_some() => {
                Err(Error::new(
                    "UnmodifiableEntityException",
                    format!(
                        "The user {name} is of the node's credentials file; it is changed there."
                    ),
                ))
            }
            None => Err(no_such(format!(
                "The {} with name {name} cannot be found.",
                H::NOUN
            ))),
        }
    }

    /// Changes a user or a role as it is, however often others change it meanwhile.
    async fn change<H: Holder>(
        &self,
        name: &str,
        change: impl Fn(&mut H) -> Result<(), Error> + Send,
    ) -> Result<H, Error> {
        for _ in 0..TRIES {
            let Stored {
                revision,
                mut value,
            } = self.find::<H>(name).await?;
            change(&mut value)?;
            if self
                .write(vec![Change::put_expecting(&value, revision)?])
                .await?
            {
                return Ok(value);
            }
        }
        Err(concurrent())
    }

    /// Whether the changes were made: not if somebody else came before.
    async fn write(&self, changes: Vec<Change>) -> Result<bool, Error> {
        match self.catalog.apply(changes.into()).await {
            Ok(_) => Ok(true),
            Err(store::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes what must not be there yet.
    async fn create<R: Resource + Sync>(&self, resource: &R, exists: String) -> Result<(), Error> {
        let changes = vec![Change::put_expecting(resource, 0)?];
        match self.write(changes).await? {
            true => Ok(()),
            false => Err(Error::new("EntityAlreadyExistsException", exists)),
        }
    }

    /// Everything of a type, by key.
    async fn all<R: Resource>(&self) -> Result<Vec<R>, Error> {
        let mut all: Vec<R> = Vec::new();
        loop {
            let after = all.last().map(Resource::key);
            let batch = self.catalog.list::<R>("", after.as_deref(), BATCH).await?;
            let last = batch.len() < BATCH;
            all.extend(batch.into_iter().map(|stored| stored.value));
            if last {
                return Ok(all);
            }
        }
    }

    fn account(&self) -> &str {
        self.identities.account()
    }
}

impl Service for Iam {
    fn model(&self) -> &'static Model {
        &IAM
    }

    fn subject<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Subject>, Error>> {
        Box::pin(async move {
            let action = format!("iam:{}", call.operation.name);
            let account = self.account();
            let path = call.text("Path");
            let text = |member| call.text(member);
            let resource = if let Some(arn) = text("PolicyArn").filter(|_| !action.contains("tach"))
            {
                arn.to_owned()
            } else if let Some(name) = text("RoleName") {
                let stored = self.catalog.get::<Role>(&resource::key(name)).await?;
                let kept = stored.map(|stored| stored.value.path);
                arn(
                    account,
                    "role",
                    path.or(kept.as_deref()).unwrap_or("/"),
                    name,
                )
            } else if let Some(name) =
                text("PolicyName").filter(|_| path.is_some() || action == "iam:CreatePolicy")
            {
                arn(account, "policy", path.unwrap_or("/"), name)
            } else if let Some(name) = text("UserName") {
                let stored = self.catalog.get::<User>(&resource::key(name)).await?;
                let kept = stored.map(|stored| stored.value.path);
                arn(
                    account,
                    "user",
                    path.or(kept.as_deref()).unwrap_or("/"),
                    name,
                )
            } else if action.ends_with("AccessKey")
                || action.ends_with("AccessKeys")
                || action == "iam:GetUser"
            {
                // About who calls.
                call.caller.identity.arn.clone()
            } else if let Some(service) = text("AWSServiceName") {
                let path = format!("/aws-service-role/{service}/");
                arn(account, "role", &path, &roles::linked_name(service))
            } else {
                // Lists: IAM's are on all of a kind.
                match call.operation.name.as_str() {
                    "ListRoles" => arn(account, "role", "/", ""),
                    "ListUsers" => arn(account, "user", "/", ""),
                    _ => "*".to_owned(),
                }
            };
            let mut subject = Subject::new(action, resource);
            if let Some(arn) = text("PolicyArn") {
                subject.context.add("iam:PolicyARN", arn);
            }
            Ok(Some(subject))
        })
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async { self.document(call).await.map(Answer::from) })
    }
}

/// A member that the model requires.
fn wanted<'a>(call: &'a Call, member: &str) -> Result<&'a str, Error> {
    call.text(member).ok_or_else(|| {
        let message = format!(
            "Value null at '{member}' failed to satisfy constraint: Member must not be null"
        );
        Error::new("ValidationException", message)
    })
}

/// Refuses members that Wharf has nothing for.
fn refuse(call: &Call, members: &[&str]) -> Result<(), Error> {
    let given = |member: &&&str| call.input.contains_key(**member);
    match members.iter().find(given) {
        None => Ok(()),
        Some(member) => {
            let operation = &call.operation.name;
            let message = format!("Wharf does not support {member} of {operation}.");
            Err(Error::new("InvalidInputException", message))
        }
    }
}

/// The user that a call is about: the one it names, or who calls.
fn user_of(call: &Call) -> Result<&str, Error> {
    match (call.text("UserName"), &call.caller.identity.kind) {
        (Some(name), _) => Ok(name),
        (None, IdentityKind::User { name }) => Ok(name),
        (None, IdentityKind::Root | IdentityKind::Session { .. }) => Err(Error::new(
            "ValidationException",
            "Must specify userName when calling with non-User credentials",
        )),
    }
}

/// The tags of a call.
fn tags(input: &Map<String, Value>) -> std::collections::BTreeMap<String, String> {
    let tags = input.get("Tags").and_then(Value::as_array);
    let text = |tag: &Value, member: &str| tag[member].as_str().unwrap_or_default().to_owned();
    tags.into_iter()
        .flatten()
        .map(|tag| (text(tag, "Key"), text(tag, "Value")))
        .collect()
}

/// Tags as the API has them.
fn tag_list(tags: &std::collections::BTreeMap<String, String>) -> Value {
    tags.iter()
        .map(|(key, value)| json!({"Key": key, "Value": value}))
        .collect()
}

/// A time as XML has it.
fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A document as IAM answers with it: percent-encoded.
fn encoded(document: &str) -> String {
    // A form's encoding writes a space as `+`, which a client of IAM's would leave so.
    let form: String = url::form_urlencoded::byte_serialize(document.as_bytes()).collect();
    form.replace('+', "%20")
}

fn no_such(message: String) -> Error {
    Error::new("NoSuchEntityException", message)
}

fn exceeded(message: impl Into<String>) -> Error {
    Error::new("LimitExceededException", message)
}

fn concurrent() -> Error {
    Error::new(
        "ConcurrentModificationException",
        "The entity was changed by others again and again. Try once more.",
    )
}

/// Whether a role is there, and trusts Lambda.
///
/// # Errors
///
/// The catalog cannot be read.
pub(super) async fn lambda_may_assume(
    catalog: &Arc<dyn Catalog>,
    wanted: &str,
) -> Result<bool, store::Error> {
    let name = wanted.rsplit('/').next().unwrap_or(wanted);
    let Some(stored) = catalog.get::<Role>(&resource::key(name)).await? else {
        return Ok(false);
    };
    let role = stored.value;
    let account = wanted.split(':').nth(4).unwrap_or_default();
    let Ok(trust) = Policy::parse(&role.trust, policy::Kind::Trust) else {
        return Ok(false);
    };
    let lambda = Principal::Service("lambda.amazonaws.com".to_owned());
    let request = policy::Request {
        principal: &lambda,
        action: "sts:AssumeRole",
        resource: wanted,
        context: &policy::Context::default(),
    };
    let trusted = policy::evaluate_trust(&[], &trust, request) == policy::Decision::Allowed;
    Ok(trusted && arn(account, "role", &role.path, &role.name) == wanted)
}

/// Whether who calls may give a function that role.
///
/// # Errors
///
/// They may not.
pub(super) fn may_pass(caller: &Caller, role: &str) -> Result<(), Denied> {
    let context =
        super::auth::policy::Context::default().with("iam:PassedToService", "lambda.amazonaws.com");
    caller.authorize("iam:PassRole", &[role.to_owned()], &context)
}
