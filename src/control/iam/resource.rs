//! What IAM keeps: users, roles, policies and access keys, as documents of the catalog.
//!
//! Names are unique whatever their case, as IAM's are, so that is how they are kept. Policies are kept as they were sent;
//! they were read once before, and are read when they are needed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct User {
    pub(in crate::control) name: String,
    pub(in crate::control) path: String,
    pub(in crate::control) id: String,
    pub(in crate::control) created: Timestamp,
    #[serde(default)]
    pub(in crate::control) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::control) policies: Policies,
    /// The ids of their access keys.
    #[serde(default)]
    pub(in crate::control) keys: Vec<String>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Role {
    pub(in crate::control) name: String,
    pub(in crate::control) path: String,
    pub(in crate::control) id: String,
    pub(in crate::control) created: Timestamp,
    /// Who may assume it.
    pub(in crate::control) trust: String,
    pub(in crate::control) description: Option<String>,
    /// How long a session may last, in seconds.
    pub(in crate::control) longest_session: i64,
    #[serde(default)]
    pub(in crate::control) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::control) policies: Policies,
}

/// The policies of a user or a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Policies {
    /// Its own, by name.
    pub(in crate::control) inline: BTreeMap<String, String>,
    /// The ARNs of others.
    pub(in crate::control) attached: Vec<String>,
}

/// A policy that may be attached to users and roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct ManagedPolicy {
    pub(in crate::control) name: String,
    pub(in crate::control) path: String,
    pub(in crate::control) id: String,
    pub(in crate::control) created: Timestamp,
    pub(in crate::control) description: Option<String>,
    pub(in crate::control) document: String,
    #[serde(default)]
    pub(in crate::control) tags: BTreeMap<String, String>,
}

/// An access key of a user. Its secret is sealed with the node's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct AccessKey {
    pub(in crate::control) id: String,
    pub(in crate::control) user: String,
    pub(in crate::control) secret: String,
    pub(in crate::control) active: bool,
    pub(in crate::control) created: Timestamp,
}

impl AccessKey {
    /// What its secret is sealed for.
    pub(in crate::control) fn context(id: &str) -> String {
        format!("access-key/{id}")
    }
}

/// How a name is kept.
pub(in crate::control) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The ARN of something of IAM's: `kind` is `user`, `role` or `policy`, and the path begins and ends with `/`.
pub(in crate::control) fn arn(account: &str, kind: &str, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:{kind}{path}{name}")
}

impl Resource for User {
    const KIND: &'static str = "iam-user";

    fn key(&self) -> String {
        key(&self.name)
    }
}

impl Resource for Role {
    const KIND: &'static str = "iam-role";

    fn key(&self) -> String {
        key(&self.name)
    }
}

impl Resource for ManagedPolicy {
    const KIND: &'static str = "iam-policy";

    fn key(&self) -> String {
        key(&self.name)
    }
}

impl Resource for AccessKey {
    const KIND: &'static str = "iam-access-key";

    fn key(&self) -> String {
        self.id.clone()
    }
}
