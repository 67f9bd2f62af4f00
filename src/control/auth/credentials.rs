//! The access keys that sign calls, in a file that AWS clients read as it is.
//!
//! `DATA/credentials` has the shape of `~/.aws/credentials`: a profile is a user, with an access key id and a secret. It is
//! made at the node's first start with one profile, `default`, and read at every start. Only the node's user may read it;
//! a file that others may read is refused, as ssh does with keys.

use std::{
    collections::HashMap,
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// The name of the file in the data folder.
pub const CREDENTIALS_FILE: &str = "credentials";

/// The users of a node, by access key id.
pub struct Credentials(HashMap<String, User>);

/// One who may call. It prints without its secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct User {
    /// The profile.
    pub(super) name: String,
    pub(super) secret: String,
}

/// Why the file is of no use. The message never has a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read or made.
    #[error("cannot open it")]
    Open(#[from] io::Error),
    /// Others may read it.
    #[error("others may read it (mode {0:o}); take that from them: chmod 600")]
    Mode(u32),
    /// A line is neither a profile nor a setting.
    #[error("line {0} is neither `[PROFILE]` nor `NAME = VALUE`")]
    Line(usize),
    /// A profile lacks something.
    #[error("the profile `{profile}` lacks `{setting}`")]
    Lacks {
        /// Which.
        profile: String,
        /// What.
        setting: &'static str,
    },
    /// Two profiles of one name, or with one key.
    #[error("the profile `{0}` is there twice, or has the access key of another")]
    Twice(String),
}

impl Credentials {
    /// Reads the file, or makes it for clients of that region.
    ///
    /// # Errors
    ///
    /// It cannot be written or read, others may read it, or it does not say what it should.
    pub fn open(data: &Path, region: &str) -> Result<Self, CredentialsError> {
        let path = data.join(CREDENTIALS_FILE);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                return Err(CredentialsError::Mode(
                    metadata.permissions().mode() & 0o777,
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path, region)?,
            Err(error) => return Err(error.into()),
        }
        Self::parse(&fs::read_to_string(path)?)
    }

    /// The user of an access key.
    pub(super) fn find(&self, key_id: &str) -> Option<&User> {
        self.0.get(key_id)
    }

    fn parse(text: &str) -> Result<Self, CredentialsError> {
        let mut profiles: Vec<(String, HashMap<&str, &str>)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                profiles.push((name.trim().to_owned(), HashMap::new()));
                continue;
            }
            // Clients have settings of their own here, and the node does not need to know them.
            let setting = line.split_once('=').zip(profiles.last_mut());
            let Some(((name, value), (_, settings))) = setting else {
                return Err(CredentialsError::Line(number));
            };
            settings.insert(name.trim(), value.trim());
        }
        let mut users = HashMap::new();
        let mut names = std::collections::HashSet::new();
        for (profile, settings) in profiles {
            let wanted = |setting| {
                let value = settings.get(setting).filter(|value| !value.is_empty());
                value
                    .map(ToString::to_string)
                    .ok_or_else(|| CredentialsError::Lacks {
                        profile: profile.clone(),
                        setting,
                    })
            };
            let key_id = wanted("aws_access_key_id")?;
            let user = User {
                name: profile.clone(),
                secret: wanted("aws_secret_access_key")?,
            };
            if !names.insert(profile.clone()) || users.insert(key_id, user).is_some() {
                return Err(CredentialsError::Twice(profile));
            }
        }
        Ok(Self(users))
    }
}

/// Makes the file, with a key of its own.
fn make(path: &Path, region: &str) -> io::Result<()> {
    let mut secret = [0; 30];
    getrandom::fill(&mut secret)?;
    let text = format!(
        "# Access keys of this node's API, a profile a user. AWS clients read this file:\n\
         # AWS_SHARED_CREDENTIALS_FILE names it, AWS_ENDPOINT_URL the API. The node reads it when it starts.\n\
         [default]\n\
         aws_access_key_id = {}\n\
         aws_secret_access_key = {}\n\
         region = {region}\n",
        key_id()?,
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    );
    // Under another name first: a node that is killed here makes it again, and does not stop at half a file.
    let unfinished = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// Twenty capitals and digits, as AWS's are, and plainly not AWS's.
fn key_id() -> io::Result<String> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = [0; 15];
    getrandom::fill(&mut random)?;
    let letters = random
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    Ok("WHARF".chars().chain(letters).collect())
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "User({})", self.name)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_only_its_owner_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let made = Credentials::open(data.path(), "eu-central-1").unwrap();
        let path = data.path().join(CREDENTIALS_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("[default]\n") && text.contains("region = eu-central-1\n"),
            "{text}"
        );
        let again = Credentials::open(data.path(), "eu-central-1").unwrap();
        assert_eq!((made.0.len(), &made.0), (1, &again.0));
        let (key_id, user) = made.0.iter().next().unwrap();
        assert_eq!(
            (key_id.len(), user.secret.len(), user.name.as_str()),
            (20, 40, "default")
        );
        assert!(!format!("{made:?}").contains(&user.secret));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        Credentials::open(data.path(), "us-east-1").unwrap();
        let path = data.path().join(CREDENTIALS_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Credentials::open(data.path(), "us-east-1").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "others may read it (mode 640); take that from them: chmod 600"
        );
    }

    #[test]
    fn a_profile_is_a_user() {
        let users = Credentials::parse(
            "; two\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1\n\n\
             [ ci ]\n  region = x\naws_access_key_id = B\naws_secret_access_key = t\ncli_pager =\n",
        );
        let users = users.unwrap();
        let found = |key| {
            users
                .find(key)
                .map(|user| (user.name.as_str(), user.secret.as_str()))
        };
        assert_eq!(found("A"), Some(("default", "s=1")));
        assert_eq!(found("B"), Some(("ci", "t")));
        assert_eq!(found("C"), None);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said() {
        let key = "aws_access_key_id = A\naws_secret_access_key = hidden\n";
        for (text, problem) in [
            (
                "a = b".to_owned(),
                "line 1 is neither `[PROFILE]` nor `NAME = VALUE`",
            ),
            (
                format!("[a]\n{key}hidden"),
                "line 4 is neither `[PROFILE]` nor `NAME = VALUE`",
            ),
            (
                "[a]\naws_access_key_id = A".to_owned(),
                "the profile `a` lacks `aws_secret_access_key`",
            ),
            (
                "[a]\naws_access_key_id =".to_owned(),
                "the profile `a` lacks `aws_access_key_id`",
            ),
            (
                format!("[a]\n{key}[b]\n{key}"),
                "the profile `b` is there twice, or has the access key of another",
            ),
            (
                format!("[a]\n{key}[a]\naws_access_key_id = B\naws_secret_access_key = hidden"),
                "the profile `a` is there twice, or has the access key of another",
            ),
        ] {
            assert_eq!(Credentials::parse(&text).unwrap_err().to_string(), problem);
        }
    }
}
