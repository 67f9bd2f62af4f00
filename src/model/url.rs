//! Function URLs: how a function, or an alias of one, answers at an address of its own.

use serde::{Deserialize, Serialize};

use super::{Cors, Digest, FunctionName};

/// What stands between a URL's id and its region, in its host.
pub const URL_LABEL: &str = "lambda-url";

/// The configuration of a function URL. Its members are written as in the Lambda API, `CreateFunctionUrlConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionUrl {
    /// Who may call it.
    pub auth_type: UrlAuthType,
    /// What pages of other origins may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Whether an answer is sent as it is made.
    #[serde(default)]
    pub invoke_mode: InvokeMode,
}

/// The URL of a function, as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlConfig {
    /// The function.
    pub function: FunctionName,
    /// The alias; without one, `$LATEST`.
    #[serde(default)]
    pub alias: Option<String>,
    /// What it does.
    pub url: FunctionUrl,
    /// When it was made: milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// When it was changed.
    pub modified_ms: u64,
}

/// Who may call a function URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuthType {
    /// Anybody.
    #[serde(rename = "NONE")]
    None,
    /// Who signs the request (AWS Signature Version 4) and is allowed to.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

impl UrlAuthType {
    /// The name, as it stands in the API and in the condition key `lambda:FunctionUrlAuthType`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::AwsIam => "AWS_IAM",
        }
    }
}

/// Whether the answer of a function URL is sent as it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvokeMode {
    /// When it is complete, and if it is no larger than an answer may be.
    #[default]
    Buffered,
    /// Piece by piece.
    ResponseStream,
}

/// Who signed a request to a function URL (`requestContext.authorizer.iam` of its event).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UrlCaller {
    /// The access key that signed.
    pub access_key: String,
    /// The account whose user it is.
    pub account_id: String,
    /// The user's id.
    pub caller_id: String,
    /// The user's ARN.
    pub user_arn: String,
    /// The user's id, once more: they differ for roles alone.
    pub user_id: String,
}

/// The id of a function's URL, or of an alias's: 32 lower-case letters and digits, the same for as long as it has that name.
pub fn url_id(account: &str, function: &FunctionName, qualifier: Option<&str>) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // None of the parts has a colon.
    let named = format!("{account}:{function}:{}", qualifier.unwrap_or_default());
    let digest = Digest::of(named.as_bytes());
    let mut id = String::with_capacity(32);
    // Five bytes are eight letters.
    for five in digest.as_bytes()[..20].chunks(5) {
        let bits = five
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for letter in (0..8).rev() {
            let index = usize::try_from(bits >> (5 * letter) & 31).unwrap_or_default();
            id.push(char::from(ALPHABET[index]));
        }
    }
    id
}

/// The host of a function URL: `URLID.lambda-url.REGION.DOMAIN`. AWS's domain is `on.aws`, a node's is `localhost`, and the
/// one that it was given.
pub fn url_host(id: &str, region: &str, domain: &str) -> String {
    format!("{id}.{URL_LABEL}.{region}.{domain}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_of_the_account_the_name_and_the_alias() {
        let name: FunctionName = "hello".parse().unwrap();
        let id = url_id("000000000000", &name, None);
        assert_eq!(id, url_id("000000000000", &name, None));
        assert_eq!(id.len(), 32);
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        let other: FunctionName = "hello2".parse().unwrap();
        for another in [
            url_id("000000000001", &name, None),
            url_id("000000000000", &other, None),
            url_id("000000000000", &name, Some("live")),
        ] {
            assert_ne!(another, id);
        }
    }

    #[test]
    fn a_configuration_is_written_as_in_the_api() {
        let document = json!({
            "AuthType": "AWS_IAM",
            "Cors": {"AllowOrigins": ["https://a.example"], "MaxAge": 60, "AllowCredentials": true},
            "InvokeMode": "RESPONSE_STREAM",
        });
        let url: FunctionUrl = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(url.auth_type, UrlAuthType::AwsIam);
        assert_eq!(serde_json::to_value(&url).unwrap(), document);
        let least: FunctionUrl = serde_json::from_value(json!({"AuthType": "NONE"})).unwrap();
        assert_eq!(least.invoke_mode, InvokeMode::Buffered);
        assert_eq!(least.auth_type.as_str(), "NONE");
    }
}
