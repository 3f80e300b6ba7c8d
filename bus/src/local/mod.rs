//! A durable bus in files of its own process: the embedded default of `dev`.
//!
//! Every stream is a folder: `stream.json` describes it, and segment files hold the messages (see [`segment`] for
//! their bytes). One thread per stream owns the writing: it takes what has queued up, writes it, syncs once, and only
//! then answers. Readers see synced messages only. A failed write stops the stream until the process is restarted.
//! A folder must be open in one process at a time. What a work queue has finished is recorded in a file beside the segments
//! (see [`acks`]), and so does the acknowledgement floor of a consumer (see [`floor`]).

mod acks;
mod dedup;
mod files;
mod floor;
mod queue;
mod reading;
mod segment;
mod state;
mod stream;
mod subscription;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;

use super::subject::{check_filter, check_message, check_name, check_subject, covers};
use super::{
    Bus, BusError, Outgoing, PublishAck, StoredMessage, StreamInfo, StreamSpec, Subscription, WorkQueue,
};
use queue::LocalQueue;
use stream::LocalStream;
use subscription::LocalSubscription;

/// Sizes of a local bus.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// A segment file that reached this size is closed; what is kept or dropped is whole segments.
    pub segment_bytes: u64,
    /// Messages that may wait for the writer of one stream before publishers wait.
    pub queue_messages: usize,
    /// Message ids remembered per stream at most, however long the dedup window.
    pub dedup_ids: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { segment_bytes: 32 << 20, queue_messages: 2_048, dedup_ids: 1 << 20 }
    }
}

/// Largest message where the stream's specification gives no limit, in bytes; the default of NATS.
const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1 << 20;

/// Durable streams in a directory. Clones share it.
#[derive(Clone)]
pub struct LocalBackend {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    options: LocalOptions,
    streams: Mutex<HashMap<String, Arc<LocalStream>>>,
    /// No two streams of a process begin at the same instant, so that a recreated one differs from the one before.
    last_created_ms: AtomicI64,
}

