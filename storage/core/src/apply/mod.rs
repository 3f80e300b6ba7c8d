//! The one decision function: what follows from a command.
//!
//! [`apply`] reads the state, asks the view for what it can't know itself, and returns what is to be written.
//! It changes nothing. Its caller writes the [`Transition`] in one atomic step.

mod rows;
mod transition;
mod view;

pub use transition::{Changes, NewRow, Transition};
pub use view::{View, ViewError};

use crate::command::{
    Command, Envelope, Initialize, MOST_BILLS, OutboxPlace, Reconcile, Rejection, Reply, SignSeal, Source,
};
use crate::export::books::Books;
use crate::history;
use crate::row::SYSTEM_OPERATOR;
use crate::rules::Rules;
use crate::seal::verify_signature;
use crate::state::{Cluster, LedgerState};
use crate::time::Millis;
use std::sync::Arc;

/// The most hours that one command may seal: longer outages need a look at the clock first.
pub const MAX_HOURS_AT_ONCE: u32 = 24 * 400;

/// What follows from `envelope`. A refused command leaves everything as it is and answers
/// [`Reply::Rejected`].
///
/// # Errors
/// [`ViewError`] if earlier rows can't be read or the entry is damaged: the caller must stop, because its
/// replica can no longer follow the others.
pub fn apply<'a>(
    state: &LedgerState,
    view: &impl View,
    envelope: &Envelope<'a>,
) -> Result<Transition<'a>, ViewError> {
    let mut step = Step::new(state);
    match step.run(view, envelope).and_then(|reply| step.stays_under(state, envelope.rules).map(|()| reply)) {
        Ok(reply) => {
            step.transition.reply = reply;
            Ok(step.transition)
        }
        Err(Stop::Rejected(rejection)) => {
            let mut unchanged = Step::new(state).transition;
            unchanged.reply = Reply::Rejected(rejection);
            Ok(unchanged)
        }
        Err(Stop::View(error)) => Err(error),
    }
}

/// What follows from the command of a log entry: as [`apply`], and the history goes on.
///
/// Only the leader of a term proposes in it: a command of another term than its entry's was made before its proposer
/// lost leadership and won it again, and is refused even where no fence of the new term precedes it.
///
/// # Errors
/// As [`apply`].
pub fn apply_entry<'a>(
    state: &LedgerState,
    view: &impl View,
    (index, term): (u64, u64),
    envelope: &Envelope<'a>,
) -> Result<Transition<'a>, ViewError> {
    let mut transition = if envelope.term == term {
        apply(state, view, envelope)?
    } else {
        let mut refused = Step::new(state).transition;
        refused.reply = Reply::Rejected(Rejection::Fenced { term: envelope.term, fence: term });
        refused
    };
    let last_row = transition.rows.last().map(|row| &row.row_hash);
    let applied = history::Applied { index, term, reply: &transition.reply, last_row };
    let mark = history::next(state, &transition.state, &applied);
    transition.state.fences = state.fences.clone();
    if matches!(transition.reply, Reply::Fenced { .. }) {
        let fences = Arc::make_mut(&mut transition.state.fences);
        if fences.len() >= history::FENCES_KEPT {
            fences.remove(0);
        }
        fences.push(mark);
        transition.changes.fences = true;
    }
    let head = &mut transition.state.head;
    head.applied = mark;
    head.acknowledged.clone_from(&state.head.acknowledged);
    head.acknowledge(&envelope.progress.acknowledged);
    transition.changes.head = true;
    Ok(transition)
}

