//! Packages from S3, or what speaks like it.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use url::Url;

use super::{
    archive::MAX_UNZIPPED,
    fetch::{Fetch, FetchError, Reach},
};

/// How long the signature of a request holds: it is sent at once.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// Where packages are fetched from.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The endpoint, such as `https://s3.eu-central-1.amazonaws.com`. Buckets are named in the path.
    pub endpoint: Url,
    /// The region that requests are signed for.
    pub region: String,
    /// The file of the access key, as AWS clients read it: the profile `default`, or the only one. It is read for each
    /// request. Without it requests are not signed.
    pub credentials: Option<PathBuf>,
}

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The node has no endpoint.
    #[error(
        "This node fetches nothing from S3: its operator has to name an endpoint with --s3-endpoint"
    )]
    NotConfigured,
    /// The service said no.
    #[error("Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")]
    Refused {
        /// As in `NoSuchKey`.
        code: String,
        /// In words.
        message: String,
    },
    /// The object is larger than any package.
    #[error("Unzipped size must be smaller than {MAX_UNZIPPED} bytes")]
    TooLarge,
    /// A bucket or a key that cannot be.
    #[error(
        "Error occurred while GetObject. S3 Error Code: InvalidBucketName. S3 Error Message: The specified bucket is not valid."
    )]
    Bucket,
    /// The service did not answer.
    #[error("Error occurred while GetObject: {0}")]
    Unreachable(String),
    /// The node's own settings do not hold.
    #[error("the credentials for S3 in {}: {problem}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// S3, as a node reaches it. Cheap to clone.
#[derive(Clone)]
pub struct S3 {
    settings: Option<S3Settings>,
    fetch: Fetch,
}

impl S3 {
    /// What these settings lead to; without them, every request is refused.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(settings: Option<S3Settings>) -> Result<Self, rustls::Error> {
        Ok(Self {
            settings,
            fetch: Fetch::new()?,
        })
    }

    /// The bytes of an object.
    ///
    /// # Errors
    ///
    /// It is not there or may not be read, it is too large, or the service does not answer.
    pub async fn get(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Bytes, S3Error> {
        let settings = self.settings.as_ref().ok_or(S3Error::NotConfigured)?;
        let credentials = credentials(settings).await?;
        let url = url(settings, credentials.as_ref(), bucket, key, version)?;
        let origin = settings.endpoint.origin();
        let reach = move |url: &Url| match url.origin() == origin {
            true => Reach::Named,
            false => Reach::Public,
        };
        let fetched = self
            .fetch
            .get(url, HeaderMap::new(), &reach, MAX_UNZIPPED)
            .await
            .map_err(|error| match error {
                FetchError::TooLarge { .. } => S3Error::TooLarge,
                FetchError::Unreachable { .. }
                | FetchError::Timeout(_)
                | FetchError::Refused(_) => S3Error::Unreachable(error.to_string()),
            })?;
        match fetched.status {
            StatusCode::OK => Ok(fetched.body),
            status => Err(refused(status, &fetched.body)),
        }
    }
}

/// The address of an object, with a signature if there are credentials.
fn url(
    settings: &S3Settings,
    credentials: Option<&Credentials>,
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> Result<Url, S3Error> {
    // What may stand in a name (Amazon S3 User Guide, "General purpose bucket naming rules", old names included). A name
    // that leads elsewhere in the path would be signed all the same.
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let names_a_bucket = (3..=255).contains(&bucket.len())
        && bucket.bytes().all(valid)
        && bucket.bytes().any(|byte| byte != b'.');
    if !names_a_bucket {
        return Err(S3Error::Bucket);
    }
    // Addresses are brought into a shape where these mean something else.
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(S3Error::Refused {
            code: "InvalidArgument".to_owned(),
            message: "A key with the part `.` or `..` cannot be fetched.".to_owned(),
        });
    }
    let endpoint = settings.endpoint.clone();
    let bucket = Bucket::new(
        endpoint,
        UrlStyle::Path,
        bucket.to_owned(),
        settings.region.clone(),
    )
    .map_err(|error| S3Error::Unreachable(error.to_string()))?;
    let mut action = bucket.get_object(credentials, key);
    if let Some(version) = version {
        action.query_mut().insert("versionId", version);
    }
    Ok(action.sign(SIGNED_FOR))
}

