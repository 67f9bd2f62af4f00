//! The access log: one line for each request that the data plane was sent.
//!
//! ```text
//! request's thread: Entry ── line ──▶ Batch ──▶ writer's thread: sink
//! ```
//!
//! A request's thread writes its line into a buffer that it keeps, and copies it to what waits for the writer; that is all
//! that a request waits for. What is always true:
//! * a line is one line, whatever a client sent (`line`);
//! * what waits is bounded by [`WAITING`]; lines beyond it are lost, counted, and told in the node's log;
//! * a destination that fails costs lines, never a request.
//!
//! Deliberately not here: rotation, which is logrotate's: see `sink` for how it is noticed.

mod line;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode, Uri, Version};

use self::{line::Pen, sink::Sink};
use super::batch::{self, Batch};
use crate::model::{CacheResult, Outcome, RequestId};

/// The most bytes of lines that wait to be written.
pub const WAITING: usize = 16 << 20;

/// From here on the writer is not left to gather more.
const URGENT: usize = 1 << 20;

/// How often it is told at most that lines were lost.
const TOLD: Duration = Duration::from_secs(10);

/// How long the end waits for a destination that does not take what is left.
const PATIENCE: Duration = Duration::from_secs(2);

/// How an access log is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where lines go.
    pub destination: Destination,
    /// What they are like.
    pub format: AccessFormat,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Output,
    /// A file, which is made if it is not there.
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output => formatter.write_str("standard output"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// What a line is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// A JSON document with everything that is known.
    #[default]
    Json,
    /// Apache's and nginx's `common`.
    Common,
    /// `common`, referer and user agent.
    Combined,
}

impl FromStr for AccessFormat {
    type Err = InvalidAccessFormat;

    fn from_str(text: &str) -> Result<Self, InvalidAccessFormat> {
        match text {
            "json" => Ok(Self::Json),
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            _ => Err(InvalidAccessFormat(text.chars().take(40).collect())),
        }
    }
}

/// Why a text is no [`AccessFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format of access logs: `json`, `common` or `combined`")]
pub struct InvalidAccessFormat(String);

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
#[error("open the access log {destination}")]
pub struct AccessLogError {
    destination: Destination,
    #[source]
    error: io::Error,
}

/// A request and its answer, as its line tells of them.
///
/// Texts are as the client sent them.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When the request came.
    pub time: SystemTime,
    /// Who sent it.
    pub client: IpAddr,
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub target: &'a Uri,
    /// Its protocol.
    pub protocol: Version,
    /// The host that it was for.
    pub host: &'a [u8],
    /// Its `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Its `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The TLS version; none on clear text.
    pub tls: Option<&'static str>,
    /// Its id.
    pub request_id: RequestId,
    /// The status of its answer, if it came to that.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes: u64,
    /// From its head to the head of the answer.
    pub first_byte: Option<Duration>,
    /// From its head to the last byte of the answer, or to when the client was gone.
    pub duration: Duration,
    /// The function that was asked.
    pub function: Option<&'a str>,
    /// The distribution that it was for.
    pub distribution: Option<&'a str>,
    /// The path of the distribution's behaviour; `default` is the one without.
    pub behaviour: Option<&'a str>,
    /// What the cache had to do with it.
    pub cache: Option<CacheResult>,
    /// The origin that was asked.
    pub origin: Option<&'a str>,
    /// From the request to the origin to the head of its answer, or to the end of trying.
    pub origin_time: Option<Duration>,
}

/// An access log that is open. Dropping it writes what is left.
pub struct AccessLog {
    format: AccessFormat,
    shared: Arc<Shared>,
    /// Hears that the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    batch: Batch<Lines>,
    lost: AtomicU64,
}

/// Lines that wait.
#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    /// Those that there was no room for.
    lost: u64,
}

thread_local! {
    /// Each thread's own, so that a request allocates nothing and waits for no other to write its line.
    static PEN: RefCell<Pen> = RefCell::default();
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(settings: &AccessLogSettings) -> Result<Self, AccessLogError> {
        let failed = |error| AccessLogError {
            destination: settings.destination.clone(),
            error,
        };
        let sink = Sink::open(&settings.destination).map_err(failed)?;
        let shared = Arc::<Shared>::default();
        let (ending, ended) = mpsc::channel();
        batch::spawn("wharf-access", {
            let shared = Arc::clone(&shared);
            move || {
                shared.run(sink);
                drop(ending);
            }
        })
        .map_err(failed)?;
        Ok(Self {
            format: settings.format,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Writes the line of a request.
    pub fn write(&self, entry: &Entry<'_>) {
        let written = PEN.try_with(|pen| {
            let mut pen = pen.borrow_mut();
            let line = pen.line(self.format, entry);
            self.shared.batch.add(|lines| {
                if lines.text.len() + line.len() > WAITING {
                    lines.lost += 1;
                } else {
                    lines.text.extend_from_slice(line);
                }
                lines.text.len() >= URGENT
            });
        });
        // A thread that is ending has no pen any more.
        if written.is_err() {
            self.shared.lost.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Writes what is left and ends. Blocks on the destination, and not for longer than 2 s.
    pub fn close(&self) {
        self.shared.batch.stop();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // It sends nothing: that it is gone is what is waited for.
        let _ = ended.recv_timeout(PATIENCE);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessLog")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The writer's life: until the log is closed.
    fn run(&self, mut sink: Sink) {
        let mut emptied = Vec::new();
        let (mut untold, mut told) = (0, None::<Instant>);
        loop {
            let stop = self.batch.wait(TOLD);
            let mut lines = self.batch.take(Lines {
                text: emptied,
                lost: 0,
            });
            let lost = lines.lost + sink.write(&lines.text);
            lines.text.clear();
            // A flood should not leave its buffer behind.
            lines.text.shrink_to(2 * URGENT);
            emptied = lines.text;
            self.lost.fetch_add(lost, Relaxed);
            untold += lost;
            if untold > 0 && (stop || told.is_none_or(|told| told.elapsed() >= TOLD)) {
                tracing::warn!(lines = untold, "lines of the access log were lost");
                (untold, told) = (0, Some(Instant::now()));
            }
            if stop {
                return;
            }
        }
    }
}
