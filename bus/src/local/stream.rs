//! One stream: its folder, what is known of its segments, and who reads it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::files::{
    SEGMENT_EXTENSION, create_segment, cut, failed, now_ms, replace_file, segment_path, sync_directory,
};
use super::queue::Queue;
use super::reading::{Cursor, scan};
use super::segment::{HEADER_BYTES, header};
use super::state::{Segment, Settings, State};
use super::writer::{Tail, Writer};
use super::{DEFAULT_MAX_MESSAGE_BYTES, LocalOptions};
use crate::subject::covers;
use crate::{BusError, Outgoing, PublishAck, StoredMessage, StreamInfo, StreamSpec};

const SETTINGS_FILE: &str = "stream.json";

/// A stream that can be written.
pub(super) struct LocalStream {
    state: Arc<State>,
    writer: Writer,
    queues: Mutex<HashMap<String, Arc<Queue>>>,
}

impl LocalStream {
    /// Makes an empty stream in a new folder.
    pub(super) fn create(
        directory: &Path,
        spec: &StreamSpec,
        created_ms: i64,
        options: LocalOptions,
    ) -> Result<Arc<Self>, BusError> {
        let settings = Settings {
            format_version: 1,
            name: spec.name.clone(),
            created_ms,
            subjects: spec.subjects.clone(),
            max_age_ms: spec.max_age.as_millis() as u64,
            dedup_window_ms: spec.dedup_window.as_millis() as u64,
            max_message_bytes: spec.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
        };
        fs::create_dir_all(directory).map_err(|source| failed("make the folder", directory, source))?;
        create_segment(directory, settings.created_ms, 1)?;
        // The settings come last: a folder without them is not a stream.
        write_settings(directory, &settings)?;
        sync_directory(directory.parent().unwrap_or(directory))?;
        let segment =
            Segment { first_sequence: 1, last_sequence: 0, length_bytes: HEADER_BYTES, newest_ms: i64::MIN };
        let tail = Tail::new(settings.dedup_window_ms as i64, options.dedup_ids);
        Self::start(directory, settings, vec![segment], tail, options)
    }

    /// Opens what [`Self::create`] made; `None` if `directory` holds no stream.
    pub(super) fn recover(directory: &Path, options: LocalOptions) -> Result<Option<Arc<Self>>, BusError> {
        let path = directory.join(SETTINGS_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            Err(source) => return Err(failed("read", &path, source)),
        };
        let settings =
            serde_json::from_slice::<Settings>(&text).ok().filter(|settings| settings.format_version == 1);
        let damaged =
            || BusError::Damaged { path, offset: 0, reason: "not the settings of a stream, format 1" };
        let settings = settings.ok_or_else(damaged)?;
        let mut segments = find_segments(directory, settings.created_ms)?;
        let bound_ms = now_ms() - settings.dedup_window_ms as i64;
        let tail = recover_tail(directory, &settings, &mut segments, bound_ms, options.dedup_ids)?;
        Self::start(directory, settings, segments, tail, options).map(Some)
    }

    fn start(
        directory: &Path,
        settings: Settings,
        segments: Vec<Segment>,
        tail: Tail,
        options: LocalOptions,
    ) -> Result<Arc<Self>, BusError> {
        let state = Arc::new(State::new(directory, settings, segments));
        let writer = Writer::start(Arc::clone(&state), tail, options)?;
        Ok(Arc::new(Self { state, writer, queues: Mutex::default() }))
    }

    pub(super) fn name(&self) -> &str {
        &self.state.name
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.state.settings().subjects.clone()
    }

    pub(super) fn takes(&self, subject: &str) -> bool {
        self.state.settings().subjects.iter().any(|pattern| covers(pattern, subject))
    }

    pub(super) fn info(&self) -> StreamInfo {
        self.state.info()
    }

    /// Adds what an existing stream lacks; refuses one that keeps messages for too short a time.
    pub(super) fn extend(&self, spec: &StreamSpec) -> Result<(), BusError> {
        let mut settings = self.state.settings();
        let kept_ms = settings.max_age_ms;
        if kept_ms != 0 && (spec.max_age.is_zero() || u128::from(kept_ms) < spec.max_age.as_millis()) {
            let reason = format!(
                "it keeps messages for {} s, and {} are needed; raise its maximum age",
                kept_ms / 1000,
                if spec.max_age.is_zero() {
                    "all".to_owned()
                } else {
                    format!("{} s", spec.max_age.as_secs())
                }
            );
            return Err(BusError::IncompatibleStream { stream: spec.name.clone(), reason });
        }
        let taken = |subject: &&String| !settings.subjects.iter().any(|pattern| covers(pattern, subject));
        let added: Vec<String> = spec.subjects.iter().filter(taken).cloned().collect();
        if added.is_empty() {
            return Ok(());
        }
        let mut extended = settings.clone();
        extended.subjects.extend(added);
        write_settings(&self.state.directory, &extended)?;
        *settings = extended;
        Ok(())
    }

    /// Queues a message; the receiver reports when it is synced.
    pub(super) async fn queue(
        &self,
        message: Outgoing,
    ) -> Result<oneshot::Receiver<Result<PublishAck, BusError>>, BusError> {
        let limit_bytes = self.state.settings().max_message_bytes as usize;
        let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let size_bytes = headers + message.payload.len();
        if size_bytes > limit_bytes {
            return Err(BusError::TooLarge { subject: message.subject, size_bytes: message.payload.len() });
        }
        self.writer.queue(message).await
    }

