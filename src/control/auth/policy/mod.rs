//! IAM's policy language: documents that say who may do what on what, and whether they allow a request.
//!
//! Source: IAM User Guide, "IAM JSON policy reference" and "Policy evaluation logic". A request is denied unless a statement
//! allows it, and denied whatever allows it where a statement denies it. Within an account it is enough that the caller's
//! policies or the resource's policy allow; between accounts both must.
//!
//! Pure: no clock, no files, no names of our own. What a document takes to be judged is bounded by its size: see
//! `pattern`.

mod condition;
mod document;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use condition::Condition;
pub use parse::Malformed;
use pattern::Pattern;

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a user or a role may do: it names no principal.
    Identity,
    /// Who may use a resource, such as a function.
    Resource,
    /// Who may assume a role: it names no resource.
    Trust,
}

/// A policy document.
#[derive(Debug, Clone)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    /// `None`: the document belongs to its principal.
    principal: Option<Matcher<Vec<PrincipalPattern>>>,
    action: Matcher<Vec<Pattern>>,
    /// `None`: the document belongs to its resource.
    resource: Option<Matcher<Vec<Pattern>>>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// What an element names, or `Not…` names.
#[derive(Debug, Clone)]
enum Matcher<T> {
    These(T),
    Others(T),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PrincipalPattern {
    /// `*`.
    Everyone,
    /// An account, by its number.
    Account(String),
    /// A user, a role, a session.
    Arn(String),
    /// A service, as `events.amazonaws.com`.
    Service(String),
    /// Another kind of identity, which nobody here has.
    Foreign,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Somebody of an account.
    Aws {
        /// The account's number.
        account: String,
        /// The ARN, and that of the role if it is a role's session. `…:root` is the account's own.
        arns: Vec<String>,
    },
    /// A service, as `events.amazonaws.com`.
    Service(String),
    /// Nobody says.
    Anonymous,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// By whom.
    pub principal: &'a Principal,
    /// As `lambda:InvokeFunction`.
    pub action: &'a str,
    /// An ARN; `*` where the action is on no resource.
    pub resource: &'a str,
    /// What else is known.
    pub context: &'a Context,
}

/// Values that conditions and variables refer to, by keys whose case does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, Vec<String>>);

/// What comes of a request.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Something allows it, nothing denies it.
    Allowed,
    /// Nothing allows it.
    ImplicitlyDenied,
    /// A statement denies it.
    ExplicitlyDenied,
}

/// What a document says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Say {
    Nothing,
    /// It allows the caller's account, which may give it on.
    AllowAccount,
    Allow,
    Deny,
}

