//! What can be done with groups and their streams: make, list, set, put into, read, delete.
//!
//! All of it reads or writes files and blocks. A group's segments are searched beside the writer, not in its way: under its
//! lock is only what changes a group.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Logs, Shared,
    folder::Meta,
    lock, now_ms,
    query::{self, Page, Query},
    record::Record,
    segment::{Group, View},
    streams::{Extent, Index, Indexer},
    tail::{Live, Subscriber},
    writer::Disk,
};
use crate::model::LogGroupName;

/// The most streams of one group that are made by hand. Those that functions write to are a few a day.
const MAX_STREAMS: usize = 10_000;

/// The most groups.
const MAX_GROUPS: usize = 100_000;

/// Why something could not be done with a group.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// There is no such group.
    #[error("the log group does not exist")]
    NoGroup,
    /// There is no such stream in the group.
    #[error("the log stream does not exist")]
    NoStream,
    /// There is a group of that name.
    #[error("the log group exists already")]
    GroupExists,
    /// There is a stream of that name in the group.
    #[error("the log stream exists already")]
    StreamExists,
    /// There are as many as there may be.
    #[error("there are {0} already")]
    TooMany(usize),
    /// The disk failed.
    #[error("the log cannot be written")]
    Disk(#[source] io::Error),
}

/// A group, for who lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: LogGroupName,
    /// When it began: milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// How long its events are kept, if that was set.
    pub retention_days: Option<u32>,
    /// What it takes on disk.
    pub bytes: u64,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A log stream, for who lists them. Times are milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// Its name.
    pub name: Arc<str>,
    /// When it was made.
    pub created_ms: u64,
    /// The times of its first and last event, if it has any.
    pub events: Option<(u64, u64)>,
    /// When its last event came.
    pub ingested_ms: Option<u64>,
}

impl Logs {
    /// All groups, by name.
    pub fn groups(&self) -> Vec<GroupSummary> {
        let mut disk = self.shared.settled();
        let groups = disk.groups.iter_mut();
        let mut groups: Vec<GroupSummary> = groups
            .map(|(name, group)| GroupSummary {
                name: name.clone(),
                created_ms: match group.meta.created_ms {
                    0 => group.oldest_ms().unwrap_or_default(),
                    created => created,
                },
                retention_days: group.meta.retention_days,
                bytes: group.bytes(),
                tags: group.meta.tags.clone(),
            })
            .collect();
        drop(disk);
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        groups
    }

    /// Makes a group.
    ///
    /// # Errors
    ///
    /// [`LogsError::GroupExists`], [`LogsError::TooMany`], [`LogsError::Disk`].
    pub fn create_group(
        &self,
        name: &LogGroupName,
        tags: BTreeMap<String, String>,
    ) -> Result<(), LogsError> {
        let mut disk = self.shared.settled();
        if disk.groups.contains_key(name) {
            return Err(LogsError::GroupExists);
        }
        if disk.groups.len() >= MAX_GROUPS {
            return Err(LogsError::TooMany(MAX_GROUPS));
        }
        let meta = Meta {
            made: true,
            tags,
            ..Meta::new(name)
        };
        disk.make(name, meta).map_err(LogsError::Disk)
    }

    /// Deletes a group with all that is in it. A function that goes on writing there begins it anew.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`], [`LogsError::Disk`].
    pub fn delete_group(&self, name: &LogGroupName) -> Result<(), LogsError> {
        let mut disk = self.shared.settled();
        disk.group(name)?;
        disk.delete(name).map_err(LogsError::Disk)
    }

    /// Sets how many days a group's events are kept; none is as long as the node keeps what nobody set anything for.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`], [`LogsError::Disk`].
    pub fn set_retention(&self, name: &LogGroupName, days: Option<u32>) -> Result<(), LogsError> {
        let mut disk = self.shared.settled();
        change(disk.group(name)?, |meta| meta.retention_days = days)?;
        disk.expire_now();
        Ok(())
    }

    /// Changes the tags of a group.
    ///
    /// # Errors
    ///
    /// What `change` refuses, [`LogsError::NoGroup`], [`LogsError::Disk`].
    pub fn set_tags<E: From<LogsError>>(
        &self,
        name: &LogGroupName,
        edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut disk = self.shared.settled();
        let group = disk.group(name)?;
        let mut tags = group.meta.tags.clone();
        edit(&mut tags)?;
        Ok(change(group, |meta| meta.tags = tags)?)
    }

