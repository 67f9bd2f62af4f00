//! Who makes a call, and what they may do.
//!
//! An [`Identity`] is who somebody is, with the policies that say what they may; a [`Caller`] is that and the circumstances
//! of one call, which conditions of policies ask about. The account's root may do everything; everybody else what a policy
//! allows.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;

use super::policy::{self, Context, Decision, Policy, Principal, Request};
use crate::model::Arns;

/// Who somebody is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// As `arn:aws:iam::000000000000:user/ann`.
    pub arn: String,
    /// The unique id that GetCallerIdentity tells.
    pub user_id: String,
    /// The account's number.
    pub account: String,
    /// What they are.
    pub kind: IdentityKind,
    /// What they may do.
    pub(in crate::control) policies: Vec<Arc<Policy>>,
    /// What a session may do of it, if it was begun with less.
    pub(in crate::control) session: Option<Arc<Policy>>,
    /// More that conditions may ask about.
    pub(in crate::control) context: Context,
}

/// The kinds of identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityKind {
    /// The account itself.
    Root,
    /// A user.
    User {
        /// Their name.
        name: String,
    },
    /// A session of a role.
    Session {
        /// The role's ARN.
        role: String,
    },
}

/// Who makes a call, and how.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    pub(super) circumstances: Circumstances,
}

/// What else is known of a call.
#[derive(Debug, Clone)]
pub(super) struct Circumstances {
    pub(super) now: Timestamp,
    pub(super) peer: Option<Peer>,
    pub(super) agent: Option<String>,
    pub(super) region: String,
}

/// Where a call comes from. Whoever accepts connections puts it into a request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The client's address, or that of the proxy that speaks for it.
    pub address: IpAddr,
    /// Whether it came by TLS.
    pub secure: bool,
}

/// A call that nothing allows, or something forbids: `AccessDeniedException`, in AWS's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("User: {arn} is not authorized to perform: {action} on resource: {resource} {why}")]
pub struct Denied {
    arn: String,
    action: String,
    resource: String,
    why: String,
}

impl Identity {
    /// The account's root.
    pub fn root(account: &str) -> Self {
        Self {
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.to_owned(),
            account: account.to_owned(),
            kind: IdentityKind::Root,
            policies: Vec::new(),
            session: None,
            context: Context::default(),
        }
    }

    fn principal(&self) -> Principal {
        let mut arns = vec![self.arn.clone()];
        if let IdentityKind::Session { role } = &self.kind {
            arns.push(role.clone());
        }
        Principal::Aws {
            account: self.account.clone(),
            arns,
        }
    }
}

impl Caller {
    /// Holds an action on resources (ARNs, or `*`) against the caller's policies. `more` is what conditions may ask about
    /// beside what is known of every call.
    ///
    /// # Errors
    ///
    /// It may not be done on one of them.
    pub fn authorize(
        &self,
        action: &str,
        resources: &[String],
        more: &Context,
    ) -> Result<(), Denied> {
        resources
            .iter()
            .try_for_each(|resource| self.authorize_on(action, resource, None, more))
    }

