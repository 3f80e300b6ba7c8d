//! Opens due settlement files, encodes and signs them: one step after another, each in a command (EP-CDR-02, US-CDR-012).
//!
//! What is done is in the state; a leader that takes over goes on with the next step. A step that was done but not
//! committed is done again and gives the same bytes.

use super::EndsTerm;
use crate::export::ExportFiles;
use crate::export::MakeError;
use crate::export::make::Made;
use crate::export::plan::{self, Due, ExportSettings, PinError};
use crate::export::returns::{self, Prospect};
use crate::metrics::Metrics;
use crate::names::VARIANT_SETTING;
use crate::proposer::{ProposalError, Proposer, SystemRow};
use crate::signer::{SignError, Signing};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cdr_core::canonical::to_jcs;
use cdr_core::command::{Rejection, Reply};
use cdr_core::export::quarantine::{QuarantineStep, Quarantined, Unfit};
use cdr_core::export::step::ExportStep;
use cdr_core::export::{Cut, Delivery, Export, ExportPins, ExportType, FileSignature};
use cdr_core::export_signature::ExportSignature;
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use cdr_core::{CdrId, LedgerState, Millis};
use cdr_storage::{Store, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the state is read.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Quarantine rows in one command.
const ROWS_AT_ONCE: usize = 200;
/// How long before a deadline open work is an alarm, milliseconds.
const WARNING_MS: i64 = 15 * 60 * 1000;
/// Trace of the rows that this worker appends.
const TRACE: &str = "export";

/// Everything that making files needs.
#[derive(Clone)]
pub struct Exports {
    /// Which files, and when.
    pub settings: ExportSettings,
    /// Their bytes.
    pub files: ExportFiles,
    /// Signs them.
    pub signing: Signing,
    /// What counts.
    pub metrics: Arc<Metrics>,
}

/// Why making files stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// A due file can't be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A file can't be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A file can't be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file can't be signed with the keys that the ledger knows.
    #[error("no signing key is in force: register one")]
    NoKey,
    /// The log refused a step.
    #[error("the log refused a step: {0}")]
    Refused(Rejection),
    /// A thread ended.
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl EndsTerm for ExportError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

/// Opens and encodes files until the term is over.
///
/// # Errors
/// [`ExportError`].
pub async fn make(exports: &Exports, proposer: &Proposer) -> Result<(), ExportError> {
    let mut failed = Failures::default();
    let _shown = WhileLeading(exports.metrics.clone());
    loop {
        // While events move the clock, days are not over when it says so.
        if proposer.state().cluster.is_some() && !proposer.clock().follows_events() {
            exports.name_variant(proposer).await?;
            let opened = exports.open_due(proposer, &mut failed).await?;
            let encoded = exports.encode_all(proposer, &mut failed).await?;
            exports.show(proposer);
            if opened || encoded {
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Signs encoded files until the term is over. Apart from making them, because a device that is away is waited for.
///
/// # Errors
/// [`ExportError`].
pub async fn sign(exports: &Exports, proposer: &Proposer) -> Result<(), ExportError> {
    let mut failed = Failures::default();
    loop {
        if !exports.sign_all(proposer, &mut failed).await? {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What failed a moment ago, and is not retried until then, so that nothing else waits for it.
#[derive(Default)]
pub(super) struct Failures(HashMap<String, Instant>);

impl Failures {
    /// True while it is not to be retried.
    pub(super) fn rests(&self, what: &str) -> bool {
        self.0.get(what).is_some_and(|until| Instant::now() < *until)
    }

    /// Records the outcome; an error that does not end the term waits while others go on.
    pub(super) fn note<T, E: EndsTerm>(
        &mut self,
        what: String,
        outcome: Result<T, E>,
    ) -> Result<Option<T>, E> {
        match outcome {
            Ok(value) => {
                self.0.remove(&what);
                Ok(Some(value))
            }
            Err(error) if error.ends_term() => Err(error),
            Err(error) => {
                tracing::error!(severity = "SEV1", what, %error, "a settlement file is held up");
                self.0.insert(what, Instant::now() + RETRY);
                Ok(None)
            }
        }
    }
}

impl Exports {
    /// Says in the ledger which variant is in force, once.
    async fn name_variant(&self, proposer: &Proposer) -> Result<(), ExportError> {
        let state = proposer.state();
        let first = self.settings.series.iter().find(|series| series.follows_activation);
        let Some(series) = first.filter(|_| state.settings.get(VARIANT_SETTING).is_none()) else {
            return Ok(());
        };
        let change = SettingChange {
            actor_user_id: "system:export".to_owned(),
            approver_user_id: None,
            config_key: VARIANT_SETTING.to_owned(),
            content: None,
            new_value: series.variant.clone(),
            previous_value: None,
            reason: "the variant of the configuration".to_owned(),
            ticket_id: None,
        };
        append(proposer, vec![(SystemKind::Config, to_jcs(&change))]).await
    }

    /// Opens what is due; true if anything was.
    async fn open_due(&self, proposer: &Proposer, failed: &mut Failures) -> Result<bool, ExportError> {
        let due = plan::due(&proposer.state(), &self.settings, proposer.clock().now())?;
        let mut opened = false;
        for due in due {
            let what = format!("{} of {} on {}", due.key.export_type.as_str(), due.key.operator_id, due.day);
            if failed.rests(&what) {
                continue;
            }
            let outcome = self.open(proposer, &due).await;
            opened |= failed.note(what, outcome)?.is_some();
        }
        Ok(opened)
    }

    async fn open(&self, proposer: &Proposer, due: &Due) -> Result<(), ExportError> {
        let (own, files, settings, due) =
            (proposer.clone(), self.files.clone(), self.settings.clone(), due.clone());
        let look = move || {
            let pins = plan::pin(own.store(), files.variants(), &settings, &due, own.clock().now())?;
            first_step(own.store(), &files, &due, pins)
        };
        let (step, unfit) = tokio::task::spawn_blocking(look).await??;
        match &step {
            ExportStep::Opened(pins) => tracing::info!(file = pins.file_name, "a settlement file is opened"),
            ExportStep::Skipped { operator_id, settlement_day, .. } => {
                let unfit = unfit.len();
                tracing::info!(operator_id, %settlement_day, unfit, "nothing to return: no RAP file");
            }
            _ => {}
        }
        quarantine(proposer, unfit).await?;
        append(proposer, vec![(SystemKind::Export, to_jcs(&step))]).await
    }

    /// Encodes every file that is not; true if one was.
    async fn encode_all(&self, proposer: &Proposer, failed: &mut Failures) -> Result<bool, ExportError> {
        let mut done = false;
        for export in open_files(proposer, |export| export.content.is_none()) {
            if !failed.rests(&export.name()) {
                let outcome = self.encode(proposer, &export).await;
                done |= failed.note(export.name(), outcome)?.is_some();
            }
        }
        Ok(done)
    }

    /// Signs every encoded file that is not signed; true if one was.
    async fn sign_all(&self, proposer: &Proposer, failed: &mut Failures) -> Result<bool, ExportError> {
        let mut done = false;
        for export in open_files(proposer, |export| export.signature.is_none()) {
            let Some(content) = &export.content else { continue };
            if !failed.rests(&export.name()) {
                let outcome = self.sign(proposer, &export, content.file_sha256).await;
                done |= failed.note(export.name(), outcome)?.is_some();
            }
        }
        Ok(done)
    }

    async fn encode(&self, proposer: &Proposer, export: &Export) -> Result<(), ExportError> {
        let (files, own, work) = (self.files.clone(), proposer.clone(), export.clone());
        let made = tokio::task::spawn_blocking(move || {
            let Made { content, unfit, .. } = files.make(&work)?;
            let waiting = still_unknown(own.store(), unfit)?;
            Ok::<_, ExportError>((content, waiting))
        });
        let (content, unfit) = made.await??;
        quarantine(proposer, unfit).await?;
        tracing::info!(
            file = export.pins.file_name,
            records = content.records_included,
            quarantined = content.quarantined_count,
            "a settlement file is encoded"
        );
        let step = ExportStep::Encoded { export_id: export.name(), content };
        append(proposer, vec![(SystemKind::Export, to_jcs(&step))]).await
    }

    async fn sign(
        &self,
        proposer: &Proposer,
        export: &Export,
        file_sha256: cdr_core::Hash,
    ) -> Result<(), ExportError> {
        let state = proposer.state();
        let key = state.signing_key(state.head.open_hour).ok_or(ExportError::NoKey)?;
        let message = ExportSignature::signed_message(&file_sha256).to_vec();
        let signature = self.signing.sign(&key.key_id, message).await?;
        let signature = FileSignature {
            algorithm: key.algorithm.clone(),
            key_id: key.key_id.clone(),
            signature: STANDARD.encode(signature),
        };
        let step = ExportStep::Signed { export_id: export.name(), signature };
        append(proposer, vec![(SystemKind::Export, to_jcs(&step))]).await
    }

    /// Shows how late files are.
    fn show(&self, proposer: &Proposer) {
        let past = past_deadline_ms(&proposer.state(), &self.settings, proposer.clock().now());
        let late = past.map_or(0, |past| past + WARNING_MS).max(0);
        self.metrics.exports_late(Duration::from_millis(late as u64));
    }
}

/// Only the leader knows how late files are.
struct WhileLeading(Arc<Metrics>);

impl Drop for WhileLeading {
    fn drop(&mut self) {
        self.0.exports_late(Duration::ZERO);
    }
}

fn open_files(proposer: &Proposer, wanted: impl Fn(&Export) -> bool) -> Vec<Export> {
    proposer.state().exports.open().filter(|export| wanted(export)).cloned().collect()
}

/// Milliseconds that the oldest TAP file that is not delivered is past its deadline; negative while there is time left,
/// none if nothing is due.
fn past_deadline_ms(state: &LedgerState, settings: &ExportSettings, now: Millis) -> Option<i64> {
    let zone = state.cluster.as_ref().map(|cluster| cluster.zone.as_str())?;
    let undelivered = state
        .exports
        .open()
        .filter(|export| export.pins.export_type == ExportType::Tap && export.delivery == Delivery::Pending)
        .map(|export| export.pins.settlement_day);
    let due = plan::due(state, settings, now).ok()?;
    let unopened = due.iter().filter(|due| due.key.export_type == ExportType::Tap).map(|due| due.day);
    let oldest = undelivered.chain(unopened).min()?;
    let deadline = plan::deadline(settings, zone, oldest).ok()?;
    Some(now.0 - deadline.0)
}

/// Opens the file of these pins, unless it is a RAP file that would hold nothing; then also what kept it from doing so.
fn first_step(
    store: &Store,
    files: &ExportFiles,
    due: &Due,
    pins: ExportPins,
) -> Result<(ExportStep, Vec<Unfit>), ExportError> {
    if pins.export_type == ExportType::Tap {
        return Ok((ExportStep::Opened(pins), Vec::new()));
    }
    let rows_looked_at = store.state().head.row_count;
    let cut = Cut { day: due.day, upto: pins.upto_bucket, ordinal: rows_looked_at };
    let export = Export::opened(CdrId([0; 16]), pins, cut, due.before);
    let Prospect::Nothing(unfit) = returns::prospect(store, files.variants(), &export)? else {
        return Ok((ExportStep::Opened(export.pins), Vec::new()));
    };
    let pins = export.pins;
    let skipped = ExportStep::Skipped {
        export_type: pins.export_type,
        operator_id: pins.operator_id,
        series: pins.series,
        settlement_day: pins.settlement_day,
        upto_bucket: pins.upto_bucket,
        rows_looked_at,
    };
    Ok((skipped, unfit))
}

/// Those of them that this file did not put into quarantine before: it may be made more than once.
fn still_unknown(store: &Store, unfit: Vec<Unfit>) -> Result<Vec<Unfit>, StoreError> {
    let mut unknown = Vec::new();
    for record in unfit {
        let entries = match CdrId::parse(&record.cdr_id) {
            Some(id) => store.quarantine_of(&record.series, id)?,
            None => Vec::new(),
        };
        let is_known =
            |entry: &Quarantined| entry.resolved.is_none() || entry.unfit.export_id == record.export_id;
        if !entries.iter().any(is_known) {
            unknown.push(record);
        }
    }
    Ok(unknown)
}

/// Puts records into quarantine.
pub(super) async fn quarantine(proposer: &Proposer, unfit: Vec<Unfit>) -> Result<(), ExportError> {
    for some in unfit.chunks(ROWS_AT_ONCE) {
        let row =
            |unfit: &Unfit| (SystemKind::Quarantine, to_jcs(&QuarantineStep::Quarantined(unfit.clone())));
        append(proposer, some.iter().map(row).collect()).await?;
    }
    Ok(())
}

/// Appends rows; that another writer was there first is not a failure.
pub(super) async fn append(proposer: &Proposer, rows: Vec<SystemRow>) -> Result<(), ExportError> {
    match proposer.append_rows(TRACE, rows).await? {
        Reply::Rejected(Rejection::ExportMoved { export_id }) => {
            tracing::debug!(export_id, "the step was done before");
            Ok(())
        }
        Reply::Rejected(rejection) => Err(ExportError::Refused(rejection)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
