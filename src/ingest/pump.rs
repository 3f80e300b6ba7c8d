//! The pump: one task reads and projects, the other keeps several proposals in flight and acknowledges what
//! is committed. Order is kept because proposals are started in stream order and the log refuses any batch
//! that does not continue the position.

use super::batch::{Batch, Batcher};
use super::dead_letter::{dead_letter_names, inbound_limit_bytes, place, put_away};
use super::epoch::{Connection, connect, created};
use super::halt::{self, Beyond, Halt};
use super::late::LateError;
use super::projection::Projector;
use super::tail::{LastNamed, gone_upto, patience};
use crate::metrics::Metrics;
use crate::pricing::Pricing;
use crate::proposer::{ProposalError, Proposer};
use cdr_bus::{AckHandle, Acker, Bus, BusError, StreamSpec, Subscription};
use cdr_core::command::{Command, DraftsBuffer, Rejection, Reply};
use cdr_core::row::SystemKind;
use cdr_core::state::{LedgerState, StreamRecord};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How an inbound stream is read.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Subject of the receipts.
    pub subject: String,
    /// Stream that holds them.
    pub stream: String,
    /// Durable name of the consumer.
    pub durable: String,
    /// Most messages in one proposal.
    pub batch_max: usize,
    /// Most proposals in flight.
    pub in_flight: usize,
    /// Copies of the streams in a clustered bus.
    pub replicas: usize,
}

/// Inbound streams keep messages at least this long.
const INBOUND_MAX_AGE: Duration = Duration::from_secs(8 * 24 * 3600);
/// How long dead letters are kept for somebody to look at them.
const DEAD_LETTER_MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);
/// How long the dead letter of a repeated attempt is recognised as a duplicate.
const DEDUP_WINDOW: Duration = Duration::from_secs(300);

/// How often the end of the stream is checked while messages arrive.
const LOOK_AT_END_EVERY: Duration = Duration::from_secs(5);

/// Why ingest stopped; the caller restarts it unless the term is over.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A proposal failed, or its outcome is unknown.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The log refused a batch.
    #[error("the log refused a batch: {0}")]
    Refused(Rejection),
    /// The ledger's settlement zone can't be used.
    #[error(
        "the ledger's settlement zone {zone:?} is unknown here: {source}; install the time zone database"
    )]
    Zone {
        /// Its name; empty before the ledger has begun.
        zone: String,
        /// What is wrong with it.
        source: jiff::Error,
    },
    /// A batch could not be proposed for so long that its messages must be compared with the horizon again.
    #[error("a batch waited for over half an hour to be proposed; its messages are read again")]
    Stale,
    /// DLRs could not be compared with the ledger.
    #[error(transparent)]
    Late(#[from] LateError),
    /// The bus has acknowledgements for messages that the ledger does not have.
    #[error(
        "SEV1: {reason}. Nothing is ingested until a person confirms that: then remove the file {path}, while this replica leads"
    )]
    Beyond {
        /// What is lost.
        reason: String,
        /// The file whose removal confirms.
        path: std::path::PathBuf,
    },
    /// Something could not be encoded.
    #[error("a batch can't be made: {0}")]
    Batch(String),
}

/// Reads one inbound stream into the log.
#[derive(Clone)]
pub struct Ingest {
    /// How it is read.
    pub settings: IngestSettings,
    /// Where it is read from.
    pub bus: Arc<dyn Bus>,
    /// What prices records.
    pub pricing: Arc<dyn Pricing>,
    /// What counts.
    pub metrics: Arc<Metrics>,
    /// Where the stream ended when the bus was last queried.
    pub last_named: LastNamed,
    /// What stops it until a person decides.
    pub halt: Halt,
}

impl Ingest {
    /// Creates the inbound stream and its dead letters where they are missing.
    ///
    /// # Errors
    /// [`BusError`], among them a stream that could lose messages.
    pub async fn ensure_streams(&self) -> Result<(), BusError> {
        let settings = &self.settings;
        let (dead_subject, dead_stream) = dead_letter_names(&settings.subject, &settings.stream);
        let limit = inbound_limit_bytes(self.bus.max_payload_bytes());
        let spec = |name: &str, subject: &str, max_age, max_message_bytes| StreamSpec {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            max_age,
            replicas: settings.replicas,
            dedup_window: DEDUP_WINDOW,
            max_message_bytes,
        };
        let inbound = spec(&settings.stream, &settings.subject, INBOUND_MAX_AGE, Some(limit));
        self.bus.ensure_stream(&inbound).await?;
        self.bus.ensure_stream(&spec(&dead_stream, &dead_subject, DEAD_LETTER_MAX_AGE, None)).await
    }

