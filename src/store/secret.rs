//! What is kept encrypted, and the key it is encrypted with.
//!
//! The node's key is a file of its own in the data folder, so that whoever gets the database, or a copy of it, does not
//! get what is sealed in it. It is made at the first start and never changed. What was sealed with it is lost with it,
//! which is why a node whose database knows a key does not make itself another: see [`KeyError::Missing`].
//!
//! A sealed text is bound to the place it was written for, its context: moved to another one it does not open.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{DataFolder, Error, folder};

/// The name of the key's file in the data folder: 32 random bytes, mode 600.
pub const KEY_FILE: &str = "node-key";

/// What a sealed text begins with: its format.
const FORMAT: &str = "v1";

/// Says what the 32 bytes are used for here, so that another use of them gives another key (BLAKE3, `derive_key`).
const SEALING: &str = "wharf 2026-11-25 node-key sealing";
const NAMING: &str = "wharf 2026-11-25 node-key name";

/// Seals and opens with the node's key (AES-256-GCM, a random nonce each time).
///
/// Random nonces are safe for about 2³² texts of one key (NIST SP 800-38D, section 8.3): a change a second for a century.
pub struct Sealer {
    key: LessSafeKey,
    name: KeyName,
}

/// Tells keys apart, and tells nothing else about them: eight hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyName(String);

/// Why a sealed text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is no sealed text, or one of a newer Wharf.
    #[error("it is no sealed text of a format that this version knows")]
    Format,
    /// It was sealed with another key.
    #[error("it was sealed with another key than this node's")]
    OtherKey,
    /// It was changed, or it stands in another place than it was written for.
    #[error("it was changed, or moved from where it was written")]
    Altered,
}

/// Why the node's key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database has texts that were sealed with a key, and there is none.
    #[error(
        "it is not there, and without it the environment variables of functions, the secrets of access keys and the private \
         keys of certificates cannot be read; put it back from where you keep it"
    )]
    Missing,
    /// It is not the key that the database knows.
    #[error(
        "it is not the key of this database ({wanted}, and this is {found}), so that the environment variables of \
         functions, the secrets of access keys and the private keys of certificates cannot be read; put the right one back \
         from where you keep it"
    )]
    Other {
        /// The name of the key that the database knows.
        wanted: String,
        /// The name of this one.
        found: String,
    },
    /// Others may read it.
    #[error("others may read it (mode {0:o}); take that from them: chmod 600")]
    Mode(u32),
    /// It is no key.
    #[error("it does not hold 32 bytes, as a key does")]
    Malformed,
    /// It cannot be read or made.
    #[error("it cannot be read or made")]
    Io(#[from] io::Error),
}

impl Sealer {
    /// Reads the key of a data folder, and makes one if there is none and `known` names none. It must be the one that
    /// `known` names.
    pub(super) fn of(data: &DataFolder, known: Option<&KeyName>) -> Result<Self, Error> {
        let file = data.path().join(KEY_FILE);
        let sealer = match read(&file) {
            Ok(Some(key)) => Ok(Self::new(&key)),
            Ok(None) if known.is_some() => Err(KeyError::Missing),
            Ok(None) => make(data.path()).map(|key| Self::new(&key)),
            Err(error) => Err(error),
        };
        sealer
            .and_then(|sealer| match known {
                Some(known) if *known != sealer.name => Err(KeyError::Other {
                    wanted: known.0.clone(),
                    found: sealer.name.0,
                }),
                Some(_) | None => Ok(sealer),
            })
            .map_err(|error| Error::key(file, error))
    }

    fn new(key: &[u8; 32]) -> Self {
        let derived = blake3::derive_key(SEALING, key);
        let name = blake3::derive_key(NAMING, key);
        let name = name[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            key: LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, &derived).expect("a key of this cipher is 32 bytes"),
            ),
            name: KeyName(name),
        }
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.name
    }

    /// Encrypts `bytes` for the place that `context` names, such as `access-key/AKIA…`.
    ///
    /// # Errors
    ///
    /// The operating system gives no random bytes.
    pub fn seal(&self, context: &str, bytes: &[u8]) -> Result<String, Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)
            .map_err(|error| Error::io("get random bytes", io::Error::from(error)))?;
        let mut sealed = bytes.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut sealed,
            )
            .expect("what is sealed is far from the cipher's limit of 64 GB");
        let text = BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{FORMAT}.{}.{text}", self.name.0))
    }

    /// Decrypts what [`seal`](Self::seal) made for the same `context`.
    ///
    /// # Errors
    ///
    /// It is not what was sealed, or not where it was sealed, or the key is another: [`Error::Sealed`].
    pub fn open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, Error> {
        self.try_open(context, sealed)
            .map_err(|source| Error::Sealed {
                context: context.to_owned(),
                source,
            })
    }

    fn try_open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let mut parts = sealed.splitn(3, '.');
        let (Some(FORMAT), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Format);
        };
        if name != self.name.0 {
            return Err(SealError::OtherKey);
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| SealError::Format)?;
        let Some((nonce, _)) = bytes.split_first_chunk::<NONCE_LEN>() else {
            return Err(SealError::Format);
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .key
            .open_within(nonce, Aad::from(context), &mut bytes, NONCE_LEN..)
            .map_err(|_| SealError::Altered)?
            .len();
        bytes.truncate(opened);
        Ok(bytes)
    }
}

