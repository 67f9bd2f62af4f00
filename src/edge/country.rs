//! The country of an address, by a database in MaxMind's format (GeoLite2-Country, DB-IP Country Lite and others).
//!
//! The file is read whole when the node starts, and again when it has changed: those who make such files replace them every
//! few weeks. One that cannot be read leaves the one before in place.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use maxminddb::{Reader, path};

use crate::model::Country;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(60);

/// Knows the countries of addresses. A clone is the same.
#[derive(Clone)]
pub struct Countries(Arc<Inner>);

struct Inner {
    path: PathBuf,
    database: ArcSwap<Database>,
}

struct Database {
    reader: Reader<Vec<u8>>,
    changed: Option<SystemTime>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
#[error("read the database of countries {}", .path.display())]
pub struct CountriesError {
    path: PathBuf,
    #[source]
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl Countries {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It is not there, or no database.
    pub fn open(path: &Path) -> Result<Self, CountriesError> {
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            database: ArcSwap::from_pointee(Database::read(path)?),
        })))
    }

    /// Looks at the file again and again; never ends.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(POLL).await;
            let countries = self.clone();
            let _ = tokio::task::spawn_blocking(move || countries.reload()).await;
        }
    }

    fn reload(&self) {
        let inner = &self.0;
        if modified(&inner.path) == inner.database.load().changed {
            return;
        }
        match Database::read(&inner.path) {
            Ok(database) => {
                tracing::info!(path = %inner.path.display(), "database of countries read again");
                inner.database.store(Arc::new(database));
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "database of countries kept"
            ),
        }
    }

    /// The country of an address, if the database has one.
    pub fn find(&self, address: IpAddr) -> Option<Country> {
        let database = self.0.database.load();
        let found = database.reader.lookup(address.to_canonical()).ok()?;
        let country: &str = found.decode_path(&path!["country", "iso_code"]).ok()??;
        country.parse().ok()
    }
}

impl Database {
    fn read(path: &Path) -> Result<Self, CountriesError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| CountriesError {
            path: path.to_owned(),
            error,
        };
        let changed = modified(path);
        let bytes = fs::read(path).map_err(|error| failed(error.into()))?;
        let reader = Reader::from_source(bytes).map_err(|error| failed(error.into()))?;
        Ok(Self { reader, changed })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database (MaxMind DB File Format 2.0) in which one IPv4 network of 8 bits is in a country.
    fn database(network: u8, country: &str) -> Vec<u8> {
        const NODES: u32 = 8;
        let record = |number: u32| number.to_be_bytes()[1..].to_vec();
        let text = |text: &str| {
            let length = u8::try_from(text.len()).unwrap();
            [&[0b010_00000 | length], text.as_bytes()].concat()
        };
        let map = |pairs: &[(&str, Vec<u8>)]| {
            let mut bytes = vec![0b111_00000 | u8::try_from(pairs.len()).unwrap()];
            for (key, value) in pairs {
                bytes.extend(text(key));
                bytes.extend(value);
            }
            bytes
        };
        let number = |number: u16| [&[0b101_00010][..], &number.to_be_bytes()].concat();
        let mut bytes = Vec::new();
        for bit in 0..NODES {
            let next = match bit + 1 {
                // After the tree come 16 bytes, and then the data.
                NODES => NODES + 16,
                next => next,
            };
            let one = network >> (NODES - 1 - bit) & 1 == 1;
            let (zero, one) = if one { (NODES, next) } else { (next, NODES) };
            bytes.extend(record(zero));
            bytes.extend(record(one));
        }
        bytes.extend([0; 16]);
        bytes.extend(map(&[("country", map(&[("iso_code", text(country))]))]));
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        bytes.extend(map(&[
            ("binary_format_major_version", number(2)),
            ("binary_format_minor_version", number(0)),
            ("build_epoch", vec![0b000_00001, 2, 1]),
            ("database_type", text("Test-Country")),
            ("description", map(&[])),
            ("ip_version", number(4)),
            ("languages", vec![0, 4]),
            ("node_count", [&[0b110_00001][..], &[8]].concat()),
            ("record_size", number(24)),
        ]));
        bytes
    }

    #[test]
    fn an_address_is_in_the_country_that_the_file_says_and_the_file_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("country.mmdb");
        fs::write(&path, database(192, "DE")).unwrap();
        let countries = Countries::open(&path).unwrap();
        let find = |address: &str| {
            let country = countries.find(address.parse().unwrap());
            country.map(|country| country.to_string())
        };
        assert_eq!(find("192.0.2.1").as_deref(), Some("DE"));
        assert_eq!(find("::ffff:192.0.2.1").as_deref(), Some("DE"));
        assert_eq!(find("193.0.2.1"), None);
        assert_eq!(find("2001:db8::1"), None);

        let later = SystemTime::now() + Duration::from_secs(10);
        let touch = |bytes: Vec<u8>, at: SystemTime| {
            fs::write(&path, bytes).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
        };
        touch(b"no database".to_vec(), later);
        countries.reload();
        assert_eq!(
            find("192.0.2.1").as_deref(),
            Some("DE"),
            "what was there stays"
        );
        touch(database(192, "FR"), later + Duration::from_secs(10));
        countries.reload();
        assert_eq!(find("192.0.2.1").as_deref(), Some("FR"));
    }

    /// The file is what tests of whole nodes take.
    #[test]
    fn the_database_of_tests_has_the_loopback_in_new_zealand() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edge/loopback.mmdb");
        assert_eq!(fs::read(path).unwrap(), database(127, "NZ"));
    }

    #[test]
    fn what_is_no_database_is_told_with_its_path() {
        let error = Countries::open(Path::new("/no/such.mmdb")).err().unwrap();
        assert!(error.to_string().contains("/no/such.mmdb"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Countries::open(file.path()).is_err());
    }
}
