//! The access keys that sign calls, in a file that AWS clients read as it is.
//!
//! `DATA/credentials` has the shape of `~/.aws/credentials`, and is made at the node's first start with one profile. The
//! profile `default` is the account's root, which may do everything. Every other is a user, who may do what `wharf_policy`
//! says: the names of managed policies, or files with policy documents beside this one, parted by commas. Without it a user
//! may do nothing.
//!
//! The file and the documents are looked at when a call comes, at most once a second, and read again when they changed. A
//! changed file that is of no use is logged once, and the users stay as they were. Only the node's user may read the file;
//! one that others may read is refused, as ssh does with keys.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    caller::{Identity, IdentityKind},
    managed::{self, MANAGED},
    policy::{Kind, Malformed, Policy},
};

/// The name of the file in the data folder.
pub const CREDENTIALS_FILE: &str = "credentials";

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The profile that is the account's root.
const ROOT: &str = "default";

/// The users of a node that its file has.
pub struct Credentials {
    data: PathBuf,
    account: String,
    users: ArcSwap<Users>,
    looked: Mutex<Looked>,
}

/// By access key id.
type Users = HashMap<String, User>;

/// When the files were looked at, and what they were.
struct Looked {
    at: Instant,
    files: Files,
}

/// Files as they were seen; nothing for one that was not there.
type Files = Vec<(PathBuf, Option<Stamp>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    changed: (i64, i64),
    inode: u64,
    size: u64,
    mode: u32,
}

/// One who may call. It prints without its secret.
#[derive(Clone)]
pub(super) struct User {
    pub(super) secret: String,
    pub(super) identity: Arc<Identity>,
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
    /// A profile's name is no user's.
    #[error("`{0}` is no user's name: 1 to 64 letters, digits or `+=,.@_-`")]
    Name(String),
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
    /// The account's root has a policy.
    #[error(
        "the profile `{ROOT}` is the account's root, which may do everything; take `wharf_policy` from it"
    )]
    Root,
    /// There is no such policy.
    #[error(
        "the profile `{profile}`: there is no policy `{policy}`, neither a file beside this one nor one of {}",
        MANAGED.iter().map(|managed| managed.name).collect::<Vec<_>>().join(", ")
    )]
    NoPolicy {
        /// Whose.
        profile: String,
        /// Its name.
        policy: String,
    },
    /// Others may write a policy.
    #[error(
        "the policy {file}: others may write it (mode {mode:o}); take that from them: chmod 600"
    )]
    PolicyMode {
        /// Which.
        file: String,
        /// Its mode.
        mode: u32,
    },
    /// A policy is none.
    #[error("the policy {file}")]
    Policy {
        /// Which.
        file: String,
        /// Why.
        source: Malformed,
    },
}

