//! Publishes every event of the outbox, in order, and moves the replicated cursor behind what the bus has stored.
//!
//! | part | does |
//! |---|---|
//! | [`reader`] | reads events, signs them by batches, chains the messages of a stream; on a blocking thread, a few batches ahead |
//! | [`pace`] | slows down for a loaded ingest |
//! | [`progress`] | knows what is on its way, and up to where all is stored |
//! | [`resume`] | decides from what the streams hold where to go on |
//!
//! Messages are sent one behind another without waiting for each. After the first failure everything on its way is
//! given up: the streams are read, and publishing goes on with the first event that they lack. The cursor only
//! spares reading from the beginning; a lost or late one costs nothing.

mod pace;
mod progress;
mod reader;
mod resume;

use crate::events::NumberHash;
use crate::events::signature::SignError;
use crate::events::signing_key::SigningKey;
use crate::events::streams::stream_specs;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxError};
use crate::proposer::{ProposalError, Proposer};
use cdr_bus::{Bus, BusError};
use cdr_core::command::{Command, OutboxPlace};
use futures::StreamExt;
use pace::Pace;
use progress::{Progress, Sending, look};
use reader::Reader;
use resume::Plan;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How often the cursor is moved at most.
const CURSOR_PERIOD: Duration = Duration::from_millis(250);
/// Confirmations that are processed in one go.
const HEARD_AT_ONCE: usize = 256;
/// Batches that are read ahead.
const AHEAD: usize = 4;
/// Pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the cursor is moved while nothing is published.
const PASSING_PERIOD: Duration = Duration::from_secs(10);
/// Entries that are skipped in one read.
const PASSED_AT_ONCE: usize = 4_096;

/// Publishes events.
#[derive(Clone)]
pub struct Relay {
    /// Where to.
    pub bus: Arc<dyn Bus>,
    /// Signs them.
    pub key: Arc<SigningKey>,
    /// Most events under one signature.
    pub batch: usize,
    /// Most events sent and not yet confirmed.
    pub in_flight: usize,
    /// Copies that the bus keeps.
    pub replicas: usize,
    /// How events name numbers.
    pub numbers: NumberHash,
    /// What counts.
    pub metrics: Arc<Metrics>,
    /// Held by whatever still reads the store or writes to the bus.
    pub running: Arc<()>,
}

/// Why publishing was interrupted.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("no stream carries {subject}: name it in the list of streams")]
    NoStream { subject: &'static str },
    #[error("the reader of the outbox stopped: {why}")]
    Reader { why: String },
}

/// Publishes in the name of `proposer`'s term; without a `relay`, events are skipped.
///
/// # Errors
/// [`ProposalError::Deposed`] at the end of the term.
pub async fn run(relay: Option<&Relay>, proposer: &Proposer) -> Result<(), ProposalError> {
    let Some(relay) = relay else { return pass_over(proposer).await };
    let (reached, seen) = watch::channel(OutboxPlace::default());
    let publishing = relay.clone().publish(proposer.clone(), reached);
    // On a task of its own, so that it does not alternate with ingest.
    let mut publishing = AbortOnDrop(tokio::spawn(publishing));
    tokio::select! {
        moved = move_cursor(proposer, seen) => moved,
        _ = &mut publishing.0 => Ok(()),
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Proposes the cursor repeatedly until the term is over.
async fn move_cursor(
    proposer: &Proposer,
    mut seen: watch::Receiver<OutboxPlace>,
) -> Result<(), ProposalError> {
    let mut proposed = OutboxPlace::default();
    loop {
        let place = *seen.borrow_and_update();
        if place > proposed {
            match proposer.propose(Command::Published(place)).await {
                Ok(_) => proposed = place,
                Err(error @ ProposalError::Deposed { .. }) => return Err(error),
                Err(error) => tracing::debug!(%error, "the cursor of published events can't be moved yet"),
            }
        } else if seen.changed().await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(CURSOR_PERIOD).await;
    }
}

/// Moves the cursor without publishing, so that the outbox does not grow.
async fn pass_over(proposer: &Proposer) -> Result<(), ProposalError> {
    loop {
        let mut place = proposer.state().head.published;
        while let Ok(Some(last)) =
            proposer.store().outbox(place.index, PASSED_AT_ONCE).map(|entries| entries.last().copied())
        {
            place = OutboxPlace { index: last.index + 1, events: 0 };
        }
        if place > proposer.state().head.published {
            proposer.propose(Command::Published(place)).await?;
        }
        tokio::time::sleep(PASSING_PERIOD).await;
    }
}

impl Relay {
    /// Publishes for ever; after a failure it goes on behind what the streams hold.
    async fn publish(self, proposer: Proposer, reached: watch::Sender<OutboxPlace>) {
        let progress = Progress::new(reached, self.metrics.clone(), proposer.clock().clone());
        let mut pause = FIRST_PAUSE;
        loop {
            let before = *look(&progress).reached.borrow();
            let Err(error) = self.publish_until_failure(&proposer, &progress).await else { continue };
            if *look(&progress).reached.borrow() > before {
                pause = FIRST_PAUSE;
            }
            if pause == FIRST_PAUSE || pause == LONGEST_PAUSE {
                tracing::warn!(%error, "events can't be published for now; they wait in the outbox");
            }
            self.metrics.dependency("events", Err(error.to_string()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn publish_until_failure(
        &self,
        proposer: &Proposer,
        progress: &Arc<Mutex<Progress>>,
    ) -> Result<(), RelayError> {
        let state = proposer.state();
        let (Some(outbox), Some(cluster)) = (Outbox::new(proposer.store(), &self.numbers), &state.cluster)
        else {
            tokio::time::sleep(CURSOR_PERIOD).await;
            return Ok(());
        };
        for spec in stream_specs(self.replicas) {
            self.bus.ensure_stream(&spec).await?;
        }
        let stored = resume::last_events(&*self.bus, outbox.ids()).await?;
        let plan = {
            let mut progress = look(progress);
            progress.restart();
            let published = state.head.published.max(*progress.reached.borrow());
            Plan::new(published, stored, &progress.confirmed, progress.unchained)
        };
        self.metrics.dependency("events", Ok(()));
        tracing::info!(
            index = plan.start.index,
            events = plan.start.events,
            "publishing events from here on"
        );
        let (out, chunks) = mpsc::channel(AHEAD);
        let sending = Sending::new(chunks, progress.clone());
        let rows_of = proposer.clone();
        let reader = Reader {
            outbox,
            chain: plan.chain.map(|id| id.map(|id| id.to_string())),
            plan,
            key: self.key.clone(),
            cluster_id: cluster.cluster_id.clone(),
            clock: proposer.clock().clone(),
            batch: self.batch,
            pace: Pace::new(move || rows_of.state().head.row_count),
            out,
            _running: self.running.clone(),
        };
        let reader = tokio::task::spawn_blocking(move || reader.run());
        let messages = futures::stream::unfold(sending, Sending::next).boxed();
        let mut results = self.bus.publish_many(messages, self.in_flight).ready_chunks(HEARD_AT_ONCE);
        while let Some(results) = results.next().await {
            look(progress).hear(results)?;
        }
        reader.await.map_err(|error| RelayError::Reader { why: error.to_string() })?
    }
}