/// What the service says: an XML document with a code and a message.
fn refused(status: StatusCode, body: &[u8]) -> S3Error {
    let body = String::from_utf8_lossy(&body[..body.len().min(64 << 10)]);
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&amp;", "&");
        Some(text.chars().take(500).collect::<String>())
    };
    let reason = status.canonical_reason().unwrap_or("Unknown");
    S3Error::Refused {
        code: element("Code").unwrap_or_else(|| status.as_str().to_owned()),
        message: element("Message").unwrap_or_else(|| reason.to_owned()),
    }
}

/// The access key that requests are signed with.
async fn credentials(settings: &S3Settings) -> Result<Option<Credentials>, S3Error> {
    let Some(path) = &settings.credentials else {
        return Ok(None);
    };
    let failed = |problem: String| S3Error::Credentials {
        path: path.clone(),
        problem,
    };
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error: io::Error| failed(error.to_string()))?;
    parse(&text).map(Some).map_err(|setting| {
        failed(format!(
            "the profile `default` lacks `{setting}`, or is not there"
        ))
    })
}

/// The key of the profile `default`, or of the first one where that is not there. Fails with what is missing.
fn parse(text: &str) -> Result<Credentials, &'static str> {
    let mut profiles: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            profiles.push((name.trim(), Vec::new()));
        } else if let Some((name, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
            && let Some((_, settings)) = profiles.last_mut()
        {
            settings.push((name.trim(), value.trim()));
        }
    }
    let profile = profiles.iter().find(|(name, _)| *name == "default");
    let settings = profile.or(profiles.first()).map(|(_, settings)| settings);
    let setting = |wanted: &'static str| {
        let mut settings = settings.into_iter().flatten();
        let found = settings.find(|(name, value)| *name == wanted && !value.is_empty());
        found.map(|(_, value)| (*value).to_owned()).ok_or(wanted)
    };
    let (key, secret) = (
        setting("aws_access_key_id")?,
        setting("aws_secret_access_key")?,
    );
    Ok(match setting("aws_session_token") {
        Ok(token) => Credentials::new_with_token(key, secret, token),
        Err(_) => Credentials::new(key, secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_says_is_told_as_lambda_tells_it() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code>\
            <Message>The specified key &lt;x&gt; does not exist.</Message><Key>x</Key></Error>";
        for (status, body, expected) in [
            (
                404,
                &body[..],
                "S3 Error Code: NoSuchKey. S3 Error Message: The specified key <x> does not exist.",
            ),
            (
                403,
                b"<html>no</html>",
                "S3 Error Code: 403. S3 Error Message: Forbidden",
            ),
        ] {
            let error = refused(StatusCode::from_u16(status).unwrap(), body);
            assert_eq!(
                error.to_string(),
                format!("Error occurred while GetObject. {expected}")
            );
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_bucket() {
        let settings = S3Settings {
            endpoint: "http://127.0.0.1:9000".parse().unwrap(),
            region: "us-east-1".to_owned(),
            credentials: None,
        };
        let url = |bucket, key| url(&settings, None, bucket, key, Some("v1")).map(String::from);
        assert_eq!(
            url("my-bucket", "/a/b c?d#e%2e").unwrap(),
            "http://127.0.0.1:9000/my-bucket//a/b%20c%3Fd%23e%252e?versionId=v1"
        );
        for key in ["../other/key", "a/../../other/key", ".", "a/.."] {
            assert!(url("my-bucket", key).is_err(), "{key}");
        }
        for bucket in ["", "..", "...", "a/b", "a?b", "a%2fb", "a b", "a\\b"] {
            assert!(
                matches!(url(bucket, "key"), Err(S3Error::Bucket)),
                "{bucket}"
            );
        }
    }

    #[test]
    fn the_key_is_that_of_the_default_profile() {
        let key = |text: &str| parse(text).map(|credentials| credentials.key().to_owned());
        let two = "# two\n[other]\naws_access_key_id = O\naws_secret_access_key = s\n\
                   [default]\nregion=x\naws_access_key_id=D\naws_secret_access_key=s\n";
        assert_eq!(key(two).unwrap(), "D");
        assert_eq!(key(&two[..50]).unwrap_err(), "aws_secret_access_key");
        assert_eq!(key(&two.replace("default", "b")).unwrap(), "O");
        assert_eq!(key("").unwrap_err(), "aws_access_key_id");
    }
}