impl Credentials {
    /// Reads the file, or makes it for clients of that region.
    ///
    /// # Errors
    ///
    /// It cannot be written or read, others may read it, or it does not say what it should.
    pub fn open(data: &Path, region: &str, account: &str) -> Result<Self, CredentialsError> {
        let path = data.join(CREDENTIALS_FILE);
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path, region)?,
            Err(error) => return Err(error.into()),
        }
        let mut files = Files::new();
        let users = read(data, account, &mut files)?;
        Ok(Self {
            data: data.to_owned(),
            account: account.to_owned(),
            users: ArcSwap::from_pointee(users),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                files,
            }),
        })
    }

    /// The user of an access key.
    pub(super) fn find(&self, key_id: &str) -> Option<User> {
        self.look(LOOK_EVERY);
        self.users.load().get(key_id).cloned()
    }

    /// The user of that name.
    pub(in crate::control) fn named(&self, name: &str) -> Option<Arc<Identity>> {
        self.list().into_iter().find(|identity| {
            matches!(&identity.kind, IdentityKind::User { name: found } if found == name)
        })
    }

    /// Every user, and the root.
    pub(in crate::control) fn list(&self) -> Vec<Arc<Identity>> {
        self.look(LOOK_EVERY);
        let users = self.users.load();
        users.values().map(|user| user.identity.clone()).collect()
    }

    /// Reads the file again if it changed since it was looked at, `every` so often. Who comes while another looks goes by.
    fn look(&self, every: Duration) {
        let mut looked = match self.looked.try_lock() {
            Ok(looked) => looked,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(std::sync::TryLockError::WouldBlock) => return,
        };
        if looked.at.elapsed() < every {
            return;
        }
        looked.at = Instant::now();
        if looked.files.iter().all(|(path, seen)| stamp(path) == *seen) {
            return;
        }
        looked.files.clear();
        match read(&self.data, &self.account, &mut looked.files) {
            Ok(users) => {
                tracing::info!(users = users.len(), "the API's users changed");
                self.users.store(Arc::new(users));
            }
            Err(error) => {
                let file = self.data.join(CREDENTIALS_FILE);
                let error = anyhow::Error::new(error);
                tracing::error!(
                    file = %file.display(),
                    error = %format!("{error:#}"),
                    "the changed file of the API's users is of no use, they stay as they were"
                );
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        changed: (metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
        size: metadata.len(),
        mode: metadata.mode(),
    })
}

/// Reads the users, and notes the files that were read, as they were before.
fn read(data: &Path, account: &str, files: &mut Files) -> Result<Users, CredentialsError> {
    let path = data.join(CREDENTIALS_FILE);
    let stamp = stamp(&path);
    files.push((path.clone(), stamp));
    if let Some(Stamp { mode, .. }) = stamp
        && mode & 0o077 != 0
    {
        return Err(CredentialsError::Mode(mode & 0o777));
    }
    parse(&fs::read_to_string(path)?, account, |profile, policy| {
        find_policy(data, profile, policy, files)
    })
}

/// The policy that a profile names: a managed one, or a file.
fn find_policy(
    data: &Path,
    profile: &str,
    policy: &str,
    files: &mut Files,
) -> Result<Arc<Policy>, CredentialsError> {
    let name = policy.strip_prefix(managed::PREFIX).unwrap_or(policy);
    if let Some(managed) = managed::by_name(name.rsplit('/').next().unwrap_or(name)) {
        return Ok(managed.policy());
    }
    let path = data.join(policy);
    let seen = stamp(&path);
    files.push((path.clone(), seen));
    let file = path.display().to_string();
    let Some(Stamp { mode, .. }) = seen else {
        return Err(CredentialsError::NoPolicy {
            profile: profile.to_owned(),
            policy: policy.to_owned(),
        });
    };
    if mode & 0o022 != 0 {
        let mode = mode & 0o777;
        return Err(CredentialsError::PolicyMode { file, mode });
    }
    let policy = Policy::parse(&fs::read_to_string(&path)?, Kind::Identity);
    policy
        .map(Arc::new)
        .map_err(|source| CredentialsError::Policy { file, source })
}

fn parse(
    text: &str,
    account: &str,
    mut policy: impl FnMut(&str, &str) -> Result<Arc<Policy>, CredentialsError>,
) -> Result<Users, CredentialsError> {
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
    let (mut users, mut names) = (Users::new(), HashSet::new());
    for (profile, settings) in profiles {
        let setting = |name| settings.get(name).filter(|value| !value.is_empty());
        let wanted = |name| {
            let value = setting(name).map(ToString::to_string);
            value.ok_or_else(|| CredentialsError::Lacks {
                profile: profile.clone(),
                setting: name,
            })
        };
        let key_id = wanted("aws_access_key_id")?;
        let secret = wanted("aws_secret_access_key")?;
        let policies = setting("wharf_policy").map_or("", |policies| policies);
        let identity = match profile.as_str() {
            ROOT if !policies.is_empty() => return Err(CredentialsError::Root),
            ROOT => Identity::root(account),
            name if !is_name(name) => return Err(CredentialsError::Name(profile)),
            name => {
                let policies = policies.split(',').map(str::trim);
                let policies = policies.filter(|policy| !policy.is_empty());
                let policies: Result<_, _> = policies.map(|named| policy(name, named)).collect();
                Identity {
                    arn: format!("arn:aws:iam::{account}:user/{name}"),
                    user_id: unique_id("AIDA", &format!("credentials/{name}")),
                    kind: IdentityKind::User {
                        name: name.to_owned(),
                    },
                    policies: policies?,
                    ..Identity::root(account)
                }
            }
        };
        let user = User {
            secret,
            identity: Arc::new(identity),
        };
        if !names.insert(profile.clone()) || users.insert(key_id, user).is_some() {
            return Err(CredentialsError::Twice(profile));
        }
    }
    Ok(users)
}

/// Whether a text may be a user's name (IAM API Reference, `UserName`).
pub(in crate::control) fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(letter)
}

/// An id of IAM's form that is always the same for a text.
fn unique_id(prefix: &str, of: &str) -> String {
    let digest = blake3::hash(of.as_bytes());
    let letters = digest.as_bytes()[..17].iter();
    let letters = letters.map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    prefix.chars().chain(letters).collect()
}

/// Makes the file, with a key of its own.
fn make(path: &Path, region: &str) -> io::Result<()> {
    let text = format!(
        "# Access keys of this node's API. AWS clients read this file: AWS_SHARED_CREDENTIALS_FILE names it,\n\
         # AWS_ENDPOINT_URL the API. The node sees when it changes. The profile `default` may do everything; any other\n\
         # is a user, who may do what `wharf_policy = AdministratorAccess` or `wharf_policy = FILE.json` says.\n\
         [default]\n\
         aws_access_key_id = {}\n\
         aws_secret_access_key = {}\n\
         region = {region}\n",
        new_id("WHARF", 15)?,
        new_secret()?,
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

/// The characters of ids.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Capitals and digits, as AWS's ids are: `AIDA…` of users, and access keys that are plainly not AWS's.
pub(in crate::control) fn new_id(prefix: &str, letters: usize) -> io::Result<String> {
    let mut random = vec![0; letters];
    getrandom::fill(&mut random)?;
    let letters = random
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    Ok(prefix.chars().chain(letters).collect())
}

/// Forty characters that nobody guesses.
pub(in crate::control) fn new_secret() -> io::Result<String> {
    random::<30>()
}

/// So many random bytes but for one bit, as text that a command line does not take for an option: it does not begin with `-`.
pub(in crate::control) fn random<const BYTES: usize>() -> io::Result<String> {
    let mut secret = [0; BYTES];
    getrandom::fill(&mut secret)?;
    secret[0] &= 0x7f;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(secret))
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "User({})", self.identity.arn)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_set()
            .entries(self.users.load().values())
            .finish()
    }
}
