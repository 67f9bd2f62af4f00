//! What has policies: users and roles. Policies of their own, and others that are attached.

use serde_json::{Value, json};

use super::{
    Call, Change, Error, Iam, Stored, concurrent, encoded, exceeded, no_such, pages,
    policies::{self, Attachable},
    resource::{Policies, Role, User},
    wanted,
};
use crate::{
    control::auth::policy::{Kind, Policy},
    store::Resource,
};

/// The most policies that are attached to one (IAM quotas).
const MOST_ATTACHED: usize = 10;

/// What has policies.
pub(super) trait Holder: Resource + Clone + Send + Sync {
    /// `user` or `role`.
    const NOUN: &'static str;
    /// The member that names it.
    const NAME: &'static str;
    /// The most characters that its own policies have together (IAM quotas).
    const QUOTA: usize;
    /// The quota of attached policies.
    const ATTACHED: &'static str;

    fn name(&self) -> &str;
    fn policies(&self) -> &Policies;
    fn policies_mut(&mut self) -> &mut Policies;
}

impl Holder for User {
    const NOUN: &'static str = "user";
    const NAME: &'static str = "UserName";
    const QUOTA: usize = 2048;
    const ATTACHED: &'static str = "PoliciesPerUser";

    fn name(&self) -> &str {
        &self.name
    }

    fn policies(&self) -> &Policies {
        &self.policies
    }

    fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }
}

impl Holder for Role {
    const NOUN: &'static str = "role";
    const NAME: &'static str = "RoleName";
    const QUOTA: usize = 10_240;
    const ATTACHED: &'static str = "PoliciesPerRole";

    fn name(&self) -> &str {
        &self.name
    }

    fn policies(&self) -> &Policies {
        &self.policies
    }

    fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }
}

impl Iam {
    pub(super) async fn put_inline<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let (holder, name) = (wanted(call, H::NAME)?, wanted(call, "PolicyName")?);
        let document = wanted(call, "PolicyDocument")?;
        policies::check(document, Kind::Identity)?;
        self.change::<H>(holder, |holder| put(holder, name, document))
            .await?;
        Ok(json!({}))
    }

    pub(super) async fn get_inline<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let (holder, name) = (wanted(call, H::NAME)?, wanted(call, "PolicyName")?);
        let stored = self.find::<H>(holder).await?.value;
        let document = stored.policies().inline.get(name);
        let document = document.ok_or_else(|| no_inline::<H>(name))?;
        Ok(json!({H::NAME: holder, "PolicyName": name, "PolicyDocument": encoded(document)}))
    }

    pub(super) async fn delete_inline<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let (holder, name) = (wanted(call, H::NAME)?, wanted(call, "PolicyName")?);
        let remove = |holder: &mut H| {
            let removed = holder.policies_mut().inline.remove(name);
            removed.map(drop).ok_or_else(|| no_inline::<H>(name))
        };
        self.change::<H>(holder, remove).await?;
        Ok(json!({}))
    }

    pub(super) async fn list_inline<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let stored = self.find::<H>(wanted(call, H::NAME)?).await?.value;
        let names = stored.policies().inline.keys();
        let names = names.map(|name| (name.clone(), Value::from(name.clone())));
        pages::page(call, "PolicyNames", names.collect())
    }

    pub(super) async fn attach<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let (holder, arn) = (wanted(call, H::NAME)?, wanted(call, "PolicyArn")?);
        self.attach_to::<H>(holder, arn).await?;
        Ok(json!({}))
    }

    /// Attaches a policy. What is made here is written again with it, so that nobody removes it at the same time.
    pub(super) async fn attach_to<H: Holder>(&self, holder: &str, arn: &str) -> Result<(), Error> {
        for _ in 0..super::TRIES {
            let Stored {
                revision,
                mut value,
            } = self.find::<H>(holder).await?;
            let touched = match self.policy(arn).await? {
                None => {
                    return Err(no_such(format!(
                        "Policy {arn} does not exist or is not attachable."
                    )));
                }
                Some(Attachable::Managed(_)) => None,
                Some(Attachable::Own(policy)) => {
                    Some(Change::put_expecting(&policy.value, policy.revision)?)
                }
            };
            add(&mut value, arn)?;
            let mut changes = vec![Change::put_expecting(&value, revision)?];
            changes.extend(touched);
            if self.write(changes).await? {
                return Ok(());
            }
        }
        Err(concurrent())
    }

    pub(super) async fn detach<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let (holder, arn) = (wanted(call, H::NAME)?, wanted(call, "PolicyArn")?);
        let remove = |holder: &mut H| {
            let attached = &mut holder.policies_mut().attached;
            let before = attached.len();
            attached.retain(|found| found != arn);
            match attached.len() < before {
                true => Ok(()),
                false => Err(no_such(format!("Policy {arn} was not found."))),
            }
        };
        self.change::<H>(holder, remove).await?;
        Ok(json!({}))
    }

    pub(super) async fn list_attached<H: Holder>(&self, call: &Call) -> Result<Value, Error> {
        let stored = self.find::<H>(wanted(call, H::NAME)?).await?.value;
        let prefix = call.text("PathPrefix").unwrap_or("/");
        let attached = stored.policies().attached.iter().filter(|arn| {
            let path = arn.split_once(":policy").map_or("", |(_, path)| path);
            path.starts_with(prefix)
        });
        let mut attached: Vec<(String, Value)> = attached
            .map(|arn| {
                let name = arn.rsplit('/').next().unwrap_or(arn);
                (arn.clone(), json!({"PolicyName": name, "PolicyArn": arn}))
            })
            .collect();
        attached.sort_by(|(one, _), (other, _)| one.cmp(other));
        pages::page(call, "AttachedPolicies", attached)
    }
}

/// Gives a user or a role a policy of its own.
pub(super) fn put<H: Holder>(holder: &mut H, name: &str, document: &str) -> Result<(), Error> {
    let inline = &mut holder.policies_mut().inline;
    inline.insert(name.to_owned(), document.to_owned());
    let size: usize = inline.values().map(|document| Policy::size(document)).sum();
    match size <= H::QUOTA {
        true => Ok(()),
        false => Err(exceeded(format!(
            "Maximum policy size of {} bytes exceeded for {} {}",
            H::QUOTA,
            H::NOUN,
            holder.name()
        ))),
    }
}

/// Attaches a policy. One that is attached is no error.
fn add<H: Holder>(holder: &mut H, arn: &str) -> Result<(), Error> {
    let attached = &mut holder.policies_mut().attached;
    if attached.iter().any(|found| found == arn) {
        return Ok(());
    }
    if attached.len() >= MOST_ATTACHED {
        let quota = H::ATTACHED;
        return Err(exceeded(format!(
            "Cannot exceed quota for {quota}: {MOST_ATTACHED}"
        )));
    }
    attached.push(arn.to_owned());
    Ok(())
}

fn no_inline<H: Holder>(name: &str) -> Error {
    no_such(format!(
        "The {} policy with name {name} cannot be found.",
        H::NOUN
    ))
}
