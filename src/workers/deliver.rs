//! Delivers signed settlement files, those of one recording entity in the order of their numbers (US-CDR-013 to 015).
//!
//! Every attempt is a row. When and over which channel the next one goes is decided from them alone, so a leader that
//! takes over goes on where the last one was. A file that arrived without anybody hearing of it is found there.

use super::EndsTerm;
use super::export::{ExportError, Failures, append};
use crate::delivery::{
    ChannelKind, Channels, CurrentChannels, DeliveryError, ErrorClass, FileSource, Item, Parcel, policy,
};
use crate::export::{ExportFiles, FilesError};
use crate::metrics::Metrics;
use crate::proposer::Proposer;
use crate::texts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cdr_core::Millis;
use cdr_core::canonical::to_jcs;
use cdr_core::export::step::{DeliveryStep, ReceiverAnswer};
use cdr_core::export::{Delivery, Export, ExportType, Outcome};
use cdr_core::export_signature::{ExportSignature, SIDECAR_SUFFIX};
use cdr_core::key::Algorithm;
use cdr_core::row::SystemKind;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the state is read.
const PAUSE: Duration = Duration::from_millis(250);

/// Everything that delivering needs.
#[derive(Clone)]
pub struct Deliveries {
    /// The ways to the receiver.
    pub channels: Arc<CurrentChannels>,
    /// The bytes.
    pub files: ExportFiles,
    /// What counts.
    pub metrics: Arc<Metrics>,
}

/// Why delivering stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A step can't be taken into the log.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The file is unavailable.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The parcel can't be made.
    #[error("export {export_id} can't be sent: {why}")]
    Parcel {
        /// The file.
        export_id: String,
        /// Why.
        why: String,
    },
    /// An attempt in the ledger is of a kind that this build does not know.
    #[error(
        "export {export_id}: an attempt of {at} has {what}, which this build does not know, and when the next one is due \
         depends on it: use a build that knows it"
    )]
    UnknownAttempt {
        /// The file.
        export_id: String,
        /// When it ended.
        at: Millis,
        /// Its class or channel.
        what: String,
    },
    /// A thread ended.
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl EndsTerm for DeliverError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Export(error) if error.ends_term())
    }
}

