//! Users and their access keys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Call, Change, Error, Iam, Stored, User, concurrent, exceeded, no_such, pages, refuse,
    resource::{AccessKey, Policies, arn, key},
    tag_list, tags, time, user_of, wanted,
};
use crate::{
    control::auth::{Identity, IdentityKind, new_id, new_secret},
    store::Resource as _,
};

/// The most access keys of a user (IAM quotas).
const MOST_KEYS: usize = 2;

/// An access key that was just made: its secret is told this once.
pub(super) struct NewKey {
    pub(super) id: String,
    pub(super) secret: String,
    created: Timestamp,
}

impl Iam {
    pub(super) async fn create_user(&self, call: &Call) -> Result<Value, Error> {
        refuse(call, &["PermissionsBoundary"])?;
        let path = call.text("Path").unwrap_or("/");
        let user = self
            .make_user(wanted(call, "UserName")?, path, tags(&call.input))
            .await?;
        Ok(json!({"User": self.describe_user(&user)}))
    }

    /// Makes a user who may do nothing yet.
    pub(super) async fn make_user(
        &self,
        name: &str,
        path: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<User, Error> {
        let user = User {
            name: name.to_owned(),
            path: path.to_owned(),
            id: new_id("AIDA", 17).map_err(|error| Error::internal(&error))?,
            created: Timestamp::now(),
            tags,
            policies: Policies::default(),
            keys: Vec::new(),
        };
        let exists = format!("User with name {name} already exists.");
        let in_file = self.identities.file().list().into_iter().any(|identity| {
            matches!(&identity.kind, IdentityKind::User { name: found } if key(found) == key(name))
        });
        if in_file {
            return Err(Error::new("EntityAlreadyExistsException", exists));
        }
        self.create(&user, exists).await?;
        Ok(user)
    }

    pub(super) async fn get_user(&self, call: &Call) -> Result<Value, Error> {
        let caller = &call.caller.identity;
        if call.text("UserName").is_none() && caller.kind == IdentityKind::Root {
            return Ok(json!({"User": describe_identity(caller)}));
        }
        let name = user_of(call)?;
        if let Some(identity) = self.identities.file().named(name) {
            return Ok(json!({"User": describe_identity(&identity)}));
        }
        let user = self.find::<User>(name).await?.value;
        Ok(json!({"User": self.describe_user(&user)}))
    }

    pub(super) async fn list_users(&self, call: &Call) -> Result<Value, Error> {
        let prefix = call.text("PathPrefix").unwrap_or("/");
        let users = self.all::<User>().await?;
        let mut listed: Vec<(String, Value)> = users
            .iter()
            .filter(|user| user.path.starts_with(prefix))
            .map(|user| {
                let mut described = self.describe_user(user);
                if let Some(members) = described.as_object_mut() {
                    // As IAM's lists, which are without.
                    members.remove("Tags");
                }
                (user.key(), described)
            })
            .collect();
        if prefix == "/" {
            let file = self.identities.file().list().into_iter();
            listed.extend(file.filter_map(|identity| match &identity.kind {
                IdentityKind::User { name } => Some((key(name), describe_identity(&identity))),
                IdentityKind::Root | IdentityKind::Session { .. } => None,
            }));
        }
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        pages::page(call, "Users", listed)
    }

    pub(super) async fn delete_user(&self, call: &Call) -> Result<Value, Error> {
        let name = wanted(call, "UserName")?;
        for _ in 0..super::TRIES {
            let Stored { revision, value } = self.find::<User>(name).await?;
            check_unused(&value.policies)?;
            if !value.keys.is_empty() {
                let message = "Cannot delete entity, must delete access keys first.";
                return Err(Error::new("DeleteConflictException", message));
            }
            if self.remove_user(&value, revision).await? {
                return Ok(json!({}));
            }
        }
        Err(concurrent())
    }

    /// Removes a user with their keys, whatever they have.
    pub(super) async fn remove_whole_user(&self, name: &str) -> Result<(), Error> {
        for _ in 0..super::TRIES {
            let Stored { revision, value } = self.find::<User>(name).await?;
            if self.remove_user(&value, revision).await? {
                return Ok(());
            }
        }
        Err(concurrent())
    }

    async fn remove_user(&self, user: &User, revision: u64) -> Result<bool, Error> {
        let mut changes = vec![Change::Delete {
            kind: User::KIND,
            key: user.key(),
            expected: Some(revision),
        }];
        changes.extend(user.keys.iter().map(Change::delete::<AccessKey>));
        self.write(changes).await
    }

    pub(super) async fn create_access_key(&self, call: &Call) -> Result<Value, Error> {
        let name = user_of(call)?;
        let made = self.make_access_key(name).await?;
        Ok(json!({"AccessKey": {
            "UserName": name,
            "AccessKeyId": made.id,
            "Status": "Active",
            "SecretAccessKey": made.secret,
            "CreateDate": time(made.created),
        }}))
    }

    /// Makes an access key of a user.
    pub(super) async fn make_access_key(&self, name: &str) -> Result<NewKey, Error> {
        let random = |made: std::io::Result<String>| made.map_err(|error| Error::internal(&error));
        let (id, secret) = (random(new_id("WHARF", 15))?, random(new_secret())?);
        let sealer = self.identities.sealer();
        let sealed = sealer.seal(&AccessKey::context(&id), secret.as_bytes())?;
        for _ in 0..super::TRIES {
            let Stored {
                revision,
                mut value,
            } = self.find::<User>(name).await?;
            if value.keys.len() >= MOST_KEYS {
                return Err(exceeded(format!(
                    "Cannot exceed quota for AccessKeysPerUser: {MOST_KEYS}"
                )));
            }
            value.keys.push(id.clone());
            let key = AccessKey {
                id: id.clone(),
                user: value.name.clone(),
                secret: sealed.clone(),
                active: true,
                created: Timestamp::now(),
            };
            let changes = vec![
                Change::put_expecting(&value, revision)?,
                Change::put_expecting(&key, 0)?,
            ];
            if self.write(changes).await? {
                return Ok(NewKey {
                    id,
                    secret,
                    created: key.created,
                });
            }
        }
        Err(concurrent())
    }

    pub(super) async fn update_access_key(&self, call: &Call) -> Result<Value, Error> {
        let id = wanted(call, "AccessKeyId")?;
        let active = wanted(call, "Status")? == "Active";
        for _ in 0..super::TRIES {
            let Stored { revision, value } = self.access_key(call, id).await?;
            let key = AccessKey { active, ..value };
            if self
                .write(vec![Change::put_expecting(&key, revision)?])
                .await?
            {
                return Ok(json!({}));
            }
        }
        Err(concurrent())
    }

    pub(super) async fn delete_access_key(&self, call: &Call) -> Result<Value, Error> {
        let id = wanted(call, "AccessKeyId")?;
        for _ in 0..super::TRIES {
            let key = self.access_key(call, id).await?.value;
            let Stored {
                revision,
                mut value,
            } = self.find::<User>(&key.user).await?;
            value.keys.retain(|found| found != id);
            let changes = vec![
                Change::put_expecting(&value, revision)?,
                Change::delete::<AccessKey>(id),
            ];
            if self.write(changes).await? {
                return Ok(json!({}));
            }
        }
        Err(concurrent())
    }

    pub(super) async fn list_access_keys(&self, call: &Call) -> Result<Value, Error> {
        let user = self.find::<User>(user_of(call)?).await?.value;
        let mut listed = Vec::new();
        for id in &user.keys {
            if let Some(stored) = self.catalog.get::<AccessKey>(id).await? {
                let key = stored.value;
                let described = json!({
                    "UserName": key.user,
                    "AccessKeyId": key.id,
                    "Status": if key.active { "Active" } else { "Inactive" },
                    "CreateDate": time(key.created),
                });
                listed.push((key.id, described));
            }
        }
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        pages::page(call, "AccessKeyMetadata", listed)
    }

    /// An access key of the user that a call is about. Another's is not to be found.
    async fn access_key(&self, call: &Call, id: &str) -> Result<Stored<AccessKey>, Error> {
        let name = user_of(call)?;
        self.find::<User>(name).await?;
        let stored = self.catalog.get::<AccessKey>(id).await?;
        stored
            .filter(|stored| stored.value.user == name)
            .ok_or_else(|| no_such(format!("The Access Key with id {id} cannot be found.")))
    }

    fn describe_user(&self, user: &User) -> Value {
        json!({
            "Path": user.path,
            "UserName": user.name,
            "UserId": user.id,
            "Arn": arn(self.account(), "user", &user.path, &user.name),
            "CreateDate": time(user.created),
            "Tags": (!user.tags.is_empty()).then(|| tag_list(&user.tags)),
        })
    }
}

/// Whether a user or a role has no policies any more.
pub(super) fn check_unused(policies: &Policies) -> Result<(), Error> {
    let first = match (policies.attached.is_empty(), policies.inline.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => "detach all policies",
        (true, false) => "delete policies",
    };
    let message = format!("Cannot delete entity, must {first} first.");
    Err(Error::new("DeleteConflictException", message))
}

/// The root, or a user of the file, who has no date.
fn describe_identity(identity: &Identity) -> Value {
    let mut described = json!({
        "Path": "/",
        "UserId": identity.user_id,
        "Arn": identity.arn,
        "CreateDate": time(Timestamp::UNIX_EPOCH),
    });
    match &identity.kind {
        IdentityKind::User { name } => described["UserName"] = name.as_str().into(),
        // As IAM answers for the root.
        IdentityKind::Root | IdentityKind::Session { .. } => {
            described["UserName"] = identity.account.as_str().into();
        }
    }
    described
}