    /// The work queue of this name, opened if it is not in use yet. Blocks on files.
    pub(super) fn attach(&self, durable: &str, filter: &str) -> Result<Arc<Queue>, BusError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(durable) {
            queue.check_filter(filter)?;
            return Ok(Arc::clone(queue));
        }
        let queue = Arc::new(Queue::open(self.state(), durable, filter)?);
        queues.insert(durable.to_owned(), Arc::clone(&queue));
        Ok(queue)
    }

    /// The message at `sequence`. Blocks on files.
    pub(super) fn read_one(&self, sequence: u64) -> Result<Option<StoredMessage>, BusError> {
        let info = self.info();
        if sequence < info.first_sequence || sequence > info.last_sequence {
            return Ok(None);
        }
        let mut found = None;
        Cursor::default().read(&self.state, sequence, &mut |record, file| {
            found = (record.sequence == sequence).then(|| record.to_stored(file));
            false
        })?;
        Ok(found)
    }

    /// Ends the stream and removes its folder.
    pub(super) fn delete(&self) -> Result<(), BusError> {
        self.writer.stop();
        self.state.ticks.send_modify(|tick| tick.deleted = true);
        let directory = &self.state.directory;
        fs::remove_dir_all(directory).map_err(|source| failed("remove", directory, source))?;
        sync_directory(directory.parent().unwrap_or(directory))
    }
}

fn write_settings(directory: &Path, settings: &Settings) -> Result<(), BusError> {
    let path = directory.join(SETTINGS_FILE);
    let text = serde_json::to_vec_pretty(settings).map_err(|error| failed("write", &path, error.into()))?;
    replace_file(directory, &path, &text)
}

/// The segments in a folder, by name and size; only the last one's end is still to be found.
fn find_segments(directory: &Path, created_ms: i64) -> Result<Vec<Segment>, BusError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(directory).map_err(|source| failed("list the folder", directory, source))? {
        let path = entry.map_err(|source| failed("list the folder", directory, source))?.path();
        if path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION) {
            let first =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            let unnamed = || BusError::Damaged { path, offset: 0, reason: "not named by its first sequence" };
            firsts.push(first.filter(|first| *first > 0).ok_or_else(unnamed)?);
        }
    }
    firsts.sort_unstable();
    let mut segments = Vec::with_capacity(firsts.len());
    for (at, &first_sequence) in firsts.iter().enumerate() {
        let path = segment_path(directory, first_sequence);
        let bytes = fs::metadata(&path).map_err(|source| failed("read", &path, source))?.len();
        let mut start = vec![0; HEADER_BYTES.min(bytes) as usize];
        let mut file = File::open(&path).map_err(|source| failed("open", &path, source))?;
        std::io::Read::read_exact(&mut file, &mut start).map_err(|source| failed("read", &path, source))?;
        if start != header(created_ms, first_sequence) {
            return Err(BusError::Damaged { path, offset: 0, reason: "its header is not of this stream" });
        }
        let last_sequence = firsts.get(at + 1).map_or(first_sequence - 1, |next| next - 1);
        segments.push(Segment { first_sequence, last_sequence, length_bytes: bytes, newest_ms: i64::MAX });
    }
    if segments.is_empty() {
        let path = directory.to_owned();
        return Err(BusError::Damaged { path, offset: 0, reason: "the stream has no segment" });
    }
    Ok(segments)
}

/// Finds the stream's end, cuts off what follows it, and collects what the writer must remember.
fn recover_tail(
    directory: &Path,
    settings: &Settings,
    segments: &mut [Segment],
    bound_ms: i64,
    most_ids: usize,
) -> Result<Tail, BusError> {
    let mut tail = Tail::new(settings.dedup_window_ms as i64, most_ids);
    // A segment holds nothing newer than the first message of the next one.
    for at in 1..segments.len() {
        let path = segment_path(directory, segments[at].first_sequence);
        scan(&path, segments[at].first_sequence, &mut |record, _| {
            segments[at - 1].newest_ms = record.stored_ms;
            false
        })?;
    }
    let last = segments.len() - 1;
    for (at, segment) in segments.iter_mut().enumerate() {
        if at < last && segment.newest_ms < bound_ms {
            continue;
        }
        let path = segment_path(directory, segment.first_sequence);
        let (mut next, mut newest_ms) = (segment.first_sequence, i64::MIN);
        let end = scan(&path, segment.first_sequence, &mut |record, _| {
            next = record.sequence + 1;
            newest_ms = record.stored_ms;
            tail.remember(record.message_id, record.sequence, record.stored_ms);
            true
        })?;
        if at == last {
            cut(&path, end.offset, segment.length_bytes)?;
            *segment = Segment { last_sequence: next - 1, length_bytes: end.offset, newest_ms, ..*segment };
        } else if let Some(reason) =
            end.damage.or((next - 1 != segment.last_sequence).then_some("messages lack"))
        {
            return Err(BusError::Damaged { path, offset: end.offset, reason });
        }
    }
    Ok(tail)
}
