//! Functions as callers of the API name them: by name, by ARN, or by a part of one; with a version or an alias, or without.

use std::str::FromStr;

/// A function, as a caller names it. What is not said is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionReference {
    /// The region, of an ARN.
    pub region: Option<String>,
    /// The account, of an ARN or a part of one.
    pub account: Option<String>,
    /// The name.
    pub name: String,
    /// A version or an alias.
    pub qualifier: Option<String>,
}

/// Why a text names no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither the name of a function nor its ARN, or a part of one")]
pub struct InvalidReference(String);

impl FromStr for FunctionReference {
    type Err = InvalidReference;

    /// Reads `NAME`, `ACCOUNT:function:NAME`, `function:NAME` or `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, each with
    /// `:QUALIFIER` or without (Lambda API, `NamespacedFunctionName`).
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference(text.chars().take(80).collect());
        let mut rest: Vec<&str> = text.split(':').collect();
        let mut region = None;
        if rest[0] == "arn" {
            if rest.len() < 7 || rest[2] != "lambda" || rest[5] != "function" {
                return Err(invalid());
            }
            region = Some(rest[3].to_owned());
            rest.drain(..4);
        }
        let is_account =
            |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        let account = match rest[..] {
            [account, "function", _, ..] if is_account(account) => {
                rest.remove(0);
                Some(account.to_owned())
            }
            _ => None,
        };
        if region.is_some() && account.is_none() {
            return Err(invalid());
        }
        if rest.len() > 1 && rest[0] == "function" {
            rest.remove(0);
        }
        let (name, qualifier) = match rest[..] {
            [name] => (name, None),
            [name, qualifier] => (name, Some(qualifier.to_owned())),
            _ => return Err(invalid()),
        };
        if name.is_empty() || qualifier.as_deref() == Some("") {
            return Err(invalid());
        }
        Ok(Self {
            region,
            account,
            name: name.to_owned(),
            qualifier,
        })
    }
}

/// Where a node stands in AWS's order: what is in its ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The region.
    pub region: String,
    /// The account: twelve digits.
    pub account: String,
}

impl Place {
    /// The ARN of a function, or of a version or an alias of one.
    pub fn function_arn(&self, name: &str, qualifier: Option<&str>) -> String {
        let Self { region, account } = self;
        let qualified = qualifier
            .map(|qualifier| format!(":{qualifier}"))
            .unwrap_or_default();
        format!("arn:aws:lambda:{region}:{account}:function:{name}{qualified}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_in_many_ways() {
        let check = |text: &str, wanted: [Option<&str>; 4]| {
            let read: FunctionReference = text.parse().unwrap();
            let parts = [
                read.region.as_deref(),
                read.account.as_deref(),
                Some(read.name.as_str()),
                read.qualifier.as_deref(),
            ];
            assert_eq!(parts, wanted, "{text}");
        };
        let (name, account) = (Some("hello"), Some("123456789012"));
        check("hello", [None, None, name, None]);
        check("hello:live", [None, None, name, Some("live")]);
        check("hello:$LATEST", [None, None, name, Some("$LATEST")]);
        check("function:hello", [None, None, name, None]);
        check("function", [None, None, Some("function"), None]);
        check("123456789012:function:hello", [None, account, name, None]);
        check(
            "123456789012:function:hello:2",
            [None, account, name, Some("2")],
        );
        check(
            "arn:aws:lambda:eu-west-1:123456789012:function:hello:live",
            [Some("eu-west-1"), account, name, Some("live")],
        );
    }

    #[test]
    fn anything_else_names_none() {
        for text in [
            "",
            ":",
            "hello:",
            "a:b:c",
            "12345:function:hello",
            "arn:aws:lambda:eu-west-1:123456789012:function",
            "arn:aws:lambda:eu-west-1:123456789012:layer:hello",
            "arn:aws:s3:eu-west-1:123456789012:function:hello",
            "arn:aws:lambda:eu-west-1:1234:function:hello",
            "arn:aws:lambda:eu-west-1:123456789012:function:hello:live:more",
        ] {
            assert!(text.parse::<FunctionReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_arn_says_where_the_function_is() {
        let place = Place {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
        };
        assert_eq!(
            place.function_arn("hello", None),
            "arn:aws:lambda:us-east-1:000000000000:function:hello"
        );
        assert_eq!(
            place.function_arn("hello", Some("live")),
            "arn:aws:lambda:us-east-1:000000000000:function:hello:live"
        );
    }
}
