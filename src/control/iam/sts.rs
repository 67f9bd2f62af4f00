//! STS: who calls, and credentials for a while.

use std::{future::ready, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    refuse,
    resource::{self, Role, arn},
    time, wanted,
};
use crate::{
    control::{
        auth::{
            Identities, IdentityKind, Session, Subject, Whose,
            policy::{Context, Kind, Policy},
        },
        aws::{
            Answer, Call, Error, Service,
            model::{Model, STS},
        },
    },
    store::Catalog,
};

/// How long a session lasts where nothing is said: that of a role an hour, that of a user twelve.
const OF_ROLE: i64 = 3600;
const OF_USER: i64 = 43_200;

/// The longest session of a role that was assumed in a session, and of the root.
const CHAINED: i64 = 3600;

/// The most characters of a session's policy.
const QUOTA: usize = 2048;

/// Members that Wharf has nothing for.
const NOT_HERE: &[&str] = &[
    "PolicyArns",
    "Tags",
    "TransitiveTagKeys",
    "SerialNumber",
    "TokenCode",
    "SourceIdentity",
    "ProvidedContexts",
];

/// STS on a node.
pub(in crate::control) struct Sts {
    catalog: Arc<dyn Catalog>,
    identities: Arc<Identities>,
}

impl Sts {
    pub(in crate::control) fn new(catalog: Arc<dyn Catalog>, identities: Arc<Identities>) -> Self {
        Self {
            catalog,
            identities,
        }
    }

    async fn document(&self, call: Call) -> Result<Value, Error> {
        match call.operation.name.as_str() {
            "GetCallerIdentity" => {
                let identity = &call.caller.identity;
                Ok(
                    json!({"UserId": identity.user_id, "Account": identity.account, "Arn": identity.arn}),
                )
            }
            "AssumeRole" => self.assume_role(&call).await,
            "GetSessionToken" => self.get_session_token(&call),
            other => Err(Error::unsupported(
                other,
                "only GetCallerIdentity, AssumeRole and GetSessionToken are here",
            )),
        }
    }

    async fn assume_role(&self, call: &Call) -> Result<Value, Error> {
        refuse_members(call, NOT_HERE)?;
        let (wanted_arn, name) = (wanted(call, "RoleArn")?, wanted(call, "RoleSessionName")?);
        let account = self.identities.account();
        let Some(role) = self.role(wanted_arn).await? else {
            // Whoever may not assume a role is not told whether it is there.
            let who = &call.caller.identity.arn;
            return Err(Error::new(
                "AccessDeniedException",
                format!(
                    "User: {who} is not authorized to perform: sts:AssumeRole on resource: {wanted_arn}"
                ),
            ));
        };
        let trust =
            Policy::parse(&role.trust, Kind::Trust).map_err(|error| Error::internal(&error))?;
        let mut context = Context::default().with("sts:RoleSessionName", name);
        if let Some(id) = call.text("ExternalId") {
            context.add("sts:ExternalId", id);
        }
        call.caller.authorize_trust(wanted_arn, &trust, &context)?;
        let policy = call.text("Policy");
        if let Some(policy) = policy {
            check_session_policy(policy)?;
        }
        let seconds = seconds(call).unwrap_or(OF_ROLE);
        let chained = matches!(call.caller.identity.kind, IdentityKind::Session { .. });
        if chained && seconds > CHAINED {
            return Err(Error::new(
                "ValidationException",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            ));
        }
        if seconds > role.longest_session {
            return Err(Error::new(
                "ValidationException",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ));
        }
        let whose = Whose::Role {
            role: role.name.clone(),
            id: role.id.clone(),
            session: name.to_owned(),
            policy: policy.map(str::to_owned),
        };
        let role_name = &role.name;
        Ok(json!({
            "Credentials": self.credentials(whose, seconds)?,
            "AssumedRoleUser": {
                "AssumedRoleId": format!("{}:{name}", role.id),
                "Arn": format!("arn:aws:sts::{account}:assumed-role/{role_name}/{name}"),
            },
        }))
    }

    fn get_session_token(&self, call: &Call) -> Result<Value, Error> {
        refuse_members(call, NOT_HERE)?;
        let (whose, longest) = match &call.caller.identity.kind {
            IdentityKind::Root => (Whose::Root, CHAINED),
            IdentityKind::User { name } => {
                let id = call.caller.identity.user_id.clone();
                let name = name.clone();
                (Whose::User { name, id }, i64::MAX)
            }
            IdentityKind::Session { .. } => return Err(of_session()),
        };
        // Nothing but a session has this.
        if call.caller.identity.context.has("aws:TokenIssueTime") {
            return Err(of_session());
        }
        let seconds = seconds(call).unwrap_or(OF_USER).min(longest);
        Ok(json!({"Credentials": self.credentials(whose, seconds)?}))
    }

    fn credentials(&self, whose: Whose, seconds: i64) -> Result<Value, Error> {
        let session = Session::begin(whose, Timestamp::now(), seconds);
        let session = session.map_err(|error| Error::internal(&error))?;
        Ok(json!({
            "AccessKeyId": session.key_id,
            "SecretAccessKey": session.secret,
            "SessionToken": session.token(self.identities.sealer())?,
            "Expiration": time(session.expires),
        }))
    }

    async fn role(&self, wanted: &str) -> Result<Option<Role>, Error> {
        let name = wanted.rsplit('/').next().unwrap_or(wanted);
        let stored = self.catalog.get::<Role>(&resource::key(name)).await?;
        let role = stored.map(|stored| stored.value);
        Ok(role.filter(|role| {
            arn(self.identities.account(), "role", &role.path, &role.name) == wanted
        }))
    }
}

impl Service for Sts {
    fn model(&self) -> &'static Model {
        &STS
    }

    /// Who calls may always be asked, a role says itself who may assume it, and who asks for a token gets no more than they
    /// have.
    fn subject<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Subject>, Error>> {
        let open = matches!(
            call.operation.name.as_str(),
            "GetCallerIdentity" | "AssumeRole" | "GetSessionToken"
        );
        let action = format!("sts:{}", call.operation.name);
        let subject = (!open).then(|| Subject::new(action, "*"));
        Box::pin(ready(Ok(subject)))
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async { self.document(call).await.map(Answer::from) })
    }
}

fn seconds(call: &Call) -> Option<i64> {
    call.input.get("DurationSeconds").and_then(Value::as_i64)
}

/// As IAM's, which has another name for it.
fn refuse_members(call: &Call, members: &[&str]) -> Result<(), Error> {
    refuse(call, members).map_err(|error| Error::new("ValidationException", error.message))
}

fn check_session_policy(policy: &str) -> Result<(), Error> {
    super::policies::check(policy, Kind::Identity)?;
    match Policy::size(policy) <= QUOTA {
        true => Ok(()),
        false => Err(Error::new(
            "PackedPolicyTooLargeException",
            format!("The policy of a session has {QUOTA} characters at most."),
        )),
    }
}

fn of_session() -> Error {
    Error::new(
        "AccessDeniedException",
        "Cannot call GetSessionToken with session credentials",
    )
}
