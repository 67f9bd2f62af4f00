//! Zip archives, of files and of worse.

use std::io::Write as _;

use bytes::Bytes;
use zip::{ZipWriter, write::SimpleFileOptions};

/// An archive with these files.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> Bytes {
    made(|zip| {
        for (path, bytes) in files {
            zip.start_file(*path, options(0o644)).unwrap();
            zip.write_all(bytes).unwrap();
        }
    })
}

/// What an entry is made with.
pub(crate) fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .unix_permissions(mode)
}

/// An archive that is made by hand.
pub(crate) fn made(make: impl FnOnce(&mut ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Bytes {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    make(&mut zip);
    zip.finish().unwrap().into_inner().into()
}

/// An archive whose bytes were changed afterwards, wherever `from` stands.
pub(crate) fn changed(archive: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    assert_eq!(from.len(), to.len());
    let mut bytes = archive.to_vec();
    let mut changes = 0;
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + to.len()].copy_from_slice(to);
            changes += 1;
            at += from.len();
        } else {
            at += 1;
        }
    }
    assert!(changes > 0, "it is not there");
    bytes.into()
}
