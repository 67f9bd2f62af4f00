//! What a caller writes where a function is meant: a name, a part of an ARN or all of it, with a qualifier or without.

use crate::{
    control::aws::Error,
    model::{Arns, FunctionName, Qualifier, Version},
};

/// A function, and which of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Reference {
    /// The function.
    pub(in crate::control) name: FunctionName,
    /// The version or alias; none where the caller gave none.
    pub(in crate::control) qualifier: Option<Qualifier>,
}

impl Reference {
    /// Reads `NAME`, `function:NAME`, `ACCOUNT:function:NAME` or `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, each with `:QUALIFIER` or
    /// without. A qualifier may also stand for itself; two must be the same (Lambda API, `FunctionName` and `Qualifier`).
    ///
    /// # Errors
    ///
    /// It is none of these, or names a function of another account or region, which is not here.
    pub(in crate::control) fn read(
        text: &str,
        qualifier: Option<&str>,
        arns: &Arns,
    ) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(':').collect();
        let (place, name, within) = match parts[..] {
            [name] | ["function", name] => (None, name, None),
            [name, within] | ["function", name, within] => (None, name, Some(within)),
            [account, "function", name] => (Some((None, account)), name, None),
            [account, "function", name, within] => (Some((None, account)), name, Some(within)),
            [region, account, "function", name] => (Some((Some(region), account)), name, None),
            [_, _, "lambda", region, account, "function", name] => {
                (Some((Some(region), account)), name, None)
            }
            [_, _, "lambda", region, account, "function", name, within] => {
                (Some((Some(region), account)), name, Some(within))
            }
            _ => {
                return Err(invalid(format!(
                    "`{text}` names no function: give its name or its ARN."
                )));
            }
        };
        let elsewhere = place.is_some_and(|(region, account)| {
            account != arns.account || region.is_some_and(|region| region != arns.region)
        });
        let name: FunctionName = name
            .parse()
            .map_err(|error: crate::model::InvalidName| invalid(error.to_string()))?;
        let qualifier = match (within, qualifier.filter(|text| !text.is_empty())) {
            (Some(one), Some(other)) if one != other => {
                return Err(invalid(
                    "The derived qualifier from the function name does not match the specified qualifier.",
                ));
            }
            (one, other) => one.or(other),
        };
        let qualifier = qualifier
            .map(|text| text.parse::<Qualifier>())
            .transpose()
            .map_err(|error| invalid(error.to_string()))?;
        let reference = Self { name, qualifier };
        match elsewhere {
            true => Err(Error::new(
                "ResourceNotFoundException",
                format!("Function not found: {text}"),
            )
            .with("Type", "User")),
            false => Ok(reference),
        }
    }

    /// The version, where an alias is not meant.
    pub(in crate::control) fn version(&self) -> Option<Version> {
        match &self.qualifier {
            None => Some(Version::Latest),
            Some(Qualifier::Version(version)) => Some(*version),
            Some(Qualifier::Alias(_)) => None,
        }
    }

    /// Its ARN, as it was qualified.
    pub(in crate::control) fn arn(&self, arns: &Arns) -> String {
        let qualifier = self.qualifier.as_ref();
        arns.function(
            self.name.as_str(),
            qualifier.map(|qualifier| qualifier as &dyn std::fmt::Display),
        )
    }

    /// It is not here.
    pub(in crate::control) fn not_found(&self, arns: &Arns) -> Error {
        Error::new(
            "ResourceNotFoundException",
            format!("Function not found: {}", self.arn(arns)),
        )
        .with("Type", "User")
    }
}

/// A value that Lambda refuses.
pub(in crate::control) fn invalid(message: impl Into<String>) -> Error {
    Error::new("InvalidParameterValueException", message).with("Type", "User")
}

/// What is asked for is not there.
pub(in crate::control) fn not_found(message: impl Into<String>) -> Error {
    Error::new("ResourceNotFoundException", message).with("Type", "User")
}

/// What is there already, or is being changed.
pub(in crate::control) fn conflict(message: impl Into<String>) -> Error {
    Error::new("ResourceConflictException", message).with("Type", "User")
}

/// The caller had read an older state.
pub(in crate::control) fn precondition(what: &str) -> Error {
    Error::new(
        "PreconditionFailedException",
        format!(
            "The Revision Id provided does not match the latest Revision Id. Call the Get{what} API to retrieve the latest \
             Revision Id"
        ),
    )
    .with("Type", "User")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_in_every_way_that_lambda_knows() {
        let arns = Arns {
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        let read = |text: &str, qualifier| {
            let read = Reference::read(text, qualifier, &arns);
            read.map(|read| {
                let qualifier = read.qualifier.map(|qualifier| qualifier.to_string());
                (read.name.to_string(), qualifier.unwrap_or_default())
            })
        };
        let f = |qualifier: &str| Ok(("f".to_owned(), qualifier.to_owned()));
        for (text, qualifier, found) in [
            ("f", None, f("")),
            ("f", Some(""), f("")),
            ("f", Some("7"), f("7")),
            ("f:live", None, f("live")),
            ("function:f", None, f("")),
            ("function:f:live", None, f("live")),
            ("f:live", Some("live"), f("live")),
            ("f:$LATEST", None, f("$LATEST")),
            ("123456789012:function:f", None, f("")),
            ("123456789012:function:f:1", None, f("1")),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:f",
                None,
                f(""),
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:f:1",
                Some("1"),
                f("1"),
            ),
        ] {
            assert_eq!(read(text, qualifier), found, "{text}");
        }
        for (text, qualifier, name) in [
            ("f:1", Some("2"), "InvalidParameterValueException"),
            ("f:%", None, "InvalidParameterValueException"),
            ("a:b:c", None, "InvalidParameterValueException"),
            ("f g", None, "InvalidParameterValueException"),
            (
                "arn:aws:lambda:eu-west-1:123456789012:function:f",
                None,
                "ResourceNotFoundException",
            ),
            ("210987654321:function:f", None, "ResourceNotFoundException"),
        ] {
            assert_eq!(read(text, qualifier).unwrap_err().name, name, "{text}");
        }
    }
}
