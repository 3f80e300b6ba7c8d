//! What rows name beyond the state: files that are done, and records in quarantine.

use super::fold::{RowPlace, export_id, fold_quarantine, quarantine_id};
use super::quarantine::{QuarantineStep, Quarantined};
use super::step::{DeliveryStep, ExportStep};
use super::{Export, fold::Exports};
use crate::command::Rejection;
use crate::id::CdrId;
use crate::row::{System, SystemKind};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Files and quarantine entries, as they were before a row or are after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Files.
    pub exports: BTreeMap<CdrId, Export>,
    /// Records in quarantine.
    pub quarantine: BTreeMap<CdrId, Quarantined>,
}

/// What has to be known before a system row can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A file.
    Export(CdrId),
    /// An entry in quarantine.
    Quarantined(CdrId),
    /// Whether the record waits in the series' quarantine.
    Record {
        /// The series.
        series: String,
        /// The record.
        cdr_id: String,
    },
}

/// What a row names; none if nothing, or if it can't be read, which the fold says.
pub fn named(system: &System<'_>) -> Option<Named> {
    match system.kind {
        SystemKind::Export => export_id(read::<ExportStep>(system)?.export_id()?).map(Named::Export),
        SystemKind::Delivery => export_id(read::<DeliveryStep>(system)?.export_id()).map(Named::Export),
        SystemKind::Quarantine => match read(system)? {
            QuarantineStep::Quarantined(unfit) => {
                Some(Named::Record { series: unfit.series, cdr_id: unfit.cdr_id })
            }
            QuarantineStep::Resubmitted { quarantine_id: name, .. }
            | QuarantineStep::Discarded { quarantine_id: name, .. } => {
                quarantine_id(&name).map(Named::Quarantined)
            }
        },
        _ => None,
    }
}

fn read<T: DeserializeOwned>(system: &System<'_>) -> Option<T> {
    system.read().ok()
}

impl Books {
    /// Takes an `export` row in.
    ///
    /// # Errors
    /// [`Rejection`].
    pub(crate) fn export(
        &mut self,
        exports: &mut Exports,
        at: RowPlace,
        step: ExportStep,
    ) -> Result<(), Rejection> {
        let known = self.find(step.export_id());
        if let Some(export) = exports.fold(at, step, known)? {
            self.exports.insert(export.id, export);
        }
        Ok(())
    }

    /// Takes a `delivery` row in.
    ///
    /// # Errors
    /// [`Rejection`].
    pub(crate) fn delivery(
        &mut self,
        exports: &mut Exports,
        at: RowPlace,
        step: DeliveryStep,
    ) -> Result<(), Rejection> {
        let known = self.find(Some(step.export_id()));
        let export = exports.fold_delivery(at, step, known)?;
        self.exports.insert(export.id, export);
        Ok(())
    }

    /// Takes a `quarantine` row in.
    ///
    /// # Errors
    /// [`Rejection`].
    pub(crate) fn quarantine(&mut self, at: RowPlace, step: QuarantineStep) -> Result<(), Rejection> {
        let known = match &step {
            QuarantineStep::Quarantined(_) => None,
            QuarantineStep::Resubmitted { quarantine_id: name, .. }
            | QuarantineStep::Discarded { quarantine_id: name, .. } => {
                quarantine_id(name).and_then(|id| self.quarantine.get(&id).cloned())
            }
        };
        let entry = fold_quarantine(at, step, known)?;
        self.quarantine.insert(entry.id, entry);
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<Export> {
        self.exports.get(&name.and_then(export_id)?).cloned()
    }

    /// True if a record waits in a series' quarantine, as far as these books show.
    pub fn waits(&self, series: &str, cdr_id: &str) -> bool {
        self.quarantine.values().any(|entry| {
            entry.resolved.is_none() && entry.unfit.series == series && entry.unfit.cdr_id == cdr_id
        })
    }
}
