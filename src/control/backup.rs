//! `GET /wharf/v1/backup`: the node's state, as one archive that is sent while it is read.

use std::{error::Error as _, io, sync::Arc};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::header;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Api, Body, Error, verbs::now_ms};
use crate::store::archive::{ArchiveError, Backup, Include};

/// How much is sent at a time.
const CHUNK: usize = 64 << 10;

/// How many chunks wait for the client.
const CHUNKS: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupQuery {
    #[serde(default)]
    key: bool,
    #[serde(default)]
    credentials: bool,
}

pub(super) async fn backup(
    State(api): State<Arc<Api>>,
    query: Result<Query<BackupQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(BackupQuery { key, credentials }) =
        query.map_err(|error| Error::Invalid(error.body_text()))?;
    let include = Include { key, credentials };
    let backup = api.control.backups.begin(include, now_ms()).await?;
    let size = backup.size()?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
    ];
    let (chunks, mut written) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || write(backup, chunks));
    let body = futures::stream::poll_fn(move |context| written.poll_recv(context));
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Writes an archive to a client. One that fails ends before its end, and the client sees that.
fn write(backup: Backup, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let end = chunks.clone();
    let out = io::BufWriter::with_capacity(CHUNK, Chunks(chunks));
    if let Err(error) = backup.write(out) {
        if end.is_closed() {
            tracing::info!("a client did not wait for the end of its backup");
            return;
        }
        tell(&error, "a backup broke off");
        // Nobody to tell means that the client has gone meanwhile.
        let _ = end.blocking_send(Err(io::Error::other("the backup broke off")));
    }
}

/// Sends what is written to it.
struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(Ok(chunk)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells whoever runs the node what a client is not told.
fn tell(error: &ArchiveError, message: &str) {
    let cause = error.source().map(tracing::field::display);
    tracing::error!(%error, cause, "{message}");
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error {
            ArchiveError::Store(error) => error.into(),
            error => {
                tell(&error, "a backup failed");
                Self::Unavailable(message)
            }
        }
    }
}