    /// Runs until something fails or the term is over.
    ///
    /// # Errors
    /// [`IngestError`]; a restart continues exactly behind the replicated position.
    pub async fn run(&self, proposer: &Proposer) -> Result<(), IngestError> {
        self.ensure_streams().await?;
        let (epoch, position, subscription) = self.connect(proposer).await?;
        self.metrics.dependency("bus", Ok(()));
        tracing::info!(stream = epoch, position, "reading the inbound stream");
        let acker = subscription.acker();
        let (batches, received) = mpsc::channel(self.settings.in_flight);
        let batcher = Batcher::new(
            epoch.clone(),
            self.settings.subject.clone(),
            position,
            self.projector(&proposer.state())?,
            proposer.clock().clone(),
            self.settings.batch_max,
        );
        let (ingest, proposer_of_reader) = (self.clone(), proposer.clone());
        let reader = Reader {
            ingest,
            proposer: proposer_of_reader,
            epoch: epoch.clone(),
            created: proposer.state().latest_epoch(&self.settings.stream).map(|e| e.created.clone()),
            subscription,
            batcher,
            looked_at_end: Instant::now(),
        };
        let reading = AbortOnDrop(tokio::spawn(reader.run(batches)));
        let outcome = self.propose_all(proposer, &epoch, received, acker).await;
        match outcome {
            Ok(()) => reading.finish().await,
            Err(error) => Err(error),
        }
    }

    /// Local times are those of the replicated zone: every leader must write the same.
    fn projector(&self, state: &LedgerState) -> Result<Projector, IngestError> {
        let zone = state.cluster.as_ref().map(|cluster| cluster.zone.clone()).unwrap_or_default();
        Projector::new(&zone, self.pricing.clone()).map_err(|source| IngestError::Zone { zone, source })
    }

    /// The epoch and position to read on from, and the consumer; records a new epoch where one is needed.
    async fn connect(
        &self,
        proposer: &Proposer,
    ) -> Result<(String, u64, Box<dyn Subscription>), IngestError> {
        let IngestSettings { stream, durable, .. } = &self.settings;
        let mut accepted: Option<Beyond> = None;
        loop {
            match connect(&*self.bus, stream, durable, &proposer.state(), accepted.as_ref()).await? {
                Connection::Beyond(beyond) => {
                    if !self.halt.is_confirmed(&beyond).map_err(|error| self.not_asked(&error))? {
                        let path = self.halt.path().to_owned();
                        return Err(IngestError::Beyond { reason: halt::text(&beyond), path });
                    }
                    // Recorded before the consumer is recreated: its floor is gone then.
                    halt::record(proposer, &beyond).await?;
                    tracing::warn!(reason = halt::text(&beyond), "ingest goes on: a person has confirmed it");
                    accepted = Some(beyond);
                }
                Connection::Reading { epoch, position, last_sequence, subscription } => {
                    self.last_named.note(&epoch, last_sequence);
                    self.halt.lower();
                    return Ok((epoch, position, subscription));
                }
                Connection::Open { record, is_loss } => {
                    self.close_epoch(proposer).await?;
                    self.report_epoch(&record, is_loss);
                    record_epoch(proposer, &record).await?;
                }
            }
        }
    }

    fn not_asked(&self, error: &std::io::Error) -> IngestError {
        let path = self.halt.path().display();
        IngestError::Batch(format!("a lost position can't be reported in {path}: {error}"))
    }

    /// Counts as missing what the epoch that ends is known to have held and was never read.
    async fn close_epoch(&self, proposer: &Proposer) -> Result<(), IngestError> {
        let state = proposer.state();
        let Some(known) = state.latest_epoch(&self.settings.stream) else { return Ok(()) };
        let (first, last) = (known.position + 1, self.last_named.of(&known.name));
        if last < first {
            return Ok(());
        }
        report_missing(&known.name, first, last);
        let (drafts, missing) = (DraftsBuffer::default(), last - known.position);
        let command = Command::Ingest(cdr_core::command::Ingest {
            stream: &known.name,
            first,
            last,
            last_digest: [0; 32],
            ignored: 0,
            dead_lettered: 0,
            missing,
            drafts: drafts.drafts(),
        });
        self.settle(proposer.propose(command).await?)?;
        self.metrics.batch_read(0, 0, missing);
        Ok(())
    }