    /// The tags of a group.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn tags(&self, name: &LogGroupName) -> Result<BTreeMap<String, String>, LogsError> {
        Ok(self.shared.settled().group(name)?.meta.tags.clone())
    }

    /// From when on a group's events are kept: milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn kept_from(&self, name: &LogGroupName) -> Result<u64, LogsError> {
        let mut disk = self.shared.settled();
        disk.group(name)?;
        Ok(disk.cutoff(name))
    }

    /// The streams of a group, by name.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn streams(&self, name: &LogGroupName) -> Result<Vec<StreamSummary>, LogsError> {
        let found = self.look(name)?;
        let mut known: BTreeMap<Arc<str>, Option<Extent>> = BTreeMap::new();
        for stream in found.meta.streams.keys() {
            known.insert(stream.as_str().into(), None);
        }
        for (stream, extent) in found
            .views
            .iter()
            .flat_map(|view| &view.index)
            .flat_map(|index| index.iter())
        {
            if extent.last < found.cutoff {
                continue;
            }
            match known.entry(Arc::clone(stream)).or_default() {
                Some(known) => known.merge(extent),
                none => *none = Some(extent),
            }
        }
        let summary = |(name, extent): (Arc<str>, Option<Extent>)| StreamSummary {
            created_ms: match found.meta.streams.get(&*name) {
                Some(created) => *created,
                None => extent.map_or(0, |extent| extent.first),
            },
            events: extent.map(|extent| (extent.first.max(found.cutoff), extent.last)),
            ingested_ms: extent.map(|extent| extent.ingested),
            name,
        };
        Ok(known.into_iter().map(summary).collect())
    }

    /// Makes a stream without events.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`], [`LogsError::StreamExists`], [`LogsError::TooMany`], [`LogsError::Disk`].
    pub fn create_stream(&self, name: &LogGroupName, stream: &str) -> Result<(), LogsError> {
        if self.look(name)?.has(stream) {
            return Err(LogsError::StreamExists);
        }
        let mut disk = self.shared.settled();
        let group = disk.group(name)?;
        if group.meta.streams.contains_key(stream) {
            return Err(LogsError::StreamExists);
        }
        if group.meta.streams.len() >= MAX_STREAMS {
            return Err(LogsError::TooMany(MAX_STREAMS));
        }
        change(group, |meta| {
            meta.streams.insert(stream.to_owned(), now_ms());
        })
    }

    /// Deletes a stream: nobody sees its events any more, and they are wiped from the disk.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`], [`LogsError::NoStream`], [`LogsError::Disk`].
    pub fn delete_stream(&self, name: &LogGroupName, stream: &str) -> Result<(), LogsError> {
        let found = self.look(name)?;
        if !found.has(stream) {
            return Err(LogsError::NoStream);
        }
        let mut disk = self.shared.settled();
        let node = Arc::clone(&disk.node);
        let group = disk.group(name)?;
        let end = group.end();
        let oldest = group.oldest_ms().unwrap_or(u64::MAX);
        change(group, |meta| {
            meta.streams.remove(stream);
            // Of streams that were deleted before, nothing may be left by now.
            meta.deleted.retain(|_, (segment, _)| *segment >= oldest);
            meta.deleted.insert(stream.to_owned(), end);
        })?;
        group.forget(stream);
        let views = group.views();
        drop(disk);
        // It is deleted already; what fails here is not seen but is there, until its segment goes.
        if let Err(error) = query::wipe(&views, stream, end, &node) {
            tracing::warn!(group = %name, %error, "a deleted log stream is not wiped");
        }
        Ok(())
    }

    /// Puts events into a stream that is there: each its time, in milliseconds since 1970-01-01T00:00:00Z, and message.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`], [`LogsError::NoStream`], [`LogsError::Disk`].
    pub fn put(
        &self,
        name: &LogGroupName,
        stream: &str,
        events: &[(u64, String)],
    ) -> Result<(), LogsError> {
        let known = {
            let mut disk = self.shared.settled();
            disk.group(name)?.meta.streams.contains_key(stream)
        };
        if !known && !self.look(name)?.has(stream) {
            return Err(LogsError::NoStream);
        }
        let stream: Arc<str> = stream.into();
        let ingested = now_ms();
        let records = events.iter().map(|(ms, message)| Record::Event {
            ms: *ms,
            ingested,
            to: (&*stream).into(),
            message: message.as_str().into(),
        });
        let (mut lines, mut indexer) = (Vec::new(), Indexer::default());
        for record in records.clone() {
            record.write(&mut lines);
            indexer.add(&stream, &record);
        }
        let mut disk = self.shared.settled();
        disk.group(name)?;
        let stored = disk.store(name, &lines, &indexer.finish(), &self.shared.stats);
        stored.map_err(LogsError::Disk)?;
        for record in records {
            disk.tell(name, &stream, &record);
        }
        Ok(())
    }

    /// A page of a group's events.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn read(&self, name: &LogGroupName, query: &Query<'_>) -> Result<Page, LogsError> {
        let found = self.look(name)?;
        let query = Query {
            from_ms: query.from_ms.max(found.cutoff),
            ..*query
        };
        Ok(query::page(&found.views, &found.meta, &found.node, &query))
    }

    /// Whether a group has a stream.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn has_stream(&self, name: &LogGroupName, stream: &str) -> Result<bool, LogsError> {
        Ok(self.look(name)?.has(stream))
    }

    /// What is said in the groups from now on.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoGroup`].
    pub fn follow(&self, names: &[LogGroupName]) -> Result<Live, LogsError> {
        let (subscriber, live) = Subscriber::new(None);
        let mut disk = self.shared.settled();
        for name in names {
            disk.group(name)?;
        }
        for name in names {
            disk.subscribe(name, Some(subscriber.clone()));
        }
        Ok(live)
    }

    /// A group as it is now, with what streams each of its segments has.
    fn look(&self, name: &LogGroupName) -> Result<Found, LogsError> {
        let mut found = {
            let mut disk = self.shared.settled();
            let (cutoff, node) = (disk.cutoff(name), Arc::clone(&disk.node));
            let group = disk.group(name)?;
            Found {
                views: group.views(),
                meta: group.meta.clone(),
                cutoff,
                node,
            }
        };
        let mut learnt = Vec::new();
        for view in &mut found.views {
            if view.index.is_none() {
                let index = query::index(view, 0, &found.meta, &found.node);
                let index = view.index.insert(Arc::new(index));
                learnt.push((view.first_ms, view.bytes, Arc::clone(index)));
            }
        }
        if !learnt.is_empty() {
            let mut disk = lock(&self.shared.disk);
            // A stream may have been deleted since: then the next who asks looks again.
            if let Ok(group) = disk.group(name)
                && group.meta.deleted == found.meta.deleted
            {
                for (first_ms, bytes, index) in learnt {
                    group.know(first_ms, index, |view, index| {
                        // Some lines came meanwhile.
                        if view.bytes > bytes {
                            let more = query::index(view, bytes, &found.meta, &found.node);
                            index.extend(&more);
                        }
                    });
                }
            }
        }
        Ok(found)
    }
}