impl Context {
    /// Adds a value. A key may have several.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.add(key, value);
        self
    }

    /// Adds a value. A key may have several.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        let values = self.0.entry(key.to_ascii_lowercase()).or_default();
        values.push(value.into());
    }

    /// Takes over the keys of another, whose values come in the place of ours.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether a key has a value.
    pub fn has(&self, key: &str) -> bool {
        !self.all(&key.to_ascii_lowercase()).is_empty()
    }

    /// The values of a key, which is in lower case.
    fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The value of a key, which is in lower case, that has just one.
    fn single(&self, key: &str) -> Option<&str> {
        match self.all(key) {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Whether a request may be done: by the policies of who asks, and the one of what is asked for if it has one.
pub fn evaluate(
    identity: &[Arc<Policy>],
    resource: Option<&Policy>,
    request: Request<'_>,
) -> Decision {
    let identity = identity.iter().map(|policy| policy.say(request));
    let identity = identity.max().unwrap_or(Say::Nothing);
    let resource_says = resource.map_or(Say::Nothing, |policy| policy.say(request));
    let by_identity = identity == Say::Allow;
    let allowed = match request.principal {
        Principal::Aws { account, .. } if account_of(request.resource, account) == account => {
            by_identity || resource_says == Say::Allow
        }
        Principal::Aws { .. } => by_identity && resource_says >= Say::AllowAccount,
        Principal::Service(_) | Principal::Anonymous => resource_says == Say::Allow,
    };
    decide(identity.max(resource_says), allowed)
}

/// Whether a role may be assumed: its trust policy must name who asks, or the account and the policies of who asks.
pub fn evaluate_trust(identity: &[Arc<Policy>], trust: &Policy, request: Request<'_>) -> Decision {
    let identity = identity.iter().map(|policy| policy.say(request));
    let identity = identity.max().unwrap_or(Say::Nothing);
    let trusts = trust.say(request);
    let allowed = match trusts {
        Say::Allow => true,
        Say::AllowAccount => identity == Say::Allow,
        Say::Nothing | Say::Deny => false,
    };
    decide(identity.max(trusts), allowed)
}

fn decide(strongest: Say, allowed: bool) -> Decision {
    match (strongest, allowed) {
        (Say::Deny, _) => Decision::ExplicitlyDenied,
        (_, true) => Decision::Allowed,
        (_, false) => Decision::ImplicitlyDenied,
    }
}

/// The account in an ARN. Where there is none, as in S3's, it is the caller's.
fn account_of<'a>(arn: &'a str, own: &'a str) -> &'a str {
    let account = arn.split(':').nth(4);
    account.filter(|account| !account.is_empty()).unwrap_or(own)
}

impl Policy {
    /// The strongest word on a request.
    fn say(&self, request: Request<'_>) -> Say {
        let words = self
            .statements
            .iter()
            .map(|statement| statement.say(request));
        words.max().unwrap_or(Say::Nothing)
    }
}

impl Statement {
    fn say(&self, request: Request<'_>) -> Say {
        let Request {
            principal,
            action,
            resource,
            context,
        } = request;
        // Most statements are about something else, and an action is soon compared.
        let speaks = self.action.has(action, context, self.effect)
            && self
                .resource
                .as_ref()
                .is_none_or(|wanted| wanted.has(resource, context, self.effect));
        if !speaks {
            return Say::Nothing;
        }
        let whom = match &self.principal {
            None => Say::Allow,
            Some(Matcher::These(these)) => these
                .iter()
                .map(|pattern| pattern.names(principal))
                .max()
                .unwrap_or(Say::Nothing),
            Some(Matcher::Others(others)) => {
                match others
                    .iter()
                    .all(|other| other.names(principal) == Say::Nothing)
                {
                    true => Say::Allow,
                    false => Say::Nothing,
                }
            }
        };
        let holds = whom != Say::Nothing
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(context, self.effect));
        match (holds, self.effect) {
            (false, _) => Say::Nothing,
            (true, Effect::Allow) => whom,
            (true, Effect::Deny) => Say::Deny,
        }
    }
}

impl Matcher<Vec<Pattern>> {
    /// Whether the element is about `text`. A pattern whose variable the request lacks matches nothing; where it was to be
    /// left out, nothing is allowed for it, and all is denied.
    fn has(&self, text: &str, context: &Context, effect: Effect) -> bool {
        let matched = |pattern: &Pattern| pattern.matches(text, context);
        match self {
            Self::These(these) => these.iter().any(|pattern| matched(pattern) == Some(true)),
            Self::Others(others) => others.iter().all(|pattern| match matched(pattern) {
                Some(found) => !found,
                None => effect == Effect::Deny,
            }),
        }
    }
}

impl PrincipalPattern {
    /// Whether it means that principal: nothing, its account, or itself.
    fn names(&self, principal: &Principal) -> Say {
        let itself = match (self, principal) {
            (Self::Everyone, _) => true,
            (Self::Account(wanted), Principal::Aws { account, arns }) if wanted == account => {
                let root = arns.iter().any(|arn| arn.ends_with(":root"));
                return if root { Say::Allow } else { Say::AllowAccount };
            }
            (Self::Arn(wanted), Principal::Aws { arns, .. }) => arns.contains(wanted),
            (Self::Service(wanted), Principal::Service(service)) => wanted == service,
            (Self::Account(_) | Self::Arn(_) | Self::Service(_) | Self::Foreign, _) => false,
        };
        if itself { Say::Allow } else { Say::Nothing }
    }
}