/// Whether a folder has the key of that name, or needs none.
pub(super) fn check(data: &Path, wanted: Option<&str>) -> Result<bool, Error> {
    let file = data.join(KEY_FILE);
    let key = read(&file).map_err(|error| Error::key(file.clone(), error))?;
    let (Some(key), Some(wanted)) = (key, wanted) else {
        return Ok(wanted.is_none());
    };
    let found = Sealer::new(&key).name.0;
    if found == wanted {
        return Ok(true);
    }
    let wanted = wanted.to_owned();
    Err(Error::key(file, KeyError::Other { wanted, found }))
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealer({})", self.name.0)
    }
}

impl KeyName {
    pub(super) fn new(name: String) -> Self {
        Self(name)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key in a file, or none if there is no file.
pub(super) fn read(file: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    let file = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode(mode));
    }
    let mut key = Vec::with_capacity(33);
    file.take(33).read_to_end(&mut key)?;
    key.try_into().map(Some).map_err(|_| KeyError::Malformed)
}

/// Makes a key, in a file that is there whole or not at all.
fn make(data: &Path) -> Result<[u8; 32], KeyError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::from)?;
    write(data, &key)?;
    Ok(key)
}

/// Writes a key, and makes it durable together with its name.
pub(super) fn write(data: &Path, key: &[u8; 32]) -> io::Result<PathBuf> {
    let path = data.join(KEY_FILE);
    // A node that is killed here makes another one: nothing was sealed with this yet.
    let unfinished = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(unfinished, &path)?;
    folder::sync(data)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn data() -> (tempfile::TempDir, Arc<DataFolder>) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        (folder, data)
    }

    fn problem(error: Error) -> String {
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_after_a_restart() {
        let (_folder, data) = data();
        let made = Sealer::of(&data, None).unwrap();
        let sealed = made.seal("key/AKIA1", b"secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_ne!(
            made.seal("key/AKIA1", b"secret").unwrap(),
            sealed,
            "twice the same tells that it is"
        );
        let again = Sealer::of(&data, Some(made.name())).unwrap();
        assert_eq!(again.open("key/AKIA1", &sealed).unwrap(), b"secret");
        let empty = again.seal("", b"").unwrap();
        assert_eq!(again.open("", &empty).unwrap(), b"");
    }

    #[test]
    fn what_was_changed_moved_or_sealed_by_another_does_not_open() {
        let (_folder, data) = data();
        let sealer = Sealer::of(&data, None).unwrap();
        let sealed = sealer.seal("key/A", b"secret").unwrap();
        let refused = |context, sealed: &str| sealer.try_open(context, sealed).unwrap_err();
        assert_eq!(refused("key/B", &sealed), SealError::Altered);
        let start = sealed.rfind('.').unwrap() + 1;
        for position in start..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit may have bits that mean nothing, and must then be 0.
            let problem = refused("key/A", &changed);
            assert!(
                matches!(problem, SealError::Altered | SealError::Format),
                "{changed}"
            );
        }
        let other = Sealer::new(&[7; 32]).seal("key/A", b"secret").unwrap();
        assert_eq!(refused("key/A", &other), SealError::OtherKey);
        for text in ["", "secret", "v2.x.y", "v1.00000000", &sealed[..start + 9]] {
            let problem = refused("key/A", text);
            assert!(
                matches!(problem, SealError::Format | SealError::OtherKey),
                "{text}: {problem}"
            );
        }
        let error = sealer.open("key/B", &sealed).unwrap_err();
        assert_eq!(error.to_string(), "cannot open what is sealed as `key/B`");
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let (folder, data) = data();
        let made = Sealer::of(&data, None).unwrap();
        let file = folder.path().join(KEY_FILE);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&file).unwrap().len(), 32);
        assert_eq!(Sealer::of(&data, None).unwrap().name(), made.name());
        assert!(!folder.path().join("node-key.new").exists());

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(
            problem(Sealer::of(&data, None).unwrap_err()),
            "others may read it (mode 640); take that from them: chmod 600"
        );
    }

    #[test]
    fn a_missing_or_wrong_key_is_named_with_what_is_lost() {
        let (folder, data) = data();
        let made = Sealer::of(&data, None).unwrap();
        let file = folder.path().join(KEY_FILE);
        fs::remove_file(&file).unwrap();
        let error = Sealer::of(&data, Some(made.name())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot use the node's key `{}`", file.display())
        );
        assert!(problem(error).contains("environment variables of functions"));
        assert!(!file.exists(), "no other key takes its place");

        Sealer::of(&data, None).unwrap();
        let error = Sealer::of(&data, Some(made.name())).unwrap_err();
        assert!(problem(error).starts_with("it is not the key of this database"));

        for length in [0, 31, 33, 1000] {
            fs::write(&file, vec![1; length]).unwrap();
            let error = Sealer::of(&data, None).unwrap_err();
            assert_eq!(problem(error), "it does not hold 32 bytes, as a key does");
        }
    }
}