    /// Holds an action on a resource against the caller's policies and the resource's.
    ///
    /// # Errors
    ///
    /// It may not be done.
    pub fn authorize_on(
        &self,
        action: &str,
        resource: &str,
        guard: Option<&Policy>,
        more: &Context,
    ) -> Result<(), Denied> {
        let identity = &*self.identity;
        if identity.kind == IdentityKind::Root && guard.is_none() && identity.session.is_none() {
            return Ok(());
        }
        let (principal, context) = (identity.principal(), self.context(more));
        let request = Request {
            principal: &principal,
            action,
            resource,
            context: &context,
        };
        let denied = |why: String| Denied {
            arn: identity.arn.clone(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            why,
        };
        let all;
        let policies = match identity.kind {
            IdentityKind::Root => {
                all = [super::managed::everything()];
                &all[..]
            }
            IdentityKind::User { .. } | IdentityKind::Session { .. } => &identity.policies,
        };
        match policy::evaluate(policies, guard, request) {
            Decision::Allowed => {}
            Decision::ImplicitlyDenied => {
                return Err(denied(format!(
                    "because no identity-based policy allows the {action} action"
                )));
            }
            Decision::ExplicitlyDenied => {
                let own = policy::evaluate(policies, None, request) == Decision::ExplicitlyDenied;
                let kind = if own { "an identity" } else { "a resource" };
                return Err(denied(format!(
                    "with an explicit deny in {kind}-based policy"
                )));
            }
        }
        match &identity.session {
            None => Ok(()),
            Some(session) => match policy::evaluate(std::slice::from_ref(session), None, request) {
                Decision::Allowed => Ok(()),
                Decision::ImplicitlyDenied => Err(denied(format!(
                    "because no session policy allows the {action} action"
                ))),
                Decision::ExplicitlyDenied => Err(denied(
                    "with an explicit deny in a session policy".to_owned(),
                )),
            },
        }
    }

    /// Whether the caller may assume a role that trusts so.
    ///
    /// # Errors
    ///
    /// It may not.
    pub(in crate::control) fn authorize_trust(
        &self,
        role: &str,
        trust: &Policy,
        more: &Context,
    ) -> Result<(), Denied> {
        let identity = &*self.identity;
        let action = "sts:AssumeRole";
        let (principal, context) = (identity.principal(), self.context(more));
        let request = Request {
            principal: &principal,
            action,
            resource: role,
            context: &context,
        };
        let by_session = identity.session.as_ref().is_none_or(|session| {
            policy::evaluate(std::slice::from_ref(session), None, request) == Decision::Allowed
        });
        if by_session
            && policy::evaluate_trust(&identity.policies, trust, request) == Decision::Allowed
        {
            return Ok(());
        }
        Err(Denied {
            arn: identity.arn.clone(),
            action: action.to_owned(),
            resource: role.to_owned(),
            why: "because the role does not trust it, or no identity-based policy allows it"
                .to_owned(),
        })
    }

    /// The ARN of something of a service in this node's region and account.
    pub(super) fn arn_of(&self, service: &str, rest: &str) -> String {
        self.arns().of(service, rest)
    }

    /// What stands in ARNs.
    pub(super) fn arns(&self) -> Arns {
        Arns {
            region: self.circumstances.region.clone(),
            account: self.identity.account.clone(),
        }
    }

    /// Everything that conditions and variables may ask about.
    fn context(&self, more: &Context) -> Context {
        let Identity {
            arn,
            user_id,
            account,
            kind,
            ..
        } = &*self.identity;
        let Circumstances {
            now,
            peer,
            agent,
            region,
        } = &self.circumstances;
        let (kind, name) = match kind {
            IdentityKind::Root => ("Account", None),
            IdentityKind::User { name } => ("User", Some(name)),
            IdentityKind::Session { .. } => ("AssumedRole", None),
        };
        let principal = match &self.identity.kind {
            IdentityKind::Session { role } => role,
            IdentityKind::Root | IdentityKind::User { .. } => arn,
        };
        let mut context = Context::default()
            .with("aws:PrincipalArn", principal)
            .with("aws:PrincipalAccount", account)
            .with("aws:PrincipalType", kind)
            .with("aws:userid", user_id)
            .with("aws:RequestedRegion", region)
            .with(
                "aws:CurrentTime",
                now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            )
            .with("aws:EpochTime", now.as_second().to_string())
            .with("aws:ViaAWSService", "false");
        if let Some(name) = name {
            context.add("aws:username", name);
        }
        if let Some(agent) = agent {
            context.add("aws:UserAgent", agent);
        }
        if let Some(peer) = peer {
            context.add("aws:SourceIp", peer.address.to_canonical().to_string());
            context.add("aws:SecureTransport", peer.secure.to_string());
        }
        context.extend(self.identity.context.clone());
        context.extend(more.clone());
        context
    }
}

#[cfg(test)]
impl Caller {
    /// A user with that policy, at noon.
    pub(in crate::control) fn user(name: &str, policy: &str) -> Self {
        let policy = Policy::parse(policy, policy::Kind::Identity).unwrap();
        Self {
            identity: Arc::new(Identity {
                arn: format!("arn:aws:iam::000000000000:user/{name}"),
                user_id: "AIDAEXAMPLE".to_owned(),
                kind: IdentityKind::User {
                    name: name.to_owned(),
                },
                policies: vec![Arc::new(policy)],
                ..Identity::root("000000000000")
            }),
            circumstances: Circumstances {
                now: "2026-11-25T12:00:00Z".parse().unwrap(),
                peer: Some(Peer {
                    address: "::ffff:192.0.2.1".parse().unwrap(),
                    secure: false,
                }),
                agent: Some("tests".to_owned()),
                region: "us-east-1".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:us-east-1:000000000000:function:ann-1";

    fn said(caller: &Caller, action: &str, resource: &str) -> String {
        let resources = [resource.to_owned()];
        let result = caller.authorize(action, &resources, &Context::default());
        result.map_or_else(|denied| denied.to_string(), |()| "allowed".to_owned())
    }

    #[test]
    fn a_refusal_is_in_lambdas_words() {
        let caller = Caller::user(
            "ann",
            r#"{"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "lambda:*", "Resource": "arn:aws:lambda:*:*:function:${aws:username}-*"},
                {"Effect": "Deny", "Action": "lambda:Delete*", "Resource": "*"}]}"#,
        );
        assert_eq!(said(&caller, "lambda:GetFunction", FUNCTION), "allowed");
        assert_eq!(
            said(&caller, "lambda:ListFunctions", "*"),
            "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: lambda:ListFunctions on resource: * \
             because no identity-based policy allows the lambda:ListFunctions action"
        );
        assert_eq!(
            said(&caller, "lambda:DeleteFunction", FUNCTION),
            format!(
                "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: lambda:DeleteFunction on resource: \
                 {FUNCTION} with an explicit deny in an identity-based policy"
            )
        );
    }

    #[test]
    fn conditions_see_the_circumstances_of_the_call() {
        for (condition, expected) in [
            (r#"{"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}"#, true),
            (r#"{"Bool": {"aws:SecureTransport": "true"}}"#, false),
            (
                r#"{"DateLessThan": {"aws:CurrentTime": "2026-11-25T12:00:01Z"}}"#,
                true,
            ),
            (r#"{"NumericLessThan": {"aws:EpochTime": "1"}}"#, false),
            (
                r#"{"StringEquals": {"aws:username": "ann", "aws:PrincipalType": "User"}}"#,
                true,
            ),
            (r#"{"StringLike": {"aws:UserAgent": "te*"}}"#, true),
            (
                r#"{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/bob"}}"#,
                false,
            ),
            (
                r#"{"StringEquals": {"aws:RequestedRegion": "us-east-1"}}"#,
                true,
            ),
        ] {
            let document = format!(
                r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}}}}}"#
            );
            let found = said(
                &Caller::user("ann", &document),
                "lambda:GetFunction",
                FUNCTION,
            );
            assert_eq!(found == "allowed", expected, "{condition}");
        }
    }

