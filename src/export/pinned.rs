//! What a file is pinned to, and what keeps it from being made so.

use super::ENCODER_VERSION;
use cdr_core::export::ExportPins;
use cdr_core::export::quarantine::Unfit;
use cdr_core::hash::to_hex;
use cdr_core::row::Row;
use cdr_storage::StoreError;
use cdr_tap::{EncodeError, FileError, Variant, Variants};
use std::io;
use std::sync::Arc;

/// Records of one file that may turn out unfit: more mean that the variant is wrong, not the records.
const MOST_UNFIT: usize = 10_000;

/// A file can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The variant is not there as it was.
    #[error(
        "schema variant {variant} with hash {hash} is not among the schemas that are loaded: put its folder back as it was"
    )]
    Variant {
        /// The variant.
        variant: String,
        /// Hash that the file is pinned to.
        hash: String,
    },
    /// Another build made the file, or is to make it.
    #[error(
        "{file_name} is pinned to encoder version {pinned}, this build has version {ENCODER_VERSION} and would give it \
         other bytes: use a build of the pinned version"
    )]
    Encoder {
        /// The file.
        file_name: String,
        /// The version that it is pinned to.
        pinned: u32,
    },
    /// Nearly nothing can be encoded.
    #[error(
        "more than {MOST_UNFIT} records can't be encoded, the last because of {why}: is schema variant {variant} right?"
    )]
    Unfit {
        /// The variant.
        variant: String,
        /// The encoder's error for the last one.
        why: String,
    },
    /// The TAP file of a returned record is not there.
    #[error("export {0}, which lists a returned record, is missing: verify the store")]
    TapFile(String),
    /// The file can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Records an entry that a file of these pins can't hold.
pub(super) fn set_aside(
    unfit: &mut Vec<Unfit>,
    pins: &ExportPins,
    export_id: Option<String>,
    row: &Row<'_>,
    error: &EncodeError,
) -> Result<(), MakeError> {
    if unfit.len() >= MOST_UNFIT {
        return Err(MakeError::Unfit { variant: pins.schema_variant.clone(), why: error.to_string() });
    }
    unfit.push(Unfit {
        cdr_id: row.frame.cdr_id.to_string(),
        encoder_error: error.to_string(),
        export_id,
        operator_id: pins.operator_id.clone(),
        schema_variant: pins.schema_variant.clone(),
        series: pins.series.clone(),
    });
    Ok(())
}

/// The variant that a file is pinned to, if this build encodes as it is pinned.
///
/// # Errors
/// [`MakeError::Encoder`], [`MakeError::Variant`].
pub(super) fn pinned<'v>(variants: &'v Variants, pins: &ExportPins) -> Result<&'v Arc<Variant>, MakeError> {
    if pins.encoder_version != ENCODER_VERSION {
        let (file_name, pinned) = (pins.file_name.clone(), pins.encoder_version);
        return Err(MakeError::Encoder { file_name, pinned });
    }
    let missing =
        || MakeError::Variant { variant: pins.schema_variant.clone(), hash: to_hex(&pins.schema_hash) };
    variants.get(&pins.schema_variant).filter(|variant| variant.hash == pins.schema_hash).ok_or_else(missing)
}
