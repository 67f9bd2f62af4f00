//! Where a function's log goes, and how it is written (Lambda API, `LoggingConfig`).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::FunctionName;

/// The name of a log group: 1 to 512 of `A–Z a–z 0–9 . - _ / #` (CloudWatch Logs API, `LogGroupName`).
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogGroupName(Arc<str>);

impl LogGroupName {
    /// The group of a function that names none: `/aws/lambda/NAME`.
    pub fn of_function(name: &FunctionName) -> Self {
        Self(format!("/aws/lambda/{name}").into())
    }

    /// The function whose group it is by its name, whether there is one or not.
    pub fn function(&self) -> Option<FunctionName> {
        self.0.strip_prefix("/aws/lambda/")?.parse().ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name of a log group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log group's name: 1 to 512 letters, digits or one of `.-_/#`")]
pub struct InvalidLogGroupName(String);

impl FromStr for LogGroupName {
    type Err = InvalidLogGroupName;

    fn from_str(text: &str) -> Result<Self, InvalidLogGroupName> {
        let fits = (1..=512).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLogGroupName(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for LogGroupName {
    type Error = InvalidLogGroupName;

    fn try_from(text: String) -> Result<Self, InvalidLogGroupName> {
        text.parse()
    }
}

impl From<LogGroupName> for String {
    fn from(name: LogGroupName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for LogGroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for LogGroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

/// Where a function's log goes, and how it is written. Its members are called as Lambda's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LoggingConfig {
    /// Lines, or JSON documents.
    pub log_format: LogFormat,
    /// What the function says below this is dropped. Only of JSON documents.
    #[serde(
        rename = "ApplicationLogLevel",
        skip_serializing_if = "Option::is_none"
    )]
    pub application_level: Option<ApplicationLevel>,
    /// What the node says of the function below this is dropped. Only of JSON documents.
    #[serde(rename = "SystemLogLevel", skip_serializing_if = "Option::is_none")]
    pub system_level: Option<SystemLevel>,
    /// The group, if not the function's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_group: Option<LogGroupName>,
}

impl LoggingConfig {
    /// The least that a function's line must matter to be kept: INFO where nothing is said, and everything in text.
    pub fn application_floor(&self) -> Option<ApplicationLevel> {
        match self.log_format {
            LogFormat::Text => None,
            LogFormat::Json => Some(self.application_level.unwrap_or(ApplicationLevel::Info)),
        }
    }

    /// The least that a line of the node must matter to be kept: INFO where nothing is said, and everything in text.
    pub fn system_floor(&self) -> Option<SystemLevel> {
        match self.log_format {
            LogFormat::Text => None,
            LogFormat::Json => Some(self.system_level.unwrap_or(SystemLevel::Info)),
        }
    }
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum LogFormat {
    /// Lines as the function printed them, between START, END and REPORT.
    #[default]
    Text,
    /// A JSON document a line, with its time, level and request id.
    #[serde(rename = "JSON")]
    Json,
}

/// How much a line of a function matters, in Lambda's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words say it")]
pub enum ApplicationLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// How much a line of the node about a function matters, in Lambda's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words say it")]
pub enum SystemLevel {
    Debug,
    Info,
    Warn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_that_cloudwatch_takes() {
        for good in ["a", "/aws/lambda/hello", "My.App_1-2#x", &"x".repeat(512)] {
            assert_eq!(good.parse::<LogGroupName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a:b", "é", "a*", &"x".repeat(513)] {
            assert!(bad.parse::<LogGroupName>().is_err(), "{bad:?}");
        }
        let name = LogGroupName::of_function(&"hello".parse().unwrap());
        assert_eq!(name.as_str(), "/aws/lambda/hello");
        assert_eq!(name.function().unwrap().as_str(), "hello");
        assert_eq!(
            "/aws/lambda/a/b"
                .parse::<LogGroupName>()
                .unwrap()
                .function(),
            None
        );
    }

    #[test]
    fn it_is_stored_in_lambdas_words() {
        let json = r#"{"LogFormat":"JSON","ApplicationLogLevel":"FATAL","SystemLogLevel":"WARN","LogGroup":"/x"}"#;
        let config: LoggingConfig = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<LoggingConfig>("{}").unwrap(),
            LoggingConfig::default()
        );
    }
}