    #[test]
    fn a_session_may_do_no_more_than_its_policy() {
        let all = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
        let mut caller = Caller::user("ann", all);
        let get = all.replace("\"Action\": \"*\"", "\"Action\": \"lambda:Get*\"");
        let get = Policy::parse(&get, policy::Kind::Identity).unwrap();
        Arc::make_mut(&mut caller.identity).session = Some(Arc::new(get));
        assert_eq!(said(&caller, "lambda:GetFunction", FUNCTION), "allowed");
        let refused = said(&caller, "lambda:InvokeFunction", FUNCTION);
        assert!(
            refused.ends_with("because no session policy allows the lambda:InvokeFunction action"),
            "{refused}"
        );
    }

    #[test]
    fn the_root_may_do_everything_but_what_a_resource_denies() {
        let mut caller = Caller::user(
            "x",
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}"#,
        );
        caller.identity = Arc::new(Identity::root("000000000000"));
        assert_eq!(said(&caller, "lambda:DeleteFunction", FUNCTION), "allowed");
        let guard = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "lambda:Del*", "Resource": "*"}}"#;
        let guard = Policy::parse(guard, policy::Kind::Resource).unwrap();
        let on = |action| caller.authorize_on(action, FUNCTION, Some(&guard), &Context::default());
        assert_eq!(on("lambda:GetFunction"), Ok(()));
        let denied = on("lambda:DeleteFunction").unwrap_err().to_string();
        assert!(
            denied.ends_with("with an explicit deny in a resource-based policy"),
            "{denied}"
        );
    }
}