impl LocalBackend {
    /// Opens the streams in `directory`, which is made if it is missing. After a crash, what was not synced at the end
    /// of a stream is cut off; damage anywhere else is an error.
    pub fn open(directory: &Path, options: LocalOptions) -> Result<Self, BusError> {
        let failed =
            |operation| move |source| BusError::File { operation, path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed("make the folder"))?;
        let mut streams = HashMap::new();
        for entry in std::fs::read_dir(directory).map_err(failed("list the folder"))? {
            let path = entry.map_err(failed("list the folder"))?.path();
            if let Some(stream) = LocalStream::recover(&path, options)? {
                streams.insert(stream.name().to_owned(), stream);
            }
        }
        let shared = Shared {
            directory: directory.to_owned(),
            options,
            streams: Mutex::new(streams),
            last_created_ms: AtomicI64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes a stream and all that it holds. A stream made later under its name is another one.
    pub fn delete_stream(&self, stream: &str) -> Result<(), BusError> {
        let removed = self.streams().remove(stream);
        removed.ok_or_else(|| BusError::StreamNotFound { stream: stream.to_owned() })?.delete()
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, Arc<LocalStream>>> {
        // Every critical section leaves the map whole, so a panic elsewhere does not spoil it.
        self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self, name: &str) -> Result<Arc<LocalStream>, BusError> {
        let found = self.streams().get(name).cloned();
        found.ok_or_else(|| BusError::StreamNotFound { stream: name.to_owned() })
    }

    fn stream_for(&self, subject: &str) -> Result<Arc<LocalStream>, BusError> {
        let found = self.streams().values().find(|stream| stream.takes(subject)).cloned();
        found.ok_or_else(|| BusError::NoStreamForSubject { subject: subject.to_owned() })
    }

    /// Queues a message for its stream's writer.
    async fn queue(&self, message: Outgoing) -> Queued {
        let subject = message.subject.clone();
        let stream = check_message(&message).and_then(|()| self.stream_for(&subject));
        let answer = match stream {
            Ok(stream) => stream.queue(message).await,
            Err(error) => Err(error),
        };
        Queued { subject, answer }
    }

    fn ensure(&self, spec: &StreamSpec) -> Result<(), BusError> {
        check_name(&spec.name)?;
        let mut streams = self.streams();
        if let Some(existing) = streams.get(&spec.name) {
            return existing.extend(spec);
        }
        let clash = streams.values().find(|other| {
            spec.subjects.iter().any(|wanted| {
                other.subjects().iter().any(|taken| covers(taken, wanted) || covers(wanted, taken))
            })
        });
        if let Some(other) = clash {
            let reason = format!("its subjects overlap with those of stream {}", other.name());
            return Err(BusError::IncompatibleStream { stream: spec.name.clone(), reason });
        }
        let created_ms = files::now_ms().max(self.shared.last_created_ms.load(Ordering::Relaxed) + 1);
        self.shared.last_created_ms.store(created_ms, Ordering::Relaxed);
        let directory = self.shared.directory.join(&spec.name);
        let stream = LocalStream::create(&directory, spec, created_ms, self.shared.options)?;
        streams.insert(spec.name.clone(), stream);
        Ok(())
    }
}

/// A message that was queued, or could not be.
struct Queued {
    subject: String,
    answer: Result<oneshot::Receiver<Result<PublishAck, BusError>>, BusError>,
}

impl Queued {
    async fn stored(self) -> Result<PublishAck, BusError> {
        let gone = |_| BusError::NoStreamForSubject { subject: self.subject };
        self.answer?.await.map_err(gone)?
    }
}

impl Bus for LocalBackend {
    fn stream_info<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<StreamInfo, BusError>> {
        async move { Ok(self.stream(stream)?.info()) }.boxed()
    }

    fn stream_of<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<String>, BusError>> {
        async move {
            check_subject(subject)?;
            match self.stream_for(subject) {
                Ok(stream) => Ok(Some(stream.name().to_owned())),
                Err(BusError::NoStreamForSubject { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<StoredMessage>, BusError>> {
        async move {
            let stream = self.stream(stream)?;
            reading::off_runtime(move || stream.read_one(sequence)).await
        }
        .boxed()
    }

    fn acknowledged_upto<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        async move {
            check_name(durable)?;
            let (state, durable) = (self.stream(stream)?.state(), durable.to_owned());
            reading::off_runtime(move || state.acknowledged_upto(&durable)).await
        }
        .boxed()
    }

    fn open<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        start_sequence: u64,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, BusError>> {
        async move {
            check_name(durable)?;
            let stream = self.stream(stream)?;
            let durable = durable.to_owned();
            let open = move || LocalSubscription::open(&stream, &durable, start_sequence);
            Ok(Box::new(reading::off_runtime(open).await?) as Box<dyn Subscription>)
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        filter_subject: Option<&'a str>,
        ack_wait: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn WorkQueue>, BusError>> {
        async move {
            check_name(durable)?;
            filter_subject.map_or(Ok(()), check_filter)?;
            let stream = self.stream(stream)?;
            let (durable, filter) = (durable.to_owned(), filter_subject.unwrap_or_default().to_owned());
            let queue = reading::off_runtime(move || stream.attach(&durable, &filter)).await?;
            Ok(Box::new(LocalQueue::new(queue, ack_wait)) as Box<dyn WorkQueue>)
        }
        .boxed()
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<PublishAck, BusError>> {
        async move { self.queue(message).await.stored().await }.boxed()
    }

    fn publish_many<'a>(
        &'a self,
        messages: BoxStream<'a, Outgoing>,
        in_flight: usize,
    ) -> BoxStream<'a, Result<PublishAck, BusError>> {
        let queued = messages.then(move |message| self.queue(message));
        queued.map(Queued::stored).buffered(in_flight.max(1)).boxed()
    }

    fn max_payload_bytes(&self) -> usize {
        DEFAULT_MAX_MESSAGE_BYTES as usize
    }

    fn ensure_stream<'a>(&'a self, spec: &'a StreamSpec) -> BoxFuture<'a, Result<(), BusError>> {
        let (backend, spec) = (self.clone(), spec.clone());
        async move { reading::off_runtime(move || backend.ensure(&spec)).await }.boxed()
    }
}

#[cfg(test)]
mod tests;
