//! Billing's events that came before their records: looked up again until a record exists, and forgotten after
//! `consumers.billing_kept_days`.
//!
//! The list is walked in pages, a bounded number at a time, and the next round goes on where the last one ended. Where
//! the walk is does not matter, so it is kept in memory.

use super::EndsTerm;
use crate::proposer::{ProposalError, Proposer};
use cdr_core::command::{Command, Reconcile, Rejection, Reply};
use cdr_core::receipt::Known;
use cdr_core::{Hour, Uuid};
use cdr_storage::StoreError;
use std::time::Duration;

/// Events that are processed by one command, at most.
const PAGE: usize = 1_000;
/// Pages of a round, at most.
const ROUND_PAGES: usize = 50;
/// Pause between rounds.
const EVERY: Duration = Duration::from_secs(15);

/// Why reconciliation stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The list can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log refused to look again.
    #[error("the log refused a reconciliation with billing's events: {0}")]
    Refused(Rejection),
    /// The list was not walked to the end of a page.
    #[error("billing's events without a record can't be read: {0}")]
    Walk(String),
}

impl EndsTerm for ReconcileError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

/// The place of a walk.
type Place = Option<(Hour, Uuid)>;

/// Matches events with records that came later, in rounds.
///
/// # Errors
/// [`ReconcileError`].
pub async fn run(proposer: &Proposer, kept_hours: u32) -> Result<(), ReconcileError> {
    let mut after = None;
    loop {
        after = round(proposer, kept_hours, after).await?;
        tokio::time::sleep(EVERY).await;
    }
}

/// Goes on behind `after` for some pages; where the next round goes on.
async fn round(proposer: &Proposer, kept_hours: u32, mut after: Place) -> Result<Place, ReconcileError> {
    let mut matched = 0;
    for _ in 0..ROUND_PAGES {
        let now = proposer.clock().now().max(proposer.state().head.last_recorded_at);
        let forget_before = Hour(now.hour().0.saturating_sub(kept_hours));
        let own = proposer.clone();
        let looked = tokio::task::spawn_blocking(move || page(&own, after, forget_before));
        let page = looked.await.map_err(|e| ReconcileError::Walk(e.to_string()))??;
        if page.forgets || !page.look_again.is_empty() {
            matched += page.look_again.len();
            let (bills, look_again) = (Vec::new(), page.look_again);
            let reconcile = Reconcile { forget_before, bills, look_again };
            match proposer.propose(Command::Reconcile(reconcile)).await? {
                Reply::Reconciled => {}
                Reply::Rejected(rejection) => return Err(ReconcileError::Refused(rejection)),
                other => return Err(ReconcileError::Walk(format!("unexpected reply {other:?}"))),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if matched > 0 {
        tracing::info!(matched, "billing's events found their records");
    }
    Ok(after)
}

/// What a page of the list needs.
struct Page {
    /// Messages that have a record by now.
    look_again: Vec<Uuid>,
    /// True if an event is too old to be kept.
    forgets: bool,
    /// The place behind the page, unless it is the last.
    next: Place,
}

fn page(proposer: &Proposer, after: Place, forget_before: Hour) -> Result<Page, ReconcileError> {
    let store = proposer.store();
    let waiting = store.unmatched_bills(after, PAGE)?;
    let forgets = waiting.first().is_some_and(|(hour, _)| *hour < forget_before);
    let next = waiting.last().copied().filter(|_| waiting.len() == PAGE);
    let ids: Vec<Uuid> = waiting.into_iter().map(|(_, id)| id).collect();
    let known = store.known_messages(&ids)?;
    let look_again =
        ids.into_iter().zip(known).filter(|(_, known)| *known != Known::Nothing).map(|(id, _)| id).collect();
    Ok(Page { look_again, forgets, next })
}

#[cfg(test)]
mod tests;
