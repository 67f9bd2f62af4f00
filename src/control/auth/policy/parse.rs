//! A policy document, read from JSON.
//!
//! Source: IAM User Guide, "Grammar of the IAM JSON policy language".

use std::collections::HashSet;

use super::{
    Condition, Effect, Kind, Matcher, Policy, PrincipalPattern, Statement,
    document::{RawDocument, RawEffect, RawPrincipal, RawStatement},
    pattern::{Pattern, Reading, Syntax},
};

/// The longest document that is read at all, in bytes (IAM API Reference, `PolicyDocument`).
const LONGEST: usize = 131_072;

/// Why a text is no policy document: `MalformedPolicyDocument`, in IAM's words where they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON, or not of the grammar.
    #[error("Syntax errors in policy: {0}.")]
    Syntax(String),
    /// It is longer than any policy.
    #[error("The policy is longer than {LONGEST} bytes.")]
    TooLong,
    /// It is in an old version of the language.
    #[error("Policy document must be version 2012-10-17 or greater.")]
    Version,
    /// Two statements have one name.
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    SidTwice,
    /// A statement's name has other characters than letters and digits.
    #[error(
        "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
    )]
    Sid,
    /// A statement has neither `Action` nor `NotAction`, or an empty one.
    #[error("Policy statement must contain actions.")]
    NoActions,
    /// A statement has neither `Resource` nor `NotResource`, or an empty one.
    #[error("Policy statement must contain resources.")]
    NoResources,
    /// An action, or the key of a condition, is not `service:Name`.
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    Vendor,
    /// An action has a colon too many.
    #[error("Actions/Condition can contain only one colon.")]
    Colons,
    /// An action's service is no service's name.
    #[error("Vendor {0} is not valid")]
    VendorName(String),
    /// A resource is no ARN.
    #[error("Resource {0} must be in ARN format or \"*\".")]
    Resource(String),
    /// There is no such operator.
    #[error("Invalid Condition type : {0}.")]
    ConditionType(String),
    /// An operator has a value of another type.
    #[error("Invalid value of the condition {operator}: {problem}.")]
    ConditionValue {
        /// The operator.
        operator: String,
        /// What is wrong.
        problem: String,
    },
    /// A variable is not one.
    #[error("Invalid policy variable: {0}.")]
    Variable(String),
    /// A policy of a user or a role names a principal.
    #[error("Policy document should not specify a principal.")]
    HasPrincipal,
    /// A policy of a resource names none.
    #[error("Missing required field Principal")]
    NoPrincipal,
    /// A principal is none.
    #[error("Invalid principal in policy: \"{0}\"")]
    Principal(String),
    /// A trust policy names a resource.
    #[error("Has prohibited field Resource")]
    HasResource,
    /// A trust policy is about something else than assuming a role.
    #[error("AssumeRole policy may only specify STS AssumeRole actions.")]
    TrustAction,
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// It is not one of that kind: in IAM's words.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, Malformed> {
        if text.len() > LONGEST {
            return Err(Malformed::TooLong);
        }
        let document: RawDocument =
            serde_json::from_str(text).map_err(|error| Malformed::Syntax(error.to_string()))?;
        let variables = match document.version.as_deref() {
            Some("2012-10-17") => true,
            Some("2008-10-17") | None if kind == Kind::Identity => return Err(Malformed::Version),
            Some("2008-10-17") | None => false,
            Some(_) => return Err(Malformed::Syntax("there is no such version".to_owned())),
        };
        if document.id.is_some() && kind == Kind::Identity {
            let problem = "a policy of a user or a role has no `Id`";
            return Err(Malformed::Syntax(problem.to_owned()));
        }
        let statements = document.statement.0;
        if statements.is_empty() {
            return Err(Malformed::Syntax("it has no statement".to_owned()));
        }
        let mut sids = HashSet::new();
        for sid in statements
            .iter()
            .filter_map(|statement| statement.sid.as_ref())
        {
            let plain = sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
            // The policies of resources have names of the services' own rules.
            if kind != Kind::Resource && !plain {
                return Err(Malformed::Sid);
            }
            if !sid.is_empty() && !sids.insert(sid.clone()) {
                return Err(Malformed::SidTwice);
            }
        }
        let statements = statements
            .into_iter()
            .map(|statement| statement.read(kind, variables));
        Ok(Self {
            statements: statements.collect::<Result<_, _>>()?,
        })
    }

    /// How long a document is, as its quota counts: characters but white space.
    pub fn size(text: &str) -> usize {
        text.chars()
            .filter(|character| !character.is_whitespace())
            .count()
    }
}

impl RawStatement {
    fn read(self, kind: Kind, variables: bool) -> Result<Statement, Malformed> {
        let action = either("Action", self.action, self.not_action)?.ok_or(Malformed::NoActions)?;
        let resource = either("Resource", self.resource, self.not_resource)?;
        let principal = either("Principal", self.principal, self.not_principal)?;
        match kind {
            Kind::Identity if principal.is_some() => return Err(Malformed::HasPrincipal),
            Kind::Resource | Kind::Trust if principal.is_none() => {
                return Err(Malformed::NoPrincipal);
            }
            Kind::Trust if resource.is_some() => return Err(Malformed::HasResource),
            Kind::Identity | Kind::Resource if resource.is_none() => {
                return Err(Malformed::NoResources);
            }
            Kind::Identity | Kind::Resource | Kind::Trust => {}
        }
        let mut conditions = Vec::new();
        for (operator, keys) in self.condition.0 {
            for (key, values) in keys.0 {
                let values: Vec<String> = values.0.into_iter().map(|scalar| scalar.0).collect();
                conditions.push(Condition::parse(&operator, &key, &values, variables)?);
            }
        }
        Ok(Statement {
            effect: match self.effect {
                RawEffect::Allow => Effect::Allow,
                RawEffect::Deny => Effect::Deny,
            },
            principal: principal
                .map(|principal| principal.read(RawPrincipal::read))
                .transpose()?,
            action: action.read(|actions| read_actions(&actions.0, kind))?,
            resource: resource
                .map(|resource| resource.read(|resources| read_resources(&resources.0, variables)))
                .transpose()?,
            conditions,
        })
    }
}

