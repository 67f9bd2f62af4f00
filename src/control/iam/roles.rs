//! Roles: what functions run as, and what is assumed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Call, Change, Error, Iam, Role, Stored, concurrent, encoded, exceeded, pages, policies, refuse,
    resource::{Policies, arn},
    tag_list, tags, time, wanted,
};
use crate::{
    control::auth::{
        new_id,
        policy::{Kind, Policy},
    },
    store::Resource as _,
};

/// The most characters of a trust policy, and the most tags (IAM quotas).
const TRUST_QUOTA: usize = 2048;
const MOST_TAGS: usize = 50;

/// How long a session of a role lasts at most where nothing is said: an hour.
const SESSION: i64 = 3600;

/// Members that Wharf has nothing for.
const NOT_HERE: &[&str] = &[
    "PermissionsBoundary",
    "MaxSigninSessionDuration",
    "ResetMaxSigninSessionDuration",
];

impl Iam {
    pub(super) async fn create_role(&self, call: &Call) -> Result<Value, Error> {
        refuse(call, NOT_HERE)?;
        let trust = wanted(call, "AssumeRolePolicyDocument")?;
        check_trust(trust)?;
        let role = Role {
            name: wanted(call, "RoleName")?.to_owned(),
            path: call.text("Path").unwrap_or("/").to_owned(),
            id: new_id("AROA", 17).map_err(|error| Error::internal(&error))?,
            created: Timestamp::now(),
            trust: trust.to_owned(),
            description: call.text("Description").map(str::to_owned),
            longest_session: seconds(call).unwrap_or(SESSION),
            tags: tags(&call.input),
            policies: Policies::default(),
        };
        self.make_role(&role).await
    }

