//! Late pricing: records that were written without a price get it by a CORRECTION once a price list has it
//! (US-CDR-001).
//!
//! The list of such rows is walked in pages, a bounded number at a time, and the next round goes on where the last one
//! ended: rows that no list will ever price don't starve those behind them. Where the walk is does not
//! consequence, so it lives in memory; what is still to be done is in the store.

use super::rating::{Cause, Charge, LATE, charged, pricing_ticket};
use super::{EndsTerm, RETRY_PAUSE};
use crate::names::PRICE_ISSUER;
use crate::pricing::{PriceBook, PriceQuery, Pricing};
use crate::proposer::{ProposalError, Proposer};
use cdr_core::adjust::is_unpriced;
use cdr_core::command::{Append, Command, DraftsBuffer, Rejection, Reply, Source};
use cdr_core::row::AdjustmentType;
use cdr_storage::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Rows that are processed by one command, at most.
const PAGE_ROWS: usize = 400;
/// Pages of a round, at most.
const ROUND_PAGES: usize = 50;

/// Why late pricing stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum RepriceError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows can't be made.
    #[error("late prices can't be written: {0}")]
    Rows(String),
    /// The log refused the corrections.
    #[error("the log refused late prices: {0}")]
    Refused(Rejection),
}

impl EndsTerm for RepriceError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

/// Prices what has a price by now, in rounds.
///
/// # Errors
/// [`RepriceError`].
pub async fn run(
    proposer: &Proposer,
    pricing: &Arc<dyn Pricing>,
    every: Duration,
) -> Result<(), RepriceError> {
    let mut from = 0;
    loop {
        from = round(proposer, pricing, from, ROUND_PAGES).await?;
        tokio::time::sleep(every).await;
    }
}

/// Goes on from ordinal `from` for at most `pages` pages; where the next round goes on.
async fn round(
    proposer: &Proposer,
    pricing: &Arc<dyn Pricing>,
    mut from: u64,
    pages: usize,
) -> Result<u64, RepriceError> {
    let mut corrected = 0;
    for _ in 0..pages {
        let (own, book) = (proposer.clone(), pricing.book());
        let made = tokio::task::spawn_blocking(move || page(&own, &book, from, PAGE_ROWS));
        let page = made.await.map_err(|e| RepriceError::Rows(e.to_string()))??;
        if !page.drafts.is_empty() {
            let append = Append { source: Source::Internal, drafts: page.drafts.drafts() };
            match proposer.propose(Command::Append(append)).await? {
                Reply::Appended { .. } => corrected += page.drafts.len(),
                // Another writer adjusted one of them meanwhile: read again.
                Reply::Rejected(
                    Rejection::Superseded { .. }
                    | Rejection::AlreadyVoided { .. }
                    | Rejection::UnknownRecord { .. },
                ) => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
                Reply::Rejected(rejection) => return Err(RepriceError::Refused(rejection)),
                other => return Err(RepriceError::Rows(format!("unexpected reply {other:?}"))),
            }
        }
        from = page.next.unwrap_or(0);
        if from == 0 {
            break;
        }
    }
    if corrected > 0 {
        tracing::info!(corrected, "records got their late prices");
    }
    Ok(from)
}

/// Corrections of a page, and the ordinal behind it unless it is the last.
struct Page {
    drafts: DraftsBuffer,
    next: Option<u64>,
}

fn page(proposer: &Proposer, book: &PriceBook, from: u64, limit: usize) -> Result<Page, RepriceError> {
    let store = proposer.store();
    let waiting = store.unpriced(from, limit)?;
    let next = (waiting.len() == limit).then(|| waiting.last().map(|(ordinal, _)| ordinal + 1)).flatten();
    let mut drafts = DraftsBuffer::default();
    for (ordinal, _) in waiting {
        correct(proposer, store, book, ordinal, &mut drafts)?;
    }
    Ok(Page { drafts, next })
}

fn correct(
    proposer: &Proposer,
    store: &Store,
    book: &PriceBook,
    ordinal: u64,
    drafts: &mut DraftsBuffer,
) -> Result<(), RepriceError> {
    let unmade = |e: String| RepriceError::Rows(e);
    let rows = store.rows(ordinal..ordinal + 1)?;
    let Some(stored) = rows.first() else { return Ok(()) };
    let effective = stored.row()?;
    let Some(before) = effective.sms().filter(|sms| is_unpriced(sms)) else { return Ok(()) };
    let query = PriceQuery::of(effective.frame.operator_id, before);
    let Some(price) = book.price(&query) else { return Ok(()) };
    let charge = Charge::of(&price);
    let ticket = pricing_ticket(charge.tariff_version);
    let cause = Cause {
        kind: AdjustmentType::Correction,
        reason: Some(LATE),
        ticket_id: &ticket,
        issued_by: PRICE_ISSUER,
        approver: None,
        trace_id: effective.frame.trace_id,
    };
    let drawn = proposer.draw().map_err(|e| unmade(e.to_string()))?;
    drafts.push(0, &charged(&effective, before, &charge, &cause, drawn)).map_err(|e| unmade(e.to_string()))
}

#[cfg(test)]
mod tests;
