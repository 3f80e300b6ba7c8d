//! The way into the log: commands stamped with a term and a time, proposed through Raft.
//!
//! A [`Proposer`] belongs to one term. It refuses to propose while this node's clock is off, and the log
//! refuses it once a newer leader has fenced its term off.

use crate::clock::Clock;
use crate::ids::IdSource;
use bytes::Bytes;
use cdr_core::codec::CodecError;
use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Envelope, Progress, Rejection, Reply, Source,
};
use cdr_core::personal::SystemContent;
use cdr_core::row::{Drawn, SystemKind};
use cdr_core::rules::Rules;
use cdr_core::{LedgerState, Millis};
use cdr_raft::{Node, ProposeError};
use cdr_storage::Store;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

#[cfg(test)]
mod tests;

/// Proposes commands in the name of one term. Clones share it.
#[derive(Clone)]
pub struct Proposer(Arc<Inner>);

struct Inner {
    node: Node,
    store: Store,
    clock: Clock,
    term: u64,
    max_clock_offset_ms: i64,
    clock_is_right: AtomicBool,
    /// When the clock was last known to be right, and what it showed.
    compared: Mutex<(Instant, Millis)>,
    ids: Mutex<IdSource>,
}

/// A command did not get into the log, or that is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// Another leader's term has begun.
    #[error("term {term} is over: another leader has taken over")]
    Deposed {
        /// The term that is over.
        term: u64,
    },
    /// This node's clock is more than a second off the other replicas'.
    #[error("this node's clock is off; nothing is proposed until it is right")]
    ClockIsOff,
    /// The command could not be encoded.
    #[error(transparent)]
    Encode(#[from] CodecError),
    /// Rows of the system's own could not be made.
    #[error("system rows can't be made: {why}")]
    Rows {
        /// What is missing or wrong.
        why: String,
    },
    /// The log took the command and refused it.
    #[error("the log refused the command: {0}")]
    Refused(Rejection),
    /// Raft refused it, or its outcome is unknown.
    #[error(transparent)]
    Raft(#[from] ProposeError),
}

/// Kind of a system row, and its content as [`cdr_core::canonical::to_jcs`] gives it.
pub type SystemRow = (SystemKind, Result<Vec<u8>, String>);

/// System rows that can't be made, and why.
fn unusable(why: impl std::fmt::Display) -> ProposalError {
    ProposalError::Rows { why: why.to_string() }
}

/// A proposal on its way.
pub type Proposal = BoxFuture<'static, Result<Reply, ProposalError>>;

impl Proposer {
    /// A proposer for `term`; its clock counts as right until [`Proposer::set_clock_is_right`] says otherwise, or
    /// until it has been set: moved by more than `max_clock_offset_ms` against the monotonic one.
    pub fn new(node: Node, store: Store, clock: Clock, term: u64, max_clock_offset_ms: i64) -> Self {
        let (clock_is_right, ids) = (AtomicBool::new(true), Mutex::default());
        let compared = Mutex::new((Instant::now(), clock.now()));
        Self(Arc::new(Inner { node, store, clock, term, max_clock_offset_ms, clock_is_right, compared, ids }))
    }

    /// The replicated state as this node has applied it.
    pub fn state(&self) -> Arc<LedgerState> {
        self.0.store.state()
    }

    /// The replicated store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The Raft node.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The clock that stamps proposals.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// The most that this node's clock may be off the median of the replicas', and the most that it may move
    /// between two comparisons, milliseconds.
    pub fn max_clock_offset_ms(&self) -> i64 {
        self.0.max_clock_offset_ms
    }

    /// Says whether this node's clock agrees with the other replicas'.
    pub fn set_clock_is_right(&self, right: bool) {
        if right {
            let now = (Instant::now(), self.0.clock.now());
            *self.0.compared.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        self.0.clock_is_right.store(right, Ordering::Release);
    }

    /// What is random in a new row, and its version: that of the rules in force.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn draw(&self) -> Result<Drawn, getrandom::Error> {
        let mut ids = self.0.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.next(self.0.clock.now(), self.state().schema())
    }

    /// True if the clock was set since it was last compared: until the next comparison it stamps nothing.
    fn clock_jumped(&self) -> bool {
        if self.0.clock.kind() == ClockKind::Replay {
            return false;
        }
        let (at, showed) = *self.0.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.0.clock.now().0 - showed.0;
        (passed - at.elapsed().as_millis() as i64).abs() > self.0.max_clock_offset_ms
    }

    /// Starts a proposal: when this returns, it is on its way, behind every one that was started before.
    ///
    /// # Errors
    /// [`ProposalError`] if it can't be started.
    pub async fn start(&self, command: Command<'_>) -> Result<Proposal, ProposalError> {
        self.start_under(self.rules(), command).await
    }

    /// The rules in force, as far as this node has applied them.
    pub fn rules(&self) -> Rules {
        self.0.store.state().head.rules
    }

    async fn start_under(&self, rules: Rules, command: Command<'_>) -> Result<Proposal, ProposalError> {
        if !self.0.clock_is_right.load(Ordering::Acquire) || self.clock_jumped() {
            return Err(ProposalError::ClockIsOff);
        }
        let term = self.0.term;
        let progress =
            Progress { applied: self.0.store.state().head.applied, acknowledged: self.0.node.acknowledged() };
        let bytes =
            Bytes::from(Envelope { rules, term, now: self.0.clock.now(), progress, command }.encode()?);
        let node = self.0.node.clone();
        let mut proposal: Proposal = Box::pin(async move {
            match node.propose(bytes).await?.reply {
                Reply::Rejected(Rejection::Fenced { .. }) => Err(ProposalError::Deposed { term }),
                reply => Ok(reply),
            }
        });
        // The first poll puts the command into Raft's queue; that fixes the order. A task that has used up its share
        // of time would have to wait before it gets there, and commands started later would overtake it.
        let first = std::future::poll_fn(|context| Poll::Ready(proposal.as_mut().poll(context)));
        match tokio::task::unconstrained(first).await {
            Poll::Ready(outcome) => Ok(Box::pin(std::future::ready(outcome))),
            Poll::Pending => Ok(proposal),
        }
    }

    /// Encodes rows of the system's own, with ids of their own.
    ///
    /// # Errors
    /// [`ProposalError::Rows`], [`ProposalError::Encode`].
    pub fn system_drafts(&self, trace_id: &str, rows: Vec<SystemRow>) -> Result<DraftsBuffer, ProposalError> {
        let mut drafts = DraftsBuffer::default();
        for (kind, body) in rows {
            let body = String::from_utf8(body.map_err(unusable)?).map_err(unusable)?;
            let content = SystemContent::of_text(kind, &body).map_err(unusable)?;
            drafts.push(0, &content.draft(self.draw().map_err(unusable)?, trace_id))?;
        }
        Ok(drafts)
    }

    /// Appends rows of a worker and waits for the reply.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub async fn append_rows(&self, trace_id: &str, rows: Vec<SystemRow>) -> Result<Reply, ProposalError> {
        self.append_under(self.rules(), trace_id, rows).await
    }

    /// Appends the row that brings `rules` into force, and waits for the reply. Only replicas that know them go on.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub async fn raise_rules(&self, rules: Rules, row: SystemRow) -> Result<Reply, ProposalError> {
        self.append_under(rules, "rules", vec![row]).await
    }

    async fn append_under(
        &self,
        rules: Rules,
        trace_id: &str,
        rows: Vec<SystemRow>,
    ) -> Result<Reply, ProposalError> {
        let drafts = self.system_drafts(trace_id, rows)?;
        let append = Append { source: Source::Internal, drafts: drafts.drafts() };
        self.start_under(rules, Command::Append(append)).await?.await
    }

    /// Proposes a command and waits for its reply.
    ///
    /// # Errors
    /// [`ProposalError`].
    pub async fn propose(&self, command: Command<'_>) -> Result<Reply, ProposalError> {
        self.start(command).await?.await
    }
}
