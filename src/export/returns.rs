//! What a RAP file would hold, found out before it is opened: a file that took a number and then had nothing to hold could
//! neither be made nor be left out, because numbers have no gaps.

use super::header;
use super::pinned::{MakeError, pinned, set_aside};
use cdr_core::CdrId;
use cdr_core::export::quarantine::Unfit;
use cdr_core::export::{EXPORT_PREFIX, Export, ExportPins};
use cdr_storage::Store;
use cdr_tap::{FileError, FileHeader, ReturnEncoder, Returned, Variant, Variants};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A TAP file whose call events are returned.
pub(super) struct TapFile {
    /// Its header.
    pub header: FileHeader,
    /// Its variant.
    pub variant: Arc<Variant>,
}

/// TAP files whose call events are returned, each looked up once.
pub(super) struct TapFiles<'a> {
    store: &'a Store,
    variants: &'a Variants,
    known: HashMap<CdrId, TapFile>,
}

impl<'a> TapFiles<'a> {
    pub(super) fn new(store: &'a Store, variants: &'a Variants) -> Self {
        Self { store, variants, known: HashMap::new() }
    }

    /// The TAP file with this id.
    ///
    /// # Errors
    /// [`MakeError`] if it, or its variant, is not there.
    pub(super) fn get(&mut self, id: CdrId) -> Result<&TapFile, MakeError> {
        if !self.known.contains_key(&id) {
            let missing = || MakeError::TapFile(id.with_prefix(EXPORT_PREFIX));
            let pins = self.store.export(id)?.ok_or_else(missing)?.pins;
            let file = TapFile { header: header(&pins), variant: pinned(self.variants, &pins)?.clone() };
            self.known.insert(id, file);
        }
        self.known.get(&id).ok_or_else(|| MakeError::TapFile(id.with_prefix(EXPORT_PREFIX)))
    }
}

/// What a RAP file would hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Prospect {
    /// A return at least.
    Returns,
    /// Nothing: these adjustments, if there are any, can't be expressed.
    Nothing(Vec<Unfit>),
}

/// What the RAP file `export`, which is not opened yet, would hold. Ends with the first return that can be encoded.
///
/// # Errors
/// [`MakeError`], also if so many returns can't be encoded that the variant must be wrong.
pub fn prospect(store: &Store, variants: &Variants, export: &Export) -> Result<Prospect, MakeError> {
    let variant = pinned(variants, &export.pins)?;
    let encoder = ReturnEncoder::new(variant.clone(), &header(&export.pins)).map_err(FileError::from)?;
    let tap_files = TapFiles::new(store, variants);
    let mut trial = Trial { pins: &export.pins, encoder, tap_files, unfit: Vec::new() };
    let mut outcome = Ok(ControlFlow::Continue(()));
    store.rap_adjustments(export, &mut |returned| {
        outcome = trial.encode(&returned);
        if matches!(outcome, Ok(ControlFlow::Continue(()))) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(if outcome?.is_break() { Prospect::Returns } else { Prospect::Nothing(trial.unfit) })
}

struct Trial<'a> {
    pins: &'a ExportPins,
    encoder: ReturnEncoder,
    tap_files: TapFiles<'a>,
    unfit: Vec<Unfit>,
}

impl Trial<'_> {
    /// Breaks off if the return can be encoded.
    fn encode(&mut self, returned: &cdr_storage::Returned) -> Result<ControlFlow<()>, MakeError> {
        let (adjustment, original) = (returned.adjustment.row()?, returned.original.row()?);
        let carried = returned.carried().row()?;
        let Some(listed) = carried.sms() else { return Ok(ControlFlow::Continue(())) };
        let tap_file = self.tap_files.get(returned.tap_file)?;
        let encoded = self.encoder.encode(&Returned {
            adjustment: &adjustment,
            original: &original,
            listed,
            tap_variant: &tap_file.variant,
            tap_header: &tap_file.header,
        });
        match encoded {
            Ok(_) => Ok(ControlFlow::Break(())),
            Err(error) => {
                set_aside(&mut self.unfit, self.pins, None, &adjustment, &error)?;
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}
