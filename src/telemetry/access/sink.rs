//! Where lines go.
//!
//! A file is opened again when its path leads elsewhere or nowhere, which is looked up before each batch: so a log that was
//! renamed (logrotate, with `create` or `nocreate`) goes on under its name, without a signal, and one that was copied and
//! truncated (`copytruncate`) goes on from its beginning. If the path cannot be opened again, lines go where they went.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::Destination;

/// Who was there tells a lot about people: the group may read it, to collect it, and nobody else.
const MODE: u32 = 0o640;

/// How long is waited for a pipe that is full, if whoever shares it has made it not block.
const FULL: Duration = Duration::from_millis(5);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// Where it was opened, and as which file.
    path: Option<(PathBuf, Identity)>,
    /// Whether the last line is only begun, as a write failed in the middle of it.
    torn: bool,
    /// Whether the last write, or the last opening, failed: one warning says so, not one a batch.
    failing: bool,
}

/// Device and inode.
type Identity = (u64, u64);

impl Sink {
    pub(super) fn open(destination: &Destination) -> io::Result<Self> {
        let (file, path) = match destination {
            Destination::Output => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            Destination::File(path) => {
                let (file, identity) = open(path)?;
                (file, Some((path.clone(), identity)))
            }
        };
        Ok(Self {
            file,
            path,
            torn: false,
            failing: false,
        })
    }

    /// Writes whole lines. Answers how many of them were lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let found = self.find();
        let mut left = lines;
        let written = loop {
            if self.torn {
                if let Err(error) = self.file.write_all(b"\n") {
                    break Err(error);
                }
                self.torn = false;
            }
            match self.file.write(left) {
                Ok(count) => {
                    left = &left[count..];
                    if left.is_empty() {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL),
                Err(error) => break Err(error),
            }
        };
        if written.is_err() {
            let done = &lines[..lines.len() - left.len()];
            self.torn |= done.last().is_some_and(|byte| *byte != b'\n');
        }
        match found.and(written) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.as_ref().map(|(path, _)| path.display());
                    let path = path.map_or_else(String::new, |path| path.to_string());
                    tracing::warn!(path, %error, "access log not written");
                }
            }
        }
        count_lines(left)
    }

    /// Opens the file again if it is not there any more under its path.
    fn find(&mut self) -> io::Result<()> {
        let Some((path, identity)) = &mut self.path else {
            return Ok(());
        };
        let is_there = fs::metadata(&*path).is_ok_and(|there| self::identity(&there) == *identity);
        if !is_there {
            (self.file, *identity) = open(path)?;
            self.torn = false;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, Identity)> {
    let mut options = File::options();
    let file = options.append(true).create(true).mode(MODE).open(path)?;
    let identity = identity(&file.metadata()?);
    Ok((file, identity))
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn count_lines(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n');
    u64::try_from(ends.count()).unwrap_or(u64::MAX)
}
