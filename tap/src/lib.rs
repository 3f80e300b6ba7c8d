//! TAP 3.12 and RAP 1.5 files, encoded by schema variants that are loaded at run time (US-CDR-007 to 010).
//!
//! A variant is a folder: ASN.1 modules, and for each kind of file a mapping that says which canonical field goes into
//! which item. No item of a variant is named in code. `tap-schemas/README.md` explains mappings and the bilateral
//! convention of RAP files.
//!
//! | module | does |
//! |---|---|
//! | [`variant`] | loads variants, names and numbers files |
//! | `asn1` | modules: parsed by `rasn-compiler`, checked, resolved to tags |
//! | `mapping`, `doc` | mappings as they are written, with the line of every key |
//! | `compile` | both put together: plans |
//! | `source`, `convert` | where values come from, and the named conversions |
//! | `plan`, `evaluate`, `ber` | plans, evaluated for a record, and written through `rasn`'s encoder |
//! | [`call`] | from a record to a call event |
//! | [`mod@decode`] | files read back, and their totals checked |
//! | [`trace`] | the trace beside a file |
//! | [`file`](mod@file), [`rap`], `spool` | files, streamed in bounded memory |
//!
//! Everything here is a function of its arguments: no clock, no randomness, no network. It blocks.

mod asn1;
mod ber;
pub mod call;
mod compile;
mod convert;
pub mod decode;
mod doc;
mod error;
mod evaluate;
pub mod file;
mod header;
mod mapping;
mod plan;
pub mod rap;
mod source;
mod spool;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod variant;

/// Version of the rules by which files are encoded. It goes up when the same records, variant and header would give other
/// bytes than before; a file is pinned to it when it is opened.
pub const ENCODER_VERSION: u32 = 1;

pub use call::{CallEncoder, CallEvent};
pub use decode::{Decoded, DecodedCall, decode};
pub use error::{DecodeError, EncodeError, FileError, PushError, SchemaError, TraceError};
pub use file::{FileSummary, FileWriter, Taken, sha256_of};
pub use header::{FileHeader, LocalTime};
pub use mapping::{FileKind, Numbering, Per};
pub use rap::{RapWriter, ReturnEncoder, Returned};
pub use trace::{TraceEvent, TraceHead, TraceReader, TraceWriter, trace_name};
pub use variant::{Format, Variant, Variants};
