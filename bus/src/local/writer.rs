//! The one thread that writes a stream: takes what has queued up, writes it, syncs once, then answers.

use std::fs::{self, File};
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::LocalOptions;
use super::dedup::RecentIds;
use super::files::{create_segment, failed, now_ms};
use super::segment::{HEADER_BYTES, push_record};
use super::state::{Segment, State};
use crate::{BusError, Outgoing, PublishAck};

type Answer = oneshot::Sender<Result<PublishAck, BusError>>;

/// What the writer knows of the messages before.
pub(super) struct Tail {
    recent: RecentIds,
    last_id: Option<String>,
}

impl Tail {
    pub(super) fn new(dedup_window_ms: i64, most_ids: usize) -> Self {
        Self { recent: RecentIds::new(dedup_window_ms, most_ids), last_id: None }
    }

    /// Records a stored message.
    pub(super) fn remember(&mut self, message_id: Option<&str>, sequence: u64, stored_ms: i64) {
        if let Some(id) = message_id {
            self.recent.insert(id, sequence, stored_ms);
        }
        self.last_id = message_id.map(str::to_owned);
    }
}

struct Request {
    message: Outgoing,
    answer: Answer,
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that waits, once there is something; `None` when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Request>> {
        let mut waiting = self.waiting();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut waiting.requests))
    }
}

/// The queue into the writing thread.
pub(super) struct Writer {
    stream: String,
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread of a stream.
    pub(super) fn start(state: Arc<State>, tail: Tail, options: LocalOptions) -> Result<Self, BusError> {
        let stream = state.name.clone();
        let queue = Arc::new(Queue::default());
        let directory = state.directory.clone();
        let mut writing = Writing::open(state, tail, options)?;
        let thread = std::thread::Builder::new().name("bus-writer".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || {
                while let Some(requests) = queue.take() {
                    writing.store(requests);
                }
            }
        });
        let thread = thread.map_err(|source| failed("start the writer of", &directory, source))?;
        let places = Arc::new(Semaphore::new(options.queue_messages.max(1)));
        Ok(Self { stream, queue, places, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a message, waiting for a place first.
    pub(super) async fn queue(
        &self,
        message: Outgoing,
    ) -> Result<oneshot::Receiver<Result<PublishAck, BusError>>, BusError> {
        let gone = || BusError::StreamNotFound { stream: self.stream.clone() };
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.queue.waiting();
        if waiting.closed {
            return Err(gone());
        }
        waiting.requests.push(Request { message, answer, _place: place });
        drop(waiting);
        self.queue.filled.notify_one();
        Ok(answered)
    }

    /// Accepts no more, and waits until the thread has stored what was queued.
    pub(super) fn stop(&self) {
        self.places.close();
        self.queue.waiting().closed = true;
        self.queue.filled.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(stream = %self.stream, "the writer of a local stream panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Writing {
    state: Arc<State>,
    tail: Tail,
    options: LocalOptions,
    segment: Segment,
    file: File,
    /// The first failed write, after which nothing is written any more.
    failure: Option<String>,
}

/// What became of one message of a group, before it is synced.
type Outcome = Result<PublishAck, BusError>;

impl Writing {
    fn open(state: Arc<State>, tail: Tail, options: LocalOptions) -> Result<Self, BusError> {
        let segment = state.segments().last().copied();
        let missing =
            || BusError::Stopped { stream: state.name.clone(), reason: "it has no segment".to_owned() };
        let segment = segment.ok_or_else(missing)?;
        let file = open_for_append(&state, segment.first_sequence)?;
        Ok(Self { state, tail, options, segment, file, failure: None })
    }

    /// Stores a group and answers each of its messages after the sync.
    fn store(&mut self, requests: Vec<Request>) {
        let mut bytes = Vec::new();
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut written = self.roll_if_full().err();
        for request in &requests {
            outcomes.push(self.decide(&request.message, &mut bytes));
        }
        if written.is_none() {
            written = self.write(&bytes).err();
        }
        if let Some(error) = written {
            tracing::error!(stream = %self.state.name, %error, "a local stream stopped");
            self.failure.get_or_insert(error.to_string());
        }
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let answer = match &self.failure {
                None => outcome,
                Some(reason) => {
                    Err(BusError::Stopped { stream: self.state.name.clone(), reason: reason.clone() })
                }
            };
            // Who no longer waits for the answer does not need it.
            let _ = request.answer.send(answer);
        }
    }

    /// Decides what becomes of a message, and appends its record if it is to be stored.
    fn decide(&mut self, message: &Outgoing, bytes: &mut Vec<u8>) -> Outcome {
        let stored_ms = now_ms().max(self.segment.newest_ms);
        let stream = self.state.name.clone();
        let message_id = message.message_id.as_deref().filter(|id| !id.is_empty());
        if let Some(sequence) = message_id.and_then(|id| self.tail.recent.find(id, stored_ms)) {
            return Ok(PublishAck { stream, sequence, duplicate: true });
        }
        if message.behind_id.is_some() && message.behind_id != self.tail.last_id {
            return Err(BusError::WrongLastId { subject: message.subject.clone() });
        }
        let sequence = self.segment.last_sequence + 1;
        push_record(bytes, sequence, stored_ms, message);
        self.tail.remember(message_id, sequence, stored_ms);
        self.segment.last_sequence = sequence;
        self.segment.newest_ms = stored_ms;
        Ok(PublishAck { stream, sequence, duplicate: false })
    }

    /// Writes and syncs, then shows the messages to the readers.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        if self.failure.is_some() || bytes.is_empty() {
            return Ok(());
        }
        let path = || self.state.segment_path(self.segment.first_sequence);
        self.file.write_all(bytes).map_err(|source| failed("write to", &path(), source))?;
        self.file.sync_data().map_err(|source| failed("sync", &path(), source))?;
        self.segment.length_bytes += bytes.len() as u64;
        if let Some(last) = self.state.segments().last_mut() {
            *last = self.segment;
        }
        let last_sequence = self.segment.last_sequence;
        self.state.ticks.send_modify(|tick| tick.last_sequence = last_sequence);
        Ok(())
    }

    /// Begins a new segment behind a full one, and drops those that are past their age.
    fn roll_if_full(&mut self) -> Result<(), BusError> {
        if self.failure.is_some() || self.segment.length_bytes < self.options.segment_bytes {
            return Ok(());
        }
        let first_sequence = self.segment.last_sequence + 1;
        create_segment(&self.state.directory, self.state.created_ms, first_sequence)?;
        self.file = open_for_append(&self.state, first_sequence)?;
        let newest_ms = self.segment.newest_ms;
        self.segment = Segment {
            first_sequence,
            last_sequence: first_sequence - 1,
            length_bytes: HEADER_BYTES,
            newest_ms,
        };
        self.state.segments().push(self.segment);
        self.drop_aged()
    }

    fn drop_aged(&mut self) -> Result<(), BusError> {
        let max_age_ms = self.state.settings().max_age_ms as i64;
        if max_age_ms == 0 {
            return Ok(());
        }
        let bound_ms = now_ms() - max_age_ms;
        loop {
            let mut segments = self.state.segments();
            match segments.first() {
                Some(oldest) if segments.len() > 1 && oldest.newest_ms < bound_ms => {
                    let path = self.state.segment_path(segments.remove(0).first_sequence);
                    drop(segments);
                    fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn open_for_append(state: &State, first_sequence: u64) -> Result<File, BusError> {
    let path = state.segment_path(first_sequence);
    File::options().append(true).open(&path).map_err(|source| failed("open", &path, source))
}