/// Delivers until the term is over; without channels, files wait.
///
/// # Errors
/// [`DeliverError`].
pub async fn run(deliveries: Option<&Deliveries>, proposer: &Proposer) -> Result<(), DeliverError> {
    let (mut told, mut failed) = (HashSet::new(), Failures::default());
    loop {
        let mut busy = false;
        let channels = deliveries.and_then(|deliveries| Some((deliveries, deliveries.channels.now()?)));
        if let Some((deliveries, channels)) = channels {
            for export in first_of_each(proposer) {
                if !failed.rests(&export.name()) {
                    let outcome = deliveries.attend(proposer, &channels, &export, &mut told).await;
                    busy |= failed.note(export.name(), outcome)?.unwrap_or(false);
                }
            }
        }
        if !busy {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Of every series of numbers the first file that is signed and not delivered; later ones wait behind it.
fn first_of_each(proposer: &Proposer) -> Vec<Export> {
    let state = proposer.state();
    let mut seen = HashSet::new();
    let pending = state.exports.open().filter(|export| export.delivery == Delivery::Pending);
    let first = pending.filter(|export| seen.insert(in_order(export)));
    first.filter(|export| export.signature.is_some()).cloned().collect()
}

/// Whose files go out one behind the other.
fn in_order(export: &Export) -> (&str, ExportType, &str) {
    let pins = &export.pins;
    (&pins.series, pins.export_type, &pins.recording_entity)
}

/// Names of the files that wait until this one is delivered.
fn behind(proposer: &Proposer, export: &Export) -> Vec<String> {
    let state = proposer.state();
    let waits = |other: &&Export| {
        other.id > export.id && other.delivery == Delivery::Pending && in_order(other) == in_order(export)
    };
    state.exports.open().filter(waits).map(|other| other.pins.file_name.clone()).collect()
}

impl Deliveries {
    /// Makes an attempt if it is time for one; true if it made one.
    async fn attend(
        &self,
        proposer: &Proposer,
        channels: &Channels,
        export: &Export,
        told: &mut HashSet<String>,
    ) -> Result<bool, DeliverError> {
        let attempts = attempts(export)?;
        let now = proposer.clock().now();
        let decision = policy::decide(channels.route(), &attempts, now, draw(export, attempts.len()));
        if decision.alarms.contains(&policy::Alarm::Exhausted) && !export.exhausted {
            self.exhausted(proposer, export).await?;
        }
        match decision.next {
            policy::Next::At(at, channel) if at <= now => {
                self.attempt(proposer, channels, export, channel).await?;
                Ok(true)
            }
            policy::Next::Stopped(class) => {
                let behind = behind(proposer, export);
                if told.insert(format!("{} {} {}", export.name(), attempts.len(), behind.len())) {
                    tracing::error!(
                        severity = "SEV1",
                        export = export.name(),
                        file = export.pins.file_name,
                        class = class.as_str(),
                        waiting = behind.len(),
                        waiting_files = behind.join(", "),
                        "a delivery needs a person, and the files behind it wait: correct the cause, then redrop the export"
                    );
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    async fn attempt(
        &self,
        proposer: &Proposer,
        channels: &Channels,
        export: &Export,
        channel: ChannelKind,
    ) -> Result<(), DeliverError> {
        let mut delivered = channels.deliver(channel, &self.parcel(export).await?).await;
        if delivered.as_ref().is_err_and(|error| error.class == ErrorClass::IntegrityMismatch)
            && self.was_damaged(export).await?
        {
            tracing::warn!(
                export = export.name(),
                "the file on disk was damaged: it is regenerated and sent again"
            );
            delivered = channels.deliver(channel, &self.parcel(export).await?).await;
        }
        let (outcome, answer) = match delivered {
            Ok(receipt) => (Outcome::Delivered { atra_receipt_id: receipt.receipt_id }, None),
            Err(error) => (failed(&error), answer(&error, export)),
        };
        let step = DeliveryStep::Attempted {
            export_id: export.name(),
            channel: channel.as_str().to_owned(),
            outcome,
            answer,
        };
        Ok(append(proposer, vec![(SystemKind::Delivery, to_jcs(&step))]).await?)
    }

    async fn exhausted(&self, proposer: &Proposer, export: &Export) -> Result<(), DeliverError> {
        let reason = export.attempts.iter().rev().find_map(|attempt| match &attempt.outcome {
            Outcome::Failed { reason, .. } => Some(reason.clone()),
            Outcome::Delivered { .. } => None,
        });
        tracing::error!(
            severity = "SEV1",
            export = export.name(),
            file = export.pins.file_name,
            "no channel has accepted the file for two hours; attempts go on"
        );
        self.metrics.delivery_exhausted();
        let step = DeliveryStep::Exhausted {
            export_id: export.name(),
            retry_count: export.failures,
            reason: reason.unwrap_or_default(),
        };
        Ok(append(proposer, vec![(SystemKind::Delivery, to_jcs(&step))]).await?)
    }

    /// True if what is on disk was not the file that was signed; it is made again then.
    async fn was_damaged(&self, export: &Export) -> Result<bool, DeliverError> {
        let (files, work) = (self.files.clone(), export.clone());
        Ok(tokio::task::spawn_blocking(move || files.ensure(&work)).await??.made_now)
    }

    /// What is sent. The bytes are read and hashed on their way out, so they are not all read before.
    async fn parcel(&self, export: &Export) -> Result<Parcel, DeliverError> {
        let fail = |why: String| DeliverError::Parcel { export_id: export.name(), why };
        let (files, work) = (self.files.clone(), export.clone());
        let at_hand = tokio::task::spawn_blocking(move || files.ensure_for_sending(&work)).await??;
        let Some(content) = &export.content else { return Err(fail("it is not encoded".to_owned())) };
        let name = &export.pins.file_name;
        let sidecar = sidecar(export).ok_or_else(|| fail("its signature can't be read".to_owned()))?;
        let source = |path| async { FileSource::new(path).await.map_err(|e| fail(e.to_string())) };
        let (file, trace) = (source(at_hand.path).await?, source(at_hand.trace).await?);
        let parcel = || {
            Ok(Parcel {
                file: Item::new(name, Arc::new(file), content.file_sha256)?,
                sidecars: vec![
                    Item::bytes(&format!("{name}{SIDECAR_SUFFIX}"), sidecar.into())?,
                    Item::new(&cdr_tap::trace_name(name), Arc::new(trace), content.trace_sha256)?,
                ],
            })
        };
        parcel().map_err(|error: crate::delivery::BadName| fail(error.to_string()))
    }
}

/// The text of the `.sig` file; none if the export has no signature that can be read.
pub fn sidecar(export: &Export) -> Option<String> {
    let (content, signature) = (export.content.as_ref()?, export.signature.as_ref()?);
    let signature = ExportSignature {
        key_id: signature.key_id.clone(),
        algorithm: Algorithm::parse(&signature.algorithm)?,
        signature: STANDARD.decode(&signature.signature).ok()?.try_into().ok()?,
        file_sha256: content.file_sha256,
    };
    Some(signature.render())
}

/// The attempts since the file was last queued for delivery: all of them, since the policy counts them.
fn attempts(export: &Export) -> Result<Vec<policy::Attempt>, DeliverError> {
    let since = export.due_since.unwrap_or(Millis(0));
    let made = export.attempts.iter().filter(|attempt| attempt.at >= since);
    made.map(|attempt| {
        let unknown = |kind: &str, name: &str| DeliverError::UnknownAttempt {
            export_id: export.name(),
            at: attempt.at,
            what: format!("{kind} {name}"),
        };
        let channel = ChannelKind::parse(&attempt.channel);
        let outcome = match &attempt.outcome {
            Outcome::Delivered { .. } => policy::Outcome::Delivered,
            Outcome::Failed { error, .. } => {
                let class = ErrorClass::parse(error).ok_or_else(|| unknown("error class", error))?;
                policy::Outcome::Failed(class)
            }
        };
        let channel = channel.ok_or_else(|| unknown("channel", &attempt.channel))?;
        Ok(policy::Attempt { at: attempt.at, channel, outcome })
    })
    .collect()
}

fn failed(error: &DeliveryError) -> Outcome {
    Outcome::Failed { error: error.class.as_str().to_owned(), reason: texts::clipped(&error.to_string()) }
}

/// The receiver's response, as the ledger keeps it.
fn answer(error: &DeliveryError, export: &Export) -> Option<ReceiverAnswer> {
    error.answer.as_ref().map(|answer| ReceiverAnswer {
        atra_receipt_id: answer.receipt_id.clone(),
        payload: answer.words(),
        rejection_reason: answer.reason.map(|reason| reason.as_str().to_owned()),
        retry_count: export.failures,
        status: answer.status,
    })
}

/// The same for the same file and number of attempts, so that a due time stays where it is.
fn draw(export: &Export, attempts: usize) -> u64 {
    let mut seed = export.id.0.to_vec();
    seed.extend_from_slice(&attempts.to_be_bytes());
    let hash = cdr_core::hash::sha256(&seed);
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
