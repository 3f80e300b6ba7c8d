//! Puts records that have waited for a price for too long into quarantine, where they are seen (US-CDR-011).

use super::export::{ExportError, quarantine};
use crate::export::plan::ExportSettings;
use crate::proposer::Proposer;
use cdr_core::export::quarantine::Unfit;
use cdr_core::time::HOUR_MS;
use cdr_core::{LedgerState, Millis};
use cdr_storage::{Store, StoreError, StoredRow};
use std::time::Duration;

/// How often the records without a price are read.
const PAUSE: Duration = Duration::from_secs(60);
/// Records that are read in one go.
const AT_ONCE: usize = 1_000;

/// Looks for such records until the term is over.
///
/// # Errors
/// [`ExportError`].
pub async fn run(settings: &ExportSettings, wait_hours: u32, proposer: &Proposer) -> Result<(), ExportError> {
    loop {
        let mut from = Some(0);
        while let Some(ordinal) = from.filter(|_| !proposer.clock().follows_events()) {
            let before = Millis(proposer.clock().now().0 - i64::from(wait_hours) * HOUR_MS);
            let (own, settings) = (proposer.clone(), settings.clone());
            let looked = move || look(own.store(), &own.state(), &settings, ordinal, before);
            let (unfit, next) = tokio::task::spawn_blocking(looked).await??;
            quarantine(proposer, unfit).await?;
            from = next;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Records from `ordinal` on that have no price since `before`, and where to go on.
fn look(
    store: &Store,
    state: &LedgerState,
    settings: &ExportSettings,
    ordinal: u64,
    before: Millis,
) -> Result<(Vec<Unfit>, Option<u64>), StoreError> {
    let waiting = store.unpriced(ordinal, AT_ONCE)?;
    let next = (waiting.len() == AT_ONCE).then(|| waiting.last().map(|(last, _)| last + 1)).flatten();
    let mut unfit = Vec::new();
    for (ordinal, at) in waiting {
        if at > before {
            continue;
        }
        for row in store.rows(ordinal..ordinal + 1)? {
            unfit.extend(entries(store, state, settings, &row)?);
        }
    }
    Ok((unfit, next))
}

/// One entry for every series that does not know of the record yet.
fn entries(
    store: &Store,
    state: &LedgerState,
    settings: &ExportSettings,
    row: &StoredRow,
) -> Result<Vec<Unfit>, StoreError> {
    let line = store.line(row)?;
    let Some(original) = line.first() else { return Ok(Vec::new()) };
    let original = original.row()?;
    let mut unfit = Vec::new();
    for series in &settings.series {
        if !store.quarantine_of(&series.name, original.frame.cdr_id)?.is_empty() {
            continue;
        }
        unfit.push(Unfit {
            cdr_id: original.frame.cdr_id.to_string(),
            encoder_error: "chargeAmount: the record has no price; price it, then resubmit it".to_owned(),
            export_id: None,
            operator_id: original.frame.operator_id.to_owned(),
            schema_variant: series.variant_now(state).to_owned(),
            series: series.name.clone(),
        });
    }
    Ok(unfit)
}