/// Why a step ends early.
enum Stop {
    Rejected(Rejection),
    View(ViewError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<ViewError> for Stop {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

impl From<crate::codec::CodecError> for Stop {
    fn from(error: crate::codec::CodecError) -> Self {
        Self::View(error.into())
    }
}

fn illegal(why: impl Into<String>) -> Stop {
    Stop::Rejected(Rejection::Illegal { why: why.into() })
}

/// A transition in the making.
struct Step<'a> {
    transition: Transition<'a>,
    scratch: Vec<u8>,
}

impl<'a> Step<'a> {
    fn new(state: &LedgerState) -> Self {
        Self {
            transition: Transition {
                state: state.clone(),
                changes: Changes::default(),
                closed: Vec::new(),
                rows: Vec::new(),
                subtrees: Vec::new(),
                books: Books::default(),
                signature: None,
                reconcile: None,
                reply: Reply::None,
            },
            scratch: Vec::new(),
        }
    }

    fn run(&mut self, view: &impl View, envelope: &Envelope<'a>) -> Result<Reply, Stop> {
        if envelope.command == Command::Fence {
            return self.fence(envelope.term);
        }
        let fence = self.transition.state.head.fence_term;
        if envelope.term != fence {
            return Err(Rejection::Fenced { term: envelope.term, fence }.into());
        }
        if let Command::Initialize(initialize) = &envelope.command {
            return self.initialize(view, initialize, envelope.now);
        }
        if self.transition.state.cluster.is_none() {
            return Err(Rejection::NotInitialized.into());
        }
        let now = self.transition.state.head.last_recorded_at.max(envelope.now);
        match &envelope.command {
            Command::Ingest(ingest) => self.ingest(view, ingest, now),
            Command::Append(append) => self.append(view, append, now),
            Command::Published(place) => Ok(self.published(*place)),
            Command::Seal => Ok(Reply::Sealed { hours: self.close_until(now)? }),
            Command::SignSeal(sign) => self.sign(view, sign),
            Command::Reconcile(reconcile) => self.reconcile(reconcile),
            Command::Fence | Command::Initialize(_) => Err(illegal("handled above")),
        }
    }

    /// A command needs the rules that are in force before it, or brings into force those that it needs.
    fn stays_under(&self, before: &LedgerState, needed: Rules) -> Result<(), Stop> {
        let (before, after) = (before.head.rules, self.transition.state.head.rules);
        if needed <= before && after == before || needed == after {
            return Ok(());
        }
        Err(illegal(format!("it needs rules version {needed}, and {after} would be in force after {before}")))
    }

    fn fence(&mut self, term: u64) -> Result<Reply, Stop> {
        let head = &mut self.transition.state.head;
        if term < head.fence_term {
            return Err(Rejection::Fenced { term, fence: head.fence_term }.into());
        }
        head.fence_term = term;
        self.transition.changes.head = true;
        Ok(Reply::Fenced { term })
    }

    fn initialize(
        &mut self,
        view: &impl View,
        initialize: &Initialize<'a>,
        now: Millis,
    ) -> Result<Reply, Stop> {
        if let Some(cluster) = &self.transition.state.cluster {
            return Err(Rejection::AlreadyInitialized { cluster_id: cluster.cluster_id.clone() }.into());
        }
        if !crate::id::is_name(initialize.cluster_id) {
            return Err(illegal("the cluster's name must match [A-Za-z0-9_-]{1,16}"));
        }
        let cluster = Cluster {
            cluster_id: initialize.cluster_id.to_owned(),
            generation: 1,
            zone: initialize.zone.to_owned(),
            clock: initialize.clock,
            dedup_horizon_hours: initialize.dedup_horizon_hours,
            hash_key: initialize.hash_key,
        };
        self.transition.state = LedgerState::begin(cluster, self.transition.state.head.fence_term, now);
        self.transition.changes.all = true;
        self.append_rows(view, Source::Internal, initialize.rows.decode()?, now)?;
        Ok(Reply::Initialized)
    }

    /// Closes every hour that ended at or before `now`; returns how many.
    fn close_until(&mut self, now: Millis) -> Result<u32, Stop> {
        let state = &mut self.transition.state;
        let (open, target) = (state.head.open_hour, now.hour());
        let hours = target.0.saturating_sub(open.0);
        if hours > MAX_HOURS_AT_ONCE {
            let (open, now) = (open.to_string(), target.to_string());
            return Err(Rejection::ClockJump { open, now, limit: MAX_HOURS_AT_ONCE }.into());
        }
        for _ in 0..hours {
            let closed = state.close_hour(now)?;
            self.transition.closed.push(closed);
            self.transition.changes.all = true;
        }
        Ok(hours)
    }

    /// What follows from billing's events concerns no row: the storage layer counts it.
    fn reconcile(&mut self, reconcile: &Reconcile<'a>) -> Result<Reply, Stop> {
        if reconcile.bills.len().max(reconcile.look_again.len()) > MOST_BILLS {
            return Err(illegal(format!("more than {MOST_BILLS} events of billing at once")));
        }
        for bill in &reconcile.bills {
            let operator_id = bill.operator_id;
            let registry = &self.transition.state.registry;
            if operator_id == SYSTEM_OPERATOR || registry.iter().all(|known| known.operator_id != operator_id)
            {
                return Err(Rejection::UnknownOperator { operator_id: operator_id.to_owned() }.into());
            }
            if bill.currency.len() != 3 || !bill.currency.bytes().all(|b| b.is_ascii_uppercase()) {
                return Err(illegal("a currency is three capital letters"));
            }
        }
        self.transition.reconcile = Some(reconcile.clone());
        Ok(Reply::Reconciled)
    }

    fn published(&mut self, place: OutboxPlace) -> Reply {
        let head = &mut self.transition.state.head;
        if place > head.published {
            head.published = place;
            self.transition.changes.head = true;
        }
        Reply::Published
    }

    fn sign(&mut self, view: &impl View, sign: &SignSeal) -> Result<Reply, Stop> {
        let state = &mut self.transition.state;
        let refuse = |why: &str| Rejection::Signature { hour: sign.hour.to_string(), why: why.to_owned() };
        if sign.hour < state.head.next_unsigned {
            return Ok(Reply::Signed);
        }
        if sign.hour != state.head.next_unsigned || sign.hour >= state.head.open_hour {
            return Err(refuse("signatures are attached in order, to sealed hours").into());
        }
        let seal_hash = view.seal_hash(sign.hour)?.ok_or_else(|| refuse("there is no seal"))?;
        let key = state.signing_key(sign.hour).ok_or_else(|| refuse("no key covers the hour"))?;
        let public_key = key.public_key().ok_or_else(|| refuse("the key can't be used"))?;
        if !verify_signature(&seal_hash, &sign.signature, &public_key) {
            return Err(refuse("it is not by the key that the seal names").into());
        }
        state.unsigned_from(sign.hour.next());
        self.transition.changes.head = true;
        self.transition.signature = Some(sign.clone());
        Ok(Reply::Signed)
    }
}
