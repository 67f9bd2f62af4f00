//! What a registry wants to see before it answers.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use http_auth::ChallengeRef;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a registry asks for in a 401 (RFC 9110, section 11; Docker's "Token Authentication Specification").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password.
    Basic,
    /// A token that is given out elsewhere.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
        let texts = fields.filter_map(|field| field.to_str().ok());
        texts
            .filter_map(|text| http_auth::parse_challenges(text).ok())
            .flatten()
            .find_map(|challenge| Self::of(&challenge))
    }

    fn of(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let parameter = |wanted: &str| {
            let mut parameters = challenge.params.iter();
            let found = parameters.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(Self::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        })
    }
}

/// A file of credentials, as Docker and others write it with `login`.
#[derive(Deserialize)]
struct LoginFile {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// The user and the password for a registry, as the value of an `Authorization` field. None if the file has none.
///
/// # Errors
///
/// The file cannot be read. The message has nothing of what is in it.
pub(super) fn basic(file: &Path, registry: &str) -> Result<Option<HeaderValue>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let logins: LoginFile = serde_json::from_str(&text).map_err(|error| {
        format!(
            "line {}: it is not what `docker login` writes",
            error.line()
        )
    })?;
    let login = logins.auths.iter().find(|(name, _)| {
        let name = name
            .split_once("://")
            .map_or(name.as_str(), |(_, rest)| rest);
        let host = name.split('/').next().unwrap_or_default();
        host.eq_ignore_ascii_case(registry)
            // What `docker login` calls the registry that it uses when none is named.
            || (registry == super::DOCKER_HUB && host == "index.docker.io")
    });
    let Some((name, login)) = login else {
        return Ok(None);
    };
    let encoded = match login {
        Login {
            auth: Some(auth), ..
        } if !auth.is_empty() => auth.clone(),
        Login {
            username: Some(username),
            password: Some(password),
            ..
        } => BASE64_STANDARD.encode(format!("{username}:{password}")),
        _ => {
            return Err(format!(
                "`{name}` has neither `auth` nor `username` and `password`; programs that keep passwords are not asked"
            ));
        }
    };
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
        .map_err(|_| format!("the `auth` of `{name}` is not base64"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_tokens_are() {
        let read = |texts: &[&'static str]| {
            let field =
                |text: &&'static str| (header::WWW_AUTHENTICATE, HeaderValue::from_static(text));
            Challenge::read(&texts.iter().map(field).collect())
        };
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        assert_eq!(
            read(&[
                "Bearer realm=\"https://a/token\",service=\"a\",scope=\"repository:b:pull,push\""
            ]),
            bearer("https://a/token", Some("a"), Some("repository:b:pull,push"))
        );
        assert_eq!(
            read(&["Negotiate", "bearer realm=\"https://a/token\""]),
            bearer("https://a/token", None, None)
        );
        assert_eq!(read(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(read(&["Bearer service=\"a\""]), None);
        assert_eq!(read(&["=,="]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_login_of_a_registry_is_found_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let file = r#"{"auths": {
            "https://reg.io/v2/": {"auth": "YTpi"},
            "other.io:5000": {"username": "u", "password": "p"},
            "kept.io": {}}, "credsStore": "x"}"#;
        std::fs::write(&path, file).unwrap();
        let basic = |registry| {
            let value = super::basic(&path, registry)?;
            Ok(value.map(|value| value.to_str().unwrap().to_owned()))
        };
        assert_eq!(basic("reg.io").unwrap().unwrap(), "Basic YTpi");
        assert_eq!(basic("other.io:5000").unwrap().unwrap(), "Basic dTpw");
        assert_eq!(basic("other.io"), Ok(None));
        let error: String = basic("kept.io").unwrap_err();
        assert!(error.contains("`kept.io` has neither"), "{error}");
        std::fs::write(&path, "{\"auths\": {\"a\": {\"auth\": \"secret\"").unwrap();
        assert!(!basic("a").unwrap_err().contains("secret"));
    }
}
