//! Amazon Resource Names of what this node has.

use std::fmt::Display;

/// The region and the account that stand in a node's ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arns {
    /// The region, as `us-east-1`.
    pub region: String,
    /// The account: twelve digits.
    pub account: String,
}

impl Arns {
    /// How every ARN of Lambda's begins here: `arn:aws:lambda:REGION:ACCOUNT`.
    pub fn lambda(&self) -> String {
        self.of("lambda", "").trim_end_matches(':').to_owned()
    }

    /// `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.
    pub fn of(&self, service: &str, resource: impl Display) -> String {
        format!(
            "arn:aws:{service}:{}:{}:{resource}",
            self.region, self.account
        )
    }

    /// `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, with the qualifier if there is one.
    pub fn function(&self, name: &str, qualifier: Option<&dyn Display>) -> String {
        match qualifier {
            Some(qualifier) => self.of("lambda", format_args!("function:{name}:{qualifier}")),
            None => self.of("lambda", format_args!("function:{name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_lambdas() {
        let arns = Arns {
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        assert_eq!(arns.lambda(), "arn:aws:lambda:eu-west-1:123456789012");
        assert_eq!(
            arns.function("f", Some(&7)),
            "arn:aws:lambda:eu-west-1:123456789012:function:f:7"
        );
    }
}