/// A group at one moment.
struct Found {
    views: Vec<View>,
    meta: Meta,
    cutoff: u64,
    node: Arc<str>,
}

impl Found {
    fn has(&self, stream: &str) -> bool {
        let in_index = |index: &Arc<Index>| {
            let wanted = |name: &str| name == stream;
            index
                .range(wanted)
                .is_some_and(|(_, last)| last >= self.cutoff)
        };
        self.meta.streams.contains_key(stream)
            || self.views.iter().flat_map(|view| &view.index).any(in_index)
    }
}

impl Shared {
    /// The disk, with everything that was said so far.
    fn settled(&self) -> std::sync::MutexGuard<'_, Disk> {
        let mut disk = lock(&self.disk);
        disk.index();
        self.drain_to(&mut disk);
        disk
    }
}

impl Disk {
    fn group(&mut self, name: &LogGroupName) -> Result<&mut Group, LogsError> {
        self.groups.get_mut(name).ok_or(LogsError::NoGroup)
    }
}

/// Sets something of a group, on disk first.
fn change(group: &mut Group, edit: impl FnOnce(&mut Meta)) -> Result<(), LogsError> {
    let mut meta = group.meta.clone();
    edit(&mut meta);
    meta.write(group.folder(), true).map_err(LogsError::Disk)?;
    group.meta = meta;
    Ok(())
}