    pub(super) async fn create_service_linked_role(&self, call: &Call) -> Result<Value, Error> {
        let service = wanted(call, "AWSServiceName")?;
        if !service.ends_with(".amazonaws.com") {
            let message = format!("{service} is no service, such as lambda.amazonaws.com.");
            return Err(Error::new("InvalidInputException", message));
        }
        let suffix = call.text("CustomSuffix").map(|suffix| format!("_{suffix}"));
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
        }]});
        let trust = trust.to_string();
        check_trust(&trust)?;
        let role = Role {
            name: linked_name(service) + &suffix.unwrap_or_default(),
            path: format!("/aws-service-role/{service}/"),
            id: new_id("AROA", 17).map_err(|error| Error::internal(&error))?,
            created: Timestamp::now(),
            trust,
            description: call.text("Description").map(str::to_owned),
            longest_session: SESSION,
            tags: std::collections::BTreeMap::new(),
            policies: Policies::default(),
        };
        self.make_role(&role).await
    }

    async fn make_role(&self, role: &Role) -> Result<Value, Error> {
        let exists = format!("Role with name {} already exists.", role.name);
        self.create(role, exists).await?;
        Ok(json!({"Role": self.describe_role(role)}))
    }

    pub(super) async fn get_role(&self, call: &Call) -> Result<Value, Error> {
        let role = self.find::<Role>(wanted(call, "RoleName")?).await?.value;
        Ok(json!({"Role": self.describe_role(&role)}))
    }

    pub(super) async fn list_roles(&self, call: &Call) -> Result<Value, Error> {
        let prefix = call.text("PathPrefix").unwrap_or("/");
        let roles = self.all::<Role>().await?;
        let roles = roles.iter().filter(|role| role.path.starts_with(prefix));
        let roles = roles.map(|role| {
            let mut described = self.describe_role(role);
            if let Some(members) = described.as_object_mut() {
                // As IAM's lists, which are without.
                members.remove("Tags");
            }
            (role.key(), described)
        });
        pages::page(call, "Roles", roles.collect())
    }

    pub(super) async fn update_role(&self, call: &Call) -> Result<Value, Error> {
        refuse(call, NOT_HERE)?;
        let name = wanted(call, "RoleName")?;
        let update = |role: &mut Role| {
            if let Some(description) = call.text("Description") {
                role.description = Some(description.to_owned());
            }
            if let Some(seconds) = seconds(call) {
                role.longest_session = seconds;
            }
            Ok(())
        };
        self.change(name, update).await?;
        Ok(json!({}))
    }

    pub(super) async fn update_role_description(&self, call: &Call) -> Result<Value, Error> {
        let (name, description) = (wanted(call, "RoleName")?, wanted(call, "Description")?);
        let update = |role: &mut Role| {
            role.description = Some(description.to_owned());
            Ok(())
        };
        let role = self.change(name, update).await?;
        Ok(json!({"Role": self.describe_role(&role)}))
    }

    pub(super) async fn update_trust(&self, call: &Call) -> Result<Value, Error> {
        let (name, trust) = (wanted(call, "RoleName")?, wanted(call, "PolicyDocument")?);
        check_trust(trust)?;
        let update = |role: &mut Role| {
            trust.clone_into(&mut role.trust);
            Ok(())
        };
        self.change(name, update).await?;
        Ok(json!({}))
    }

    pub(super) async fn delete_role(&self, call: &Call) -> Result<Value, Error> {
        let name = wanted(call, "RoleName")?;
        for _ in 0..super::TRIES {
            let Stored { revision, value } = self.find::<Role>(name).await?;
            super::users::check_unused(&value.policies)?;
            let delete = Change::Delete {
                kind: Role::KIND,
                key: value.key(),
                expected: Some(revision),
            };
            if self.write(vec![delete]).await? {
                return Ok(json!({}));
            }
        }
        Err(concurrent())
    }

    pub(super) async fn tag_role(&self, call: &Call) -> Result<Value, Error> {
        let tag = |role: &mut Role| {
            role.tags.extend(tags(&call.input));
            match role.tags.len() <= MOST_TAGS {
                true => Ok(()),
                false => Err(exceeded(format!(
                    "Cannot exceed quota for TagsPerRole: {MOST_TAGS}"
                ))),
            }
        };
        self.change(wanted(call, "RoleName")?, tag).await?;
        Ok(json!({}))
    }

    pub(super) async fn untag_role(&self, call: &Call) -> Result<Value, Error> {
        let keys = call.input.get("TagKeys").and_then(Value::as_array);
        let untag = |role: &mut Role| {
            for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                role.tags.remove(key);
            }
            Ok(())
        };
        self.change(wanted(call, "RoleName")?, untag).await?;
        Ok(json!({}))
    }

    pub(super) async fn list_role_tags(&self, call: &Call) -> Result<Value, Error> {
        let role = self.find::<Role>(wanted(call, "RoleName")?).await?.value;
        let tags = role.tags.iter();
        let tags = tags.map(|(key, value)| (key.clone(), json!({"Key": key, "Value": value})));
        pages::page(call, "Tags", tags.collect())
    }

    fn describe_role(&self, role: &Role) -> Value {
        json!({
            "Path": role.path,
            "RoleName": role.name,
            "RoleId": role.id,
            "Arn": arn(self.account(), "role", &role.path, &role.name),
            "CreateDate": time(role.created),
            "AssumeRolePolicyDocument": encoded(&role.trust),
            "Description": role.description,
            "MaxSessionDuration": role.longest_session,
            "Tags": (!role.tags.is_empty()).then(|| tag_list(&role.tags)),
        })
    }
}

/// What a service's own role is called.
pub(super) fn linked_name(service: &str) -> String {
    let label = service.split('.').next().unwrap_or(service);
    let mut letters = label.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let name: String = first.into_iter().chain(letters).collect();
    format!("AWSServiceRoleFor{name}")
}

fn seconds(call: &Call) -> Option<i64> {
    call.input.get("MaxSessionDuration").and_then(Value::as_i64)
}

fn check_trust(document: &str) -> Result<(), Error> {
    policies::check(document, Kind::Trust)?;
    match Policy::size(document) <= TRUST_QUOTA {
        true => Ok(()),
        false => Err(exceeded(format!(
            "Cannot exceed quota for ACLSizePerRole: {TRUST_QUOTA}"
        ))),
    }
}
