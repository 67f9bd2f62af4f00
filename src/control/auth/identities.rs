//! Whose an access key is: a user's of the credentials file, a user's that IAM made, or a session's.
//!
//! What the catalog says of a key is remembered until the catalog changes, so that a call costs no read of the store.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Refusal,
    caller::{Identity, IdentityKind},
    credentials::Credentials,
    managed,
    policy::{Context, Kind, Policy},
    session::{Session, Whose},
};
use crate::{
    control::{
        error::Error,
        iam::resource::{self, AccessKey, ManagedPolicy, Policies, Role, User},
    },
    store::{Catalog, Sealer},
};

/// The most keys that are remembered.
const MOST: usize = 10_000;

/// Everybody who may call a node.
pub struct Identities {
    file: Credentials,
    catalog: Arc<dyn Catalog>,
    sealer: Arc<Sealer>,
    account: String,
    revision: watch::Receiver<u64>,
    /// What was found at a revision of the catalog.
    known: Mutex<(u64, HashMap<String, Found>)>,
}

/// Whose a key is, and what it signs with.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) secret: String,
    pub(super) identity: Arc<Identity>,
}

impl Identities {
    /// The users of the file, and those of the catalog, whose secrets are sealed.
    pub fn new(
        file: Credentials,
        catalog: Arc<dyn Catalog>,
        sealer: Arc<Sealer>,
        account: String,
    ) -> Self {
        let revision = catalog.watch();
        Self {
            file,
            catalog,
            sealer,
            account,
            revision,
            known: Mutex::default(),
        }
    }

    /// The account's number.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The users of the file.
    pub(in crate::control) fn file(&self) -> &Credentials {
        &self.file
    }

    /// What seals secrets.
    pub(in crate::control) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Whose an access key is, with its token if it is temporary.
    pub(super) async fn find(&self, key_id: &str, token: Option<&str>) -> Result<Found, Error> {
        if let Some(token) = token {
            let session = Session::open(token, key_id, &self.sealer, Timestamp::now())?;
            return self.session(session).await;
        }
        if let Some(user) = self.file.find(key_id) {
            return Ok(Found {
                secret: user.secret,
                identity: user.identity,
            });
        }
        // Before anything is read: what changes meanwhile is read again with the next call.
        let revision = *self.revision.borrow();
        if let Some(found) = self.known(revision, key_id) {
            return Ok(found);
        }
        let key = self.catalog.get::<AccessKey>(key_id).await?;
        let key = key.map(|stored| stored.value).filter(|key| key.active);
        let key = key.ok_or(Refusal::Unrecognized)?;
        let identity = self.user(&key.user).await?.ok_or(Refusal::Unrecognized)?;
        let secret = self
            .sealer
            .open(&AccessKey::context(&key.id), &key.secret)?;
        let found = Found {
            secret: String::from_utf8(secret).map_err(|_| Error::Internal)?,
            identity: Arc::new(identity),
        };
        self.remember(revision, key_id, &found);
        Ok(found)
    }

    /// Who acts in a session, as they are now.
    async fn session(&self, session: Session) -> Result<Found, Error> {
        let mut identity = match &session.whose {
            Whose::Root => Identity::root(&self.account),
            Whose::User { name, id } => {
                let file = self.file.named(name).map(|identity| (*identity).clone());
                let user = match file {
                    Some(user) => Some(user),
                    None => self.user(name).await?,
                };
                let user = user.filter(|user| user.user_id == *id);
                user.ok_or(Refusal::Unrecognized)?
            }
            Whose::Role {
                role,
                id,
                session,
                policy,
            } => {
                let stored = self.catalog.get::<Role>(&resource::key(role)).await?;
                let role = stored.map(|stored| stored.value);
                let role = role.filter(|role| role.id == *id);
                let role = role.ok_or(Refusal::Unrecognized)?;
                let mut identity = self.role_session(&role, session).await?;
                let policy = policy.as_deref().map(read_policy).transpose()?;
                identity.session = policy;
                identity
            }
        };
        identity.context.add(
            "aws:TokenIssueTime",
            session.issued.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        Ok(Found {
            secret: session.secret,
            identity: Arc::new(identity),
        })
    }

    /// A user of the catalog.
    async fn user(&self, name: &str) -> Result<Option<Identity>, Error> {
        let Some(user) = self.catalog.get::<User>(&resource::key(name)).await? else {
            return Ok(None);
        };
        let user = user.value;
        Ok(Some(Identity {
            arn: resource::arn(&self.account, "user", &user.path, &user.name),
            user_id: user.id,
            kind: IdentityKind::User { name: user.name },
            policies: self.policies(&user.policies).await?,
            context: tags(&user.tags),
            ..Identity::root(&self.account)
        }))
    }

    /// A session of a role.
    async fn role_session(&self, role: &Role, session: &str) -> Result<Identity, Error> {
        let (account, name) = (&self.account, &role.name);
        Ok(Identity {
            arn: format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"),
            user_id: format!("{}:{session}", role.id),
            kind: IdentityKind::Session {
                role: resource::arn(account, "role", &role.path, name),
            },
            policies: self.policies(&role.policies).await?,
            context: tags(&role.tags),
            ..Identity::root(account)
        })
    }

    /// What policies say. One that cannot be read may be the one that forbids: then nobody gets in.
    async fn policies(&self, policies: &Policies) -> Result<Vec<Arc<Policy>>, Error> {
        let mut read = Vec::new();
        for document in policies.inline.values() {
            read.push(read_policy(document)?);
        }
        for arn in &policies.attached {
            if let Some(policy) = managed::parsed(arn) {
                read.push(policy);
                continue;
            }
            let name = arn.rsplit('/').next().unwrap_or(arn);
            let stored = self
                .catalog
                .get::<ManagedPolicy>(&resource::key(name))
                .await?;
            let stored = stored.ok_or_else(|| {
                tracing::error!(arn, "a policy that is attached is not there");
                Error::Internal
            })?;
            read.push(read_policy(&stored.value.document)?);
        }
        Ok(read)
    }

    fn known(&self, revision: u64, key_id: &str) -> Option<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.0 == revision).then(|| known.1.get(key_id).cloned())?
    }

    fn remember(&self, revision: u64, key_id: &str, found: &Found) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != revision || known.1.len() >= MOST {
            known.1.clear();
        }
        known.0 = revision;
        known.1.insert(key_id.to_owned(), found.clone());
    }
}

fn read_policy(document: &str) -> Result<Arc<Policy>, Error> {
    Policy::parse(document, Kind::Identity)
        .map(Arc::new)
        .map_err(|error| {
            tracing::error!(%error, "a policy of the catalog cannot be read");
            Error::Internal
        })
}

fn tags(tags: &std::collections::BTreeMap<String, String>) -> Context {
    let mut context = Context::default();
    for (key, value) in tags {
        context.add(&format!("aws:PrincipalTag/{key}"), value);
    }
    context
}

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identities")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