    fn report_epoch(&self, record: &StreamRecord, is_loss: bool) {
        if is_loss {
            self.metrics.stream_lost(&self.settings.stream);
            tracing::error!(
                severity = "SEV1",
                stream = record.stream,
                reason = record.reason,
                "the inbound stream was lost or rewound: a new epoch begins, every message is read again"
            );
        } else {
            tracing::info!(stream = record.stream, "first connection to the inbound stream");
        }
    }

    async fn propose_all(
        &self,
        proposer: &Proposer,
        epoch: &str,
        mut batches: mpsc::Receiver<Batch>,
        acker: Arc<dyn Acker>,
    ) -> Result<(), IngestError> {
        let (acks, to_acknowledge) = mpsc::channel(self.settings.in_flight * 2);
        let _acknowledging = AbortOnDrop(tokio::spawn(acknowledge(acker, to_acknowledge)));
        let mut in_flight = FuturesOrdered::new();
        let mut open = true;
        while open || !in_flight.is_empty() {
            tokio::select! {
                biased;
                Some(outcome) = in_flight.next(), if !in_flight.is_empty() => {
                    let outcome: Outcome = outcome;
                    self.settle(outcome.reply?)?;
                    self.metrics.committed("ingest", outcome.proposed.elapsed());
                    self.metrics.append_latency(proposer.clock().now().0 - outcome.oldest_stored_ms);
                    // A full channel only delays the bus's own bookkeeping.
                    let _ = acks.send(outcome.handles).await;
                }
                batch = batches.recv(), if open && in_flight.len() < self.settings.in_flight => match batch {
                    Some(batch) => in_flight.push_back(self.start(proposer, epoch, batch).await?),
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    /// Starts a proposal; it is on its way, in order, when this returns.
    async fn start(
        &self,
        proposer: &Proposer,
        epoch: &str,
        mut batch: Batch,
    ) -> Result<impl Future<Output = Outcome> + use<>, IngestError> {
        let clock = proposer.clock();
        if let Some(at) = batch.latest_event {
            clock.observe(at);
        }
        // A clock that follows events does not advance while a batch waits.
        if !clock.follows_events() && batch.is_stale(clock.now()) {
            return Err(IngestError::Stale);
        }
        let handles = std::mem::take(&mut batch.acks);
        let proposal = proposer.start(batch.command(epoch)).await?;
        self.metrics.batch_read(handles.len() as u64, batch.ignored(), batch.missing());
        for (_, reason) in &batch.dead_letters {
            self.metrics.dead_letter(&reason.to_string());
        }
        let (proposed, oldest_stored_ms) = (Instant::now(), batch.oldest_stored_ms);
        Ok(async move { Outcome { handles, oldest_stored_ms, proposed, reply: proposal.await } })
    }

    fn settle(&self, reply: Reply) -> Result<(), IngestError> {
        match reply {
            Reply::Ingested(ingested) => {
                self.metrics.ingested(ingested.appended, ingested.duplicate);
                Ok(())
            }
            Reply::Rejected(rejection) => Err(IngestError::Refused(rejection)),
            other => Err(IngestError::Batch(format!("unexpected reply {other:?}"))),
        }
    }
}

/// Logs which messages were deleted unread.
fn report_missing(stream: &str, first: u64, last: u64) {
    tracing::error!(
        severity = "SEV1",
        stream,
        first,
        last,
        "messages were deleted from the inbound stream before they were read: they count as missing; raise the stream's \
         limits, and have the DLRs sent again"
    );
}

/// A batch whose proposal has ended.
struct Outcome {
    handles: Vec<AckHandle>,
    oldest_stored_ms: i64,
    proposed: Instant,
    reply: Result<Reply, ProposalError>,
}

/// Reads, projects, and publishes dead letters before the batch that counts them is proposed.
struct Reader {
    ingest: Ingest,
    proposer: Proposer,
    epoch: String,
    /// When the epoch's stream was created, by the bus.
    created: Option<String>,
    subscription: Box<dyn Subscription>,
    batcher: Batcher,
    looked_at_end: Instant,
}

impl Reader {
    async fn run(mut self, batches: mpsc::Sender<Batch>) -> Result<(), IngestError> {
        let max = self.ingest.settings.batch_max;
        loop {
            let deliveries = self.subscription.next_batch(max, self.patience()).await?;
            if deliveries.is_empty() || self.looked_at_end.elapsed() >= LOOK_AT_END_EVERY {
                let gone = self.look_at_end(deliveries.is_empty()).await?;
                self.hand_over(gone, &batches).await?;
            }
            let state = self.proposer.state();
            for delivery in &deliveries {
                let closed = self.batcher.add(delivery, &state).map_err(IngestError::Batch)?;
                self.hand_over(closed, &batches).await?;
                if self.batcher.is_full() {
                    let full = self.batcher.take();
                    self.hand_over(full, &batches).await?;
                }
            }
            let rest = self.batcher.take();
            self.hand_over(rest, &batches).await?;
        }
    }

    /// How long to wait for a message before the end of the stream is checked. Hours that events close are not timed.
    fn patience(&self) -> Duration {
        let (clock, end) = (self.proposer.clock(), self.proposer.state().head.open_hour.end());
        patience(if clock.follows_events() { i64::MAX } else { end.0 - clock.now().0 })
    }

    /// Queries the bus for the end of the stream. If nothing arrived for a while though the stream went further then, what is
    /// missing there was deleted unread: a batch that counts it.
    async fn look_at_end(&mut self, nothing_came: bool) -> Result<Option<Batch>, IngestError> {
        self.looked_at_end = Instant::now();
        let (bus, stream) = (&*self.ingest.bus, &self.ingest.settings.stream);
        let info = match bus.stream_info(stream).await {
            // What is in flight does not concern the stream's end: it is checked again soon.
            Err(error) if error.is_transient() => return Ok(None),
            answer => answer?,
        };
        if self.created.as_ref() != Some(&created(&info)) {
            // Another stream of this name: the subscription ends, and the next connect notices it.
            return Ok(None);
        }
        let (position, last) = (self.batcher.position(), self.ingest.last_named.of(&self.epoch));
        self.ingest.last_named.note(&self.epoch, info.last_sequence);
        if !nothing_came || last <= position {
            return Ok(None);
        }
        let gone = gone_upto(bus, stream, (position, last), info.first_sequence).await?;
        if gone <= position {
            return Ok(None);
        }
        report_missing(&self.epoch, position + 1, gone);
        Ok(self.batcher.end_at(gone))
    }

    /// Publishes a batch's dead letters, makes late DLRs into corrections, then passes the batch on to be proposed.
    async fn hand_over(
        &self,
        batch: Option<Batch>,
        batches: &mpsc::Sender<Batch>,
    ) -> Result<(), IngestError> {
        let Some(mut batch) = batch else { return Ok(()) };
        for (letter, reason) in &batch.dead_letters {
            let (stream, sequence) = place(letter);
            let subject = &letter.subject;
            tracing::info!(stream, sequence, subject, %reason, "message dead-lettered");
            put_away(&*self.ingest.bus, letter).await?;
        }
        let (store, epoch) = (self.proposer.store().clone(), self.epoch.clone());
        let correcting = tokio::task::spawn_blocking(move || batch.correct(&store, &epoch).map(|()| batch));
        let batch = correcting.await.map_err(|e| IngestError::Batch(e.to_string()))??;
        // The other half is gone only when the whole pump is.
        let _ = batches.send(batch).await;
        Ok(())
    }
}

/// Acknowledges committed batches to the bus, one after another. A failure costs only a redelivery that the
/// next consumer skips.
async fn acknowledge(
    acker: Arc<dyn Acker>,
    mut batches: mpsc::Receiver<Vec<AckHandle>>,
) -> Result<(), IngestError> {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = acker.ack(&batch).await {
            tracing::warn!(%error, "committed messages could not be acknowledged");
        }
    }
    Ok(())
}

async fn record_epoch(proposer: &Proposer, record: &StreamRecord) -> Result<(), IngestError> {
    let row = (SystemKind::Stream, cdr_core::canonical::to_jcs(record));
    match proposer.append_rows("ingest", vec![row]).await? {
        Reply::Rejected(rejection) => Err(IngestError::Refused(rejection)),
        _ => Ok(()),
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<Result<(), IngestError>>);

impl AbortOnDrop {
    async fn finish(mut self) -> Result<(), IngestError> {
        (&mut self.0).await.unwrap_or_else(|e| Err(IngestError::Batch(e.to_string())))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
