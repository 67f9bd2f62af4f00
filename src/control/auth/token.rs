//! The secret that opens the API to whoever has it.
//!
//! It is made at the node's first start, in a file that only the node's user may read. So on one machine the CLI of
//! that user needs no set-up, and nobody else gets in.

use std::{fs, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use http::{HeaderMap, header};

use super::credentials;

/// The name of the token's file in the data folder.
pub const TOKEN_FILE: &str = "api-token";

/// The secret that opens the API. It prints as nothing.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the token of the node whose data is in `data`.
    ///
    /// # Errors
    ///
    /// The file is not there (the node was never started) or may not be read (it is another user's).
    pub fn read(data: &Path) -> io::Result<Self> {
        Ok(Self(
            fs::read_to_string(data.join(TOKEN_FILE))?.trim().to_owned(),
        ))
    }

    /// Reads the token, or makes one.
    ///
    /// # Errors
    ///
    /// The data folder cannot be written.
    pub fn open(data: &Path) -> io::Result<Self> {
        match Self::read(data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let token = credentials::random::<32>()?;
        let path = data.join(TOKEN_FILE);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        Ok(Self(token))
    }

    /// A token that was given by other means, such as an environment variable.
    pub fn given(token: &str) -> Self {
        Self(token.trim().to_owned())
    }

    /// The value of the `Authorization` header.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a request has the token. Takes the same time wherever the difference is.
    pub(super) fn authorizes(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some(given) = value.as_bytes().strip_prefix(b"Bearer ") else {
            return false;
        };
        // Hashes are compared in constant time, and hide the token's length too.
        blake3::hash(given) == blake3::hash(self.0.as_bytes())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (header::AUTHORIZATION, http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_the_token_itself_opens_the_api() {
        let token = Token::given("secret\n");
        assert!(token.authorizes(&headers(&["Bearer secret"])));
        for wrong in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer Secret"],
            &["Bearer secret "],
            &["Basic secret"],
            &["Bearer secret", "Bearer secret"],
        ] {
            assert!(!token.authorizes(&headers(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let token = Token::open(data.path()).unwrap();
        assert_eq!(Token::open(data.path()).unwrap().0, token.0);
        let mode = fs::metadata(data.path().join(TOKEN_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
