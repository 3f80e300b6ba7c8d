//! Up to where a consumer's holder has acknowledged everything: the file `consumer-<durable>.floor`.
//!
//! As with NATS, opening a consumer again sets the floor to what lies before its start. All integers are little-endian:
//!
//! ```text
//! magic "CDRFLR\0\x01" | created_ms i64, of the stream | floor u64 | crc32 of everything before
//! ```
//!
//! The file is shorter than a sector and written over in place: after a crash it has the old floor or the new one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::{failed, replace_file};
use crate::BusError;

/// First bytes of a file; the last one is the format version.
const MAGIC: [u8; 8] = *b"CDRFLR\0\x01";
const FILE_BYTES: usize = 28;

/// The floors of a stream's consumers.
#[derive(Default)]
pub(super) struct Floors(Mutex<HashMap<String, Floor>>);

struct Floor {
    file: File,
    path: PathBuf,
    upto: u64,
}

impl Floors {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Floor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over at `upto`. Blocks on files.
    pub(super) fn begin(
        &self,
        directory: &Path,
        created_ms: i64,
        durable: &str,
        upto: u64,
    ) -> Result<(), BusError> {
        let path = path(directory, durable);
        let mut floors = self.open();
        floors.remove(durable);
        replace_file(directory, &path, &encode(created_ms, upto))?;
        let file = File::options().write(true).open(&path).map_err(|source| failed("open", &path, source))?;
        floors.insert(durable.to_owned(), Floor { file, path, upto });
        Ok(())
    }

    /// Records that everything up to `upto` is acknowledged, if `holds` returns that the consumer is still the caller's. Blocks
    /// on files.
    pub(super) fn raise(
        &self,
        created_ms: i64,
        durable: &str,
        upto: u64,
        holds: impl FnOnce() -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let mut floors = self.open();
        holds()?;
        let Some(floor) = floors.get_mut(durable).filter(|floor| floor.upto < upto) else { return Ok(()) };
        let written = floor.file.write_all_at(&encode(created_ms, upto), 0);
        written
            .and_then(|()| floor.file.sync_data())
            .map_err(|source| failed("write", &floor.path, source))?;
        floor.upto = upto;
        Ok(())
    }

    /// The floor of a consumer, if there ever was one of that name. Blocks on files.
    pub(super) fn of(
        &self,
        directory: &Path,
        created_ms: i64,
        durable: &str,
    ) -> Result<Option<u64>, BusError> {
        if let Some(floor) = self.open().get(durable) {
            return Ok(Some(floor.upto));
        }
        let path = path(directory, durable);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("read", &path, source)),
        };
        let damaged = |reason| BusError::Damaged { path: path.clone(), offset: 0, reason };
        match decode(&bytes) {
            Some((of, upto)) if of == created_ms => Ok(Some(upto)),
            Some(_) => Err(damaged("it is of another stream")),
            None => Err(damaged("not a consumer's floor, format 1")),
        }
    }
}

fn path(directory: &Path, durable: &str) -> PathBuf {
    directory.join(format!("consumer-{durable}.floor"))
}

fn encode(created_ms: i64, upto: u64) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&created_ms.to_le_bytes());
    bytes[16..24].copy_from_slice(&upto.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(i64, u64)> {
    let created_ms = i64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let upto = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (bytes == encode(created_ms, upto)).then_some((created_ms, upto))
}
