//! RAP files: adjustments return the call event that a TAP file listed (US-CDR-008). The convention is written down in
//! `tap-schemas/README.md`.

use super::call::{CallEvent, Work};
use super::error::{EncodeError, FileError, PushError};
use super::file::{Body, FileSummary, Taken};
use super::header::FileHeader;
use super::source::Adjusting;
use super::variant::Variant;
use cdr_core::Hash;
use cdr_core::row::{Row, Sms};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Writes a RAP file.
#[derive(Debug)]
pub struct RapWriter {
    returning: Returning,
    body: Body,
}

/// Encodes returned call events as they would stand in a RAP file, without one.
#[derive(Debug)]
pub struct ReturnEncoder {
    returning: Returning,
    work: Work,
}

/// What encoding returns needs besides what every file does.
#[derive(Debug)]
struct Returning {
    variant: Arc<Variant>,
    /// How the TAP file of the last adjustment was encoded: most have the same.
    tap: Option<Listing>,
    event: Vec<u8>,
}

/// A TAP file from which call events are returned.
#[derive(Debug)]
struct Listing {
    variant_hash: Hash,
    work: Work,
}

/// An adjustment with the call event that it returns.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// The adjusting row.
    pub adjustment: &'a Row<'a>,
    /// The original.
    pub original: &'a Row<'a>,
    /// The fields with which the TAP file lists it.
    pub listed: &'a Sms<'a>,
    /// The variant of that file.
    pub tap_variant: &'a Variant,
    /// The header of that file.
    pub tap_header: &'a FileHeader,
}

impl RapWriter {
    /// Opens a file; its returned call events are spooled in `folder`.
    ///
    /// # Errors
    /// A header that no file can have, or the spool file can't be made.
    pub fn new(variant: Arc<Variant>, header: &FileHeader, folder: &Path) -> Result<Self, FileError> {
        let body = Body::new(&variant.rap, header, folder)?;
        Ok(Self { returning: Returning::new(variant), body })
    }

    /// Adds an adjustment.
    ///
    /// # Errors
    /// [`PushError::Record`]: the adjustment goes into quarantine, and the file is as it was before.
    /// [`PushError::File`]: give the file up.
    pub fn push(&mut self, returned: &Returned<'_>) -> Result<Taken, PushError> {
        let event = self.returning.encode(&mut self.body.work, returned)?;
        Ok(self.body.ledger.take(&event)?)
    }

    /// How many adjustments were added.
    pub fn calls(&self) -> u64 {
        self.body.ledger.totals.calls
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`FileError::Empty`] without adjustments; otherwise what was written is worthless.
    pub fn finish(self, out: &mut impl Write) -> Result<FileSummary, FileError> {
        self.body.finish(&self.returning.variant.rap, out)
    }
}

impl ReturnEncoder {
    /// An encoder of returns as they stand in a RAP file with this header.
    ///
    /// # Errors
    /// Header values that no file can have.
    pub fn new(variant: Arc<Variant>, header: &FileHeader) -> Result<Self, EncodeError> {
        let work = Work::new(&variant.rap, header)?;
        Ok(Self { returning: Returning::new(variant), work })
    }

    /// Encodes the return of an adjustment.
    ///
    /// # Errors
    /// [`EncodeError`] if a file could not hold it.
    pub fn encode(&mut self, returned: &Returned<'_>) -> Result<CallEvent<'_>, EncodeError> {
        self.returning.encode(&mut self.work, returned)
    }
}

impl Returning {
    fn new(variant: Arc<Variant>) -> Self {
        Self { variant, tap: None, event: Vec::new() }
    }

    fn encode<'w>(
        &mut self,
        work: &'w mut Work,
        returned: &Returned<'_>,
    ) -> Result<CallEvent<'w>, EncodeError> {
        let not_one = |field, why| EncodeError::new(field, "returned call event", why);
        let sms = returned.adjustment.sms().filter(|sms| sms.adjustment.is_some());
        let sms = sms.ok_or_else(|| not_one("adjustmentType", "the row is not an adjustment"))?;
        if (returned.tap_variant.tap.currency(), returned.tap_variant.tap.decimal_places())
            != (self.variant.rap.currency(), self.variant.rap.decimal_places())
        {
            let why = "it was listed in another currency or with other decimal places: use that variant for its RAP file";
            return Err(not_one("chargeAmount", why));
        }
        let (charge, at) = self.list(returned)?;
        let adjusting = Adjusting {
            frame: &returned.adjustment.frame,
            sms,
            charge: None,
            tap_sequence: returned.tap_header.sequence,
            tap_call: &self.event,
        };
        let original = (returned.original, returned.listed);
        let mut event = work.returned(&self.variant.rap, original, charge, &adjusting)?;
        event.at = at;
        Ok(event)
    }

    /// Encodes the call event as its TAP file has it.
    fn list(&mut self, returned: &Returned<'_>) -> Result<(i64, super::LocalTime), EncodeError> {
        let (variant, header) = (returned.tap_variant, returned.tap_header);
        let is_same =
            |listing: &Listing| listing.variant_hash == variant.hash && listing.work.file.header == *header;
        let listing = match self.tap.take().filter(is_same) {
            Some(listing) => self.tap.insert(listing),
            None => self
                .tap
                .insert(Listing { variant_hash: variant.hash, work: Work::new(&variant.tap, header)? }),
        };
        let event = listing.work.listed(&variant.tap, returned.original, returned.listed)?;
        self.event.clear();
        self.event.extend_from_slice(event.bytes);
        Ok((event.charge, event.at))
    }
}
