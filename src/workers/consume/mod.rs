//! Messages of the other services, as work that the leader does: one loop, and one file for each subject.
//!
//! A message is acknowledged once its rows are committed, and may come twice: what a handler proposes, the log takes
//! once. A message that can't be read is dead-lettered at once. One whose *processing* failed is retried,
//! five times in all, then dead-lettered too. One whose time has not come is deferred, which is not an attempt. Failures of bus, log or store say nothing about a message and never count;
//! attempts are counted in the leader's memory, so a failover starts over.

mod attempts;
mod billing;
mod compliance;
mod fields;
mod fraud;
mod inbound;
mod operators;
mod priced;
mod status;
mod work;

#[cfg(test)]
mod tests;

use super::EndsTerm;
use crate::dlr::Reason;
use crate::ingest::{dead_letter, dead_letter_names, inbound_limit_bytes, put_away};
use crate::metrics::Metrics;
use crate::pricing::{EntitySource, Pricing};
use crate::proposer::{ProposalError, Proposer};
use attempts::{Attempts, MOST_ATTEMPTS};
use cdr_bus::{Bus, BusError, Delivery, StreamSpec, WorkQueue};
use cdr_core::command::Rejection;
use cdr_storage::StoreError;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use inbound::Inbound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use work::{Work, verdicts};

/// Silence after which the bus delivers a message again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Most messages in one command.
const BATCH: usize = 100;
/// Longest wait for a message.
const IDLE: Duration = Duration::from_secs(5);
/// Messages that are acknowledged at once.
const ACKS_AT_ONCE: usize = 64;
/// When a message comes again that the log could not take.
const NOT_ITS_FAULT: Duration = Duration::from_secs(1);
/// Streams that are made here keep messages at least this long.
const MAX_AGE: Duration = Duration::from_secs(8 * 24 * 3600);
/// How long dead letters are kept for somebody to look at them.
const DEAD_LETTER_MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);
/// Messages of one id are recognised this long.
const DEDUP_WINDOW: Duration = Duration::from_secs(300);

/// Why a consumer stopped; the caller restarts it unless the term is over. No message is to blame.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A proposal failed, or its outcome is unknown.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log takes nothing at present.
    #[error("the log takes no rows: {0}")]
    Refused(Rejection),
    /// Rows can't be made.
    #[error("rows can't be made: {0}")]
    Rows(String),
}

impl EndsTerm for ConsumeError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

/// What a message means for the ledger as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Taken {
    /// Nothing is left to be done.
    Done,
    /// It is of no concern here.
    Ignored,
    /// Its time has not come: it is processed again after this.
    Later(Duration),
    /// The rows, or the event of billing, that were pushed.
    Rows,
    /// It can't be done now: a failed attempt, for this reason.
    Failed(String),
    /// It can never be read.
    Unreadable(Reason),
}

/// What messages of one subject mean.
trait Handler: Send + Sync + 'static {
    /// Looks at what messages depend on, before some are taken.
    fn prepare<'a>(&'a self, _proposer: &'a Proposer) -> BoxFuture<'a, Result<(), ConsumeError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads a message and the store, and pushes the rows that it needs. Called off the runtime; may be called
    /// again for the same message, whether or not its rows were taken.
    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError>;
}

/// A message with its place.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    /// Durable name of the consumer.
    durable: &'a str,
    /// Stream that holds it.
    stream: &'a str,
    /// Sequence there.
    sequence: u64,
    /// The bytes.
    payload: &'a [u8],
}

/// True if a message of `subject` can be read.
#[cfg(test)]
pub(crate) fn reads(subject: &str, payload: &[u8]) -> bool {
    let Ok(fields) = fields::Fields::read(payload) else { return false };
    match subject {
        billing::SUBJECT => billing::read(&fields).is_ok(),
        compliance::SUBJECT => compliance::read(&fields).is_ok(),
        fraud::SUBJECT => fraud::read(&fields).is_ok(),
        operators::SUBJECT => fields.operator_id().is_ok(),
        priced::SUBJECT => priced::read(&fields).is_ok(),
        status::SUBJECT => status::read(payload).is_ok(),
        _ => false,
    }
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Ignored,
    Later(Duration),
    Failed(String),
    Unreadable(Reason),
}