/// The one of `X` and `NotX` that is there.
fn either<T>(
    name: &str,
    these: Option<T>,
    others: Option<T>,
) -> Result<Option<Matcher<T>>, Malformed> {
    match (these, others) {
        (Some(_), Some(_)) => {
            let problem = format!("a statement has both `{name}` and `Not{name}`");
            Err(Malformed::Syntax(problem))
        }
        (Some(these), None) => Ok(Some(Matcher::These(these))),
        (None, Some(others)) => Ok(Some(Matcher::Others(others))),
        (None, None) => Ok(None),
    }
}

impl<T> Matcher<T> {
    fn read<U>(
        self,
        read: impl FnOnce(T) -> Result<U, Malformed>,
    ) -> Result<Matcher<U>, Malformed> {
        Ok(match self {
            Self::These(these) => Matcher::These(read(these)?),
            Self::Others(others) => Matcher::Others(read(others)?),
        })
    }
}

fn read_actions(actions: &[String], kind: Kind) -> Result<Vec<Pattern>, Malformed> {
    if actions.is_empty() {
        return Err(Malformed::NoActions);
    }
    actions
        .iter()
        .map(|action| {
            match action.split_once(':') {
                None if action == "*" => {}
                None => return Err(Malformed::Vendor),
                Some((_, name)) if name.contains(':') => return Err(Malformed::Colons),
                Some((vendor, name)) => {
                    let known =
                        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                    if vendor.is_empty() || !vendor.bytes().all(known) {
                        return Err(Malformed::VendorName(shortened(vendor)));
                    }
                    if name.is_empty() {
                        return Err(Malformed::Vendor);
                    }
                    if kind == Kind::Trust && !vendor.eq_ignore_ascii_case("sts") {
                        return Err(Malformed::TrustAction);
                    }
                }
            }
            if kind == Kind::Trust && action == "*" {
                return Err(Malformed::TrustAction);
            }
            let reading = Reading {
                syntax: Syntax::Wild,
                variables: false,
                fold: true,
            };
            Pattern::parse(action, reading).map_err(Malformed::Variable)
        })
        .collect()
}

fn read_resources(resources: &[String], variables: bool) -> Result<Vec<Pattern>, Malformed> {
    if resources.is_empty() {
        return Err(Malformed::NoResources);
    }
    let reading = Reading {
        syntax: Syntax::Resource,
        variables,
        fold: false,
    };
    resources
        .iter()
        .map(|resource| {
            if resource != "*" && !resource.starts_with("arn:") {
                return Err(Malformed::Resource(shortened(resource)));
            }
            // What is not said of an ARN is anything.
            let open = resource.matches(':').count() < 5 && !resource.contains(['*', '?']);
            let full = if open {
                format!("{resource}:*")
            } else {
                resource.clone()
            };
            Pattern::parse(&full, reading).map_err(Malformed::Variable)
        })
        .collect()
}

impl RawPrincipal {
    fn read(self) -> Result<Vec<PrincipalPattern>, Malformed> {
        let these = match self {
            Self::Everyone => return Ok(vec![PrincipalPattern::Everyone]),
            Self::These(these) => these,
        };
        let mut patterns = Vec::new();
        for (kind, names) in these {
            for name in names.0 {
                let wrong = || Malformed::Principal(format!("{kind}\":\"{}", shortened(&name)));
                patterns.push(match kind.as_str() {
                    "AWS" => aws_principal(&name).ok_or_else(wrong)?,
                    "Service" if name.contains('.') && !name.contains(['*', '?', ':', '/']) => {
                        PrincipalPattern::Service(name)
                    }
                    "Federated" | "CanonicalUser" => PrincipalPattern::Foreign,
                    _ => return Err(wrong()),
                });
            }
        }
        match patterns.is_empty() {
            true => Err(Malformed::NoPrincipal),
            false => Ok(patterns),
        }
    }
}

/// `*`, an account's number, or an ARN; with a wildcard it would be none.
fn aws_principal(name: &str) -> Option<PrincipalPattern> {
    let number = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if name == "*" {
        return Some(PrincipalPattern::Everyone);
    }
    if number(name) {
        return Some(PrincipalPattern::Account(name.to_owned()));
    }
    let parts: Vec<&str> = name.split(':').collect();
    let ["arn", _, "iam" | "sts", "", account, resource] = parts[..] else {
        return None;
    };
    if !number(account) || name.contains(['*', '?']) {
        return None;
    }
    let path = resource.split_once('/');
    match (resource, path) {
        ("root", _) => Some(PrincipalPattern::Account(account.to_owned())),
        (_, Some(("user" | "role" | "assumed-role" | "federated-user", rest)))
            if !rest.is_empty() =>
        {
            Some(PrincipalPattern::Arn(name.to_owned()))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
