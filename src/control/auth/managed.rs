//! The managed policies that a node has: AWS's names, for what there is here.
//!
//! Each allows what AWS's own of that name does of the services that Wharf has; what concerns other services is left out.
//! What changes things on the node's own paths (`wharf:*`) is in none but AdministratorAccess: who deploys there may grant
//! functions the node's files and secrets, and a backup has everybody's keys.

use std::sync::{Arc, LazyLock};

use super::policy::{Kind, Policy};

/// How the ARNs of managed policies begin.
pub(in crate::control) const PREFIX: &str = "arn:aws:iam::aws:policy/";

/// A policy that every node has.
pub(in crate::control) struct Managed {
    /// Its name.
    pub(in crate::control) name: &'static str,
    /// `/` or `/service-role/`.
    pub(in crate::control) path: &'static str,
    /// What it is for.
    pub(in crate::control) description: &'static str,
    /// The document.
    pub(in crate::control) document: &'static str,
}

impl Managed {
    /// Its ARN.
    pub(in crate::control) fn arn(&self) -> String {
        format!("{PREFIX}{}{}", &self.path[1..], self.name)
    }
}

/// All of them, by name.
pub(in crate::control) const MANAGED: &[Managed] = &[
    Managed {
        name: "AWSLambdaBasicExecutionRole",
        path: "/service-role/",
        description: "Lets a function write its log.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    },
    Managed {
        name: "AWSLambdaRole",
        path: "/service-role/",
        description: "Lets a role invoke functions.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:InvokeFunction"],"Resource":["*"]}]}"#,
    },
    Managed {
        name: "AWSLambda_FullAccess",
        path: "/",
        description: "All of Lambda, its logs, and giving functions their roles.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:*","wharf:Get*","wharf:List*","iam:GetPolicy","iam:GetPolicyVersion","iam:GetRole","iam:GetRolePolicy","iam:ListAttachedRolePolicies","iam:ListRolePolicies","iam:ListRoles","logs:DescribeLogGroups"],"Resource":"*"},{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"lambda.amazonaws.com"}}},{"Effect":"Allow","Action":["logs:DescribeLogStreams","logs:GetLogEvents","logs:FilterLogEvents","logs:StartLiveTail"],"Resource":"arn:aws:logs:*:*:log-group:/aws/lambda/*"}]}"#,
    },
    Managed {
        name: "AWSLambda_ReadOnlyAccess",
        path: "/",
        description: "Looking at Lambda and its logs.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:Get*","lambda:List*","wharf:Get*","wharf:List*","iam:GetPolicy","iam:GetPolicyVersion","iam:GetRole","iam:GetRolePolicy","iam:ListAttachedRolePolicies","iam:ListRolePolicies","iam:ListRoles","logs:DescribeLogGroups"],"Resource":"*"},{"Effect":"Allow","Action":["logs:DescribeLogStreams","logs:GetLogEvents","logs:FilterLogEvents","logs:StartLiveTail"],"Resource":"arn:aws:logs:*:*:log-group:/aws/lambda/*"}]}"#,
    },
    Managed {
        name: "AdministratorAccess",
        path: "/",
        description: "Everything.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
    },
    Managed {
        name: "CloudWatchLogsFullAccess",
        path: "/",
        description: "All of the logs.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"logs:*","Resource":"*"}]}"#,
    },
    Managed {
        name: "CloudWatchLogsReadOnlyAccess",
        path: "/",
        description: "Looking at the logs.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:Describe*","logs:Get*","logs:List*","logs:FilterLogEvents","logs:StartLiveTail"],"Resource":"*"}]}"#,
    },
    Managed {
        name: "IAMFullAccess",
        path: "/",
        description: "Users, roles and policies.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}"#,
    },
    Managed {
        name: "IAMReadOnlyAccess",
        path: "/",
        description: "Looking at users, roles and policies.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*"],"Resource":"*"}]}"#,
    },
    Managed {
        name: "PowerUserAccess",
        path: "/",
        description: "Everything but users, roles and policies, and what gets at the node itself.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","wharf:*"],"Resource":"*"},{"Effect":"Allow","Action":["wharf:Get*","wharf:List*","iam:CreateServiceLinkedRole","iam:ListRoles"],"Resource":"*"}]}"#,
    },
    Managed {
        name: "ReadOnlyAccess",
        path: "/",
        description: "Looking at everything.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:Get*","lambda:List*","wharf:Get*","wharf:List*","iam:Get*","iam:List*","logs:Describe*","logs:Get*","logs:List*","logs:FilterLogEvents","logs:StartLiveTail","sts:GetCallerIdentity"],"Resource":"*"}]}"#,
    },
];

/// What allows everything.
pub(super) fn everything() -> Arc<Policy> {
    static ALL: LazyLock<Arc<Policy>> = LazyLock::new(|| {
        by_name("AdministratorAccess")
            .expect("it is in the list")
            .policy()
    });
    Arc::clone(&ALL)
}

/// The managed policy of an ARN.
pub(in crate::control) fn by_arn(arn: &str) -> Option<&'static Managed> {
    let name = arn.strip_prefix(PREFIX)?;
    let managed = by_name(name.rsplit('/').next()?)?;
    (managed.arn() == arn).then_some(managed)
}

/// The managed policy of a name.
pub(in crate::control) fn by_name(name: &str) -> Option<&'static Managed> {
    MANAGED.iter().find(|managed| managed.name == name)
}

/// What the managed policy of an ARN says.
pub(in crate::control) fn parsed(arn: &str) -> Option<Arc<Policy>> {
    by_arn(arn).map(Managed::policy)
}

impl Managed {
    /// What it says.
    pub(in crate::control) fn policy(&self) -> Arc<Policy> {
        let policy = Policy::parse(self.document, Kind::Identity);
        Arc::new(policy.expect("a test reads them all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_policy_and_is_found_by_its_arn() {
        for managed in MANAGED {
            let found = Policy::parse(managed.document, Kind::Identity);
            assert!(found.is_ok(), "{}: {found:?}", managed.name);
            assert_eq!(by_arn(&managed.arn()).unwrap().name, managed.name);
        }
        assert!(MANAGED.is_sorted_by_key(|managed| managed.name));
        for unknown in [
            "arn:aws:iam::aws:policy/Nothing",
            "arn:aws:iam::aws:policy/AWSLambdaRole",
            "AdministratorAccess",
        ] {
            assert!(by_arn(unknown).is_none(), "{unknown}");
        }
        everything();
    }
}