/// One durable consumer of one subject.
pub struct Consumer {
    durable: &'static str,
    subject: &'static str,
    /// Stream that is made if none holds the subject.
    stream: String,
    replicas: usize,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    handler: Arc<dyn Handler>,
    attempts: Mutex<Attempts>,
}

/// The streams of the other services' messages, and how many copies the bus keeps of those made here.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Stream names.
    pub streams: crate::config::Consumers,
    /// Copies.
    pub replicas: usize,
    /// Stream of the receipts.
    pub inbound: String,
    /// How long a receipt may take before a message counts as EXPIRED without one.
    pub expired_wait: Duration,
}

impl ConsumerSettings {
    /// How long billing's events wait for a record, in hours.
    pub fn billing_kept_hours(&self) -> u32 {
        self.streams.billing_kept_days.saturating_mul(24)
    }
}

/// Every consumer, with no attempts counted yet.
pub fn consumers(
    settings: &ConsumerSettings,
    bus: &Arc<dyn Bus>,
    pricing: &Arc<dyn Pricing>,
    entities: &Arc<dyn EntitySource>,
    metrics: &Arc<Metrics>,
) -> Vec<Consumer> {
    let streams = &settings.streams;
    let expired = status::Expired {
        wait: settings.expired_wait,
        inbound: Inbound::new(bus.clone(), settings.inbound.clone()),
        pricing: pricing.clone(),
    };
    let charges = billing::Charges { kept_hours: settings.billing_kept_hours() };
    let parts: [(&str, &str, &String, Arc<dyn Handler>); 6] = [
        (priced::DURABLE, priced::SUBJECT, &streams.pricing_stream, Arc::new(priced::Priced)),
        (fraud::DURABLE, fraud::SUBJECT, &streams.fraud_stream, Arc::new(fraud::Reversal)),
        (
            operators::DURABLE,
            operators::SUBJECT,
            &streams.operator_stream,
            Arc::new(operators::Registry(entities.clone())),
        ),
        (compliance::DURABLE, compliance::SUBJECT, &streams.compliance_stream, Arc::new(compliance::Sink)),
        (billing::DURABLE, billing::SUBJECT, &streams.billing_stream, Arc::new(charges)),
        (status::DURABLE, status::SUBJECT, &streams.status_stream, Arc::new(expired)),
    ];
    parts
        .map(|(durable, subject, stream, handler)| Consumer {
            durable,
            subject,
            stream: stream.clone(),
            replicas: settings.replicas,
            bus: bus.clone(),
            metrics: metrics.clone(),
            handler,
            attempts: Mutex::default(),
        })
        .into()
}

impl Consumer {
    /// Durable name.
    pub fn name(&self) -> &'static str {
        self.durable
    }

    /// Works messages off until something fails or the term is over.
    ///
    /// # Errors
    /// [`ConsumeError`]; what was under way is delivered again.
    pub async fn run(&self, proposer: &Proposer) -> Result<(), ConsumeError> {
        let outcome = self.work(proposer).await;
        if let Err(ConsumeError::Bus(error)) = &outcome {
            tracing::debug!(consumer = self.durable, %error, "the bus failed; pausing before the next attempt");
            tokio::time::sleep(NOT_ITS_FAULT).await;
        }
        outcome
    }

    async fn work(&self, proposer: &Proposer) -> Result<(), ConsumeError> {
        let stream = self.ensure_streams().await?;
        let created_ms = self.bus.stream_info(&stream).await?.created_ms;
        self.attempts().begin(created_ms);
        self.metrics.consumer(self.durable);
        let mut queue = self.bus.attach(&stream, self.durable, Some(self.subject), ACK_WAIT).await?;
        tracing::info!(consumer = self.durable, stream, "taking messages");
        loop {
            let deliveries = queue.next_batch(BATCH, IDLE).await?;
            if deliveries.is_empty() {
                continue;
            }
            let outcome = verdicts(&self.handler, proposer, self.durable, &stream, &deliveries).await;
            let verdicts = match outcome {
                Ok(verdicts) => verdicts,
                Err(error) => {
                    give_back(&*queue, &deliveries).await;
                    return Err(error);
                }
            };
            let settled = futures::stream::iter(deliveries.iter().zip(verdicts)).map(Ok);
            let settle = |(delivery, verdict)| self.settle(&*queue, &stream, delivery, verdict);
            settled.try_for_each_concurrent(ACKS_AT_ONCE, settle).await?;
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the streams that are missing; the name of the one that holds the subject.
    async fn ensure_streams(&self) -> Result<String, BusError> {
        let limit = Some(inbound_limit_bytes(self.bus.max_payload_bytes()));
        let stream = self.ensure_stream(self.subject, &self.stream, MAX_AGE, limit).await?;
        let (dead_subject, dead_stream) = dead_letter_names(self.subject, &stream);
        self.ensure_stream(&dead_subject, &dead_stream, DEAD_LETTER_MAX_AGE, None).await?;
        Ok(stream)
    }

    async fn ensure_stream(
        &self,
        subject: &str,
        name: &str,
        max_age: Duration,
        max_message_bytes: Option<u32>,
    ) -> Result<String, BusError> {
        if let Some(held_by) = self.bus.stream_of(subject).await? {
            return Ok(held_by);
        }
        let spec = StreamSpec {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            max_age,
            replicas: self.replicas,
            dedup_window: DEDUP_WINDOW,
            max_message_bytes,
        };
        self.bus.ensure_stream(&spec).await?;
        Ok(name.to_owned())
    }

    /// Reports to the bus what becomes of a delivery.
    async fn settle(
        &self,
        queue: &dyn WorkQueue,
        stream: &str,
        delivery: &Delivery,
        verdict: Verdict,
    ) -> Result<(), ConsumeError> {
        let (sequence, consumer) = (delivery.sequence, self.durable);
        match verdict {
            Verdict::Done => {
                queue.ack(delivery).await?;
                self.metrics.consumed(consumer, "done");
            }
            Verdict::Ignored => {
                queue.ack(delivery).await?;
                self.metrics.consumed(consumer, "ignored");
            }
            Verdict::Later(pause) => {
                self.metrics.consumed(consumer, "put_off");
                return Ok(queue.retry_later(delivery, pause).await?);
            }
            Verdict::Unreadable(reason) => {
                self.put_away(queue, stream, delivery, &reason.to_string(), &reason.to_string()).await?;
            }
            Verdict::Failed(why) => {
                let failed = self.attempts().failed(sequence);
                tracing::warn!(consumer, stream, sequence, attempt = failed.count, why, "a message failed");
                self.metrics.consumed(consumer, "failed");
                if let Some(pause) = failed.again_after {
                    return Ok(queue.retry_later(delivery, pause).await?);
                }
                let kind = format!("processing failed {MOST_ATTEMPTS} times");
                self.put_away(queue, stream, delivery, &format!("{kind}: {why}"), &kind).await?;
            }
        }
        self.attempts().forget(sequence);
        Ok(())
    }

    /// Dead-letters a message, and acknowledges it.
    async fn put_away(
        &self,
        queue: &dyn WorkQueue,
        stream: &str,
        delivery: &Delivery,
        reason: &str,
        counted_as: &str,
    ) -> Result<(), ConsumeError> {
        let (consumer, sequence) = (self.durable, delivery.sequence);
        tracing::warn!(consumer, stream, sequence, reason, "message dead-lettered");
        let mut letter = dead_letter(delivery, stream, reason);
        // Recreated streams count from 1 again.
        let created_ms = self.attempts().created_ms();
        letter.message_id = Some(format!("{consumer}:{stream}:{created_ms}:{sequence}"));
        put_away(&*self.bus, &letter).await?;
        queue.ack(delivery).await?;
        self.metrics.dead_letter(counted_as);
        self.metrics.consumed(consumer, "dead_letter");
        Ok(())
    }
}

/// Has deliveries redelivered soon, uncounted. If the bus misses that, they are redelivered after its own wait.
async fn give_back(queue: &dyn WorkQueue, deliveries: &[Delivery]) {
    let all = futures::stream::iter(deliveries);
    all.for_each_concurrent(ACKS_AT_ONCE, |delivery| async {
        if let Err(error) = queue.retry_later(delivery, NOT_ITS_FAULT).await {
            tracing::debug!(%error, sequence = delivery.sequence, "the message is redelivered when its acknowledgement times out");
        }
    })
    .await;
}
