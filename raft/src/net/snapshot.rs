//! A snapshot on the wire: an offer with the list of files, the answer which of them are lacking, then
//! their contents in checked chunks, one file after the other. The sender reads a file once more before it sends it, and
//! the receiver reads them all once they are on its disk: each must have the SHA-256 that it had when the snapshot was
//! made.
//!
//! The receiver keeps the files that arrived complete. If the connection breaks, the same snapshot goes on
//! where it stopped; its id, drawn at random when it was made, identifies it. Files of other
//! snapshots or of the live store are never taken instead: the numbers in their names are local to each
//! replica, so equal name and size do not mean equal contents.

use super::frame::{Kind, invalid, receive, send, send_raw};
use super::refusals::{Refusal, Refused};
use crate::codec::{self, MAX_ENCODED_BYTES};
use crate::free_space::free_bytes;
use crate::runtime::blocking;
use crate::snapshot::{SnapshotDir, SnapshotStore, sync_tree};
use crate::sums::SummedFile;
use crate::types::{SnapshotMeta, TypeConfig, Vote};
use cdr_core::rules::Needs;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>;

/// Bytes of a file that are sent at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A peer that neither sends nor takes anything for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Installing a snapshot may take this long.
const INSTALL_PATIENCE: Duration = Duration::from_secs(900);

/// What is offered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    /// What whoever takes it has to know.
    pub needs: Needs,
    id: u64,
    files: Vec<SummedFile>,
}

async fn in_time<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends a snapshot and waits until it is installed. The inner error is the receiver's.
pub(super) async fn send_snapshot<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    vote: Vote,
    snapshot: &Snapshot,
) -> io::Result<Result<SnapshotResponse<TypeConfig>, String>> {
    let root = snapshot.snapshot.path();
    let files = snapshot.snapshot.files().cloned().collect();
    let (id, needs) = (snapshot.snapshot.id(), snapshot.snapshot.needs());
    let offer = Offer { vote, meta: snapshot.meta.clone(), needs, id, files };
    in_time(PATIENCE, send(stream, Kind::SnapshotOffer, &offer)).await?;
    let lacking: Vec<u32> = match in_time(PATIENCE, answer(stream)).await? {
        Ok(lacking) => lacking,
        Err(reason) => return Ok(Err(reason)),
    };
    for number in lacking {
        let file = offer
            .files
            .get(number as usize)
            .ok_or_else(|| invalid("a file was requested that was not offered"))?;
        blocking(|| snapshot.snapshot.check(file))?;
        send_file(stream, &root.join(&file.path), file.bytes).await?;
    }
    in_time(INSTALL_PATIENCE, answer(stream)).await
}

async fn answer<S: AsyncRead + Unpin, A: serde::de::DeserializeOwned>(
    stream: &mut S,
) -> io::Result<Result<A, String>> {
    let frame = receive(stream, MAX_ENCODED_BYTES).await?;
    match frame.kind {
        Kind::Answer => Ok(Ok(codec::decode(&frame.body)?)),
        Kind::Failed => Ok(Err(codec::decode(&frame.body)?)),
        kind => Err(invalid(format!("{kind:?} instead of an answer"))),
    }
}

async fn send_file<S: AsyncWrite + Unpin>(stream: &mut S, path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let part = &mut chunk[..left.min(CHUNK_BYTES as u64) as usize];
        blocking(|| file.read_exact(part))?;
        let crc = crc32fast::hash(part).to_le_bytes();
        in_time(PATIENCE, send_raw(stream, Kind::SnapshotChunk, &[&crc, part])).await?;
        left -= part.len() as u64;
    }
    Ok(())
}

/// The files of an offered snapshot that have not come, unless there is not enough space for them. The files of another
/// one, of which not all had come, make room for it.
pub(super) fn with_space(
    offer: &Offer,
    store: &SnapshotStore,
    min_free_bytes: u64,
) -> Result<Vec<Lacking>, Refused> {
    let outside = |error: io::Error| Refused::new(Refusal::OutOfBounds, error.to_string());
    let unknown = |error| {
        Refused::new(Refusal::NoSpace, format!("the free space for a snapshot can't be determined: {error}"))
    };
    let lacking = lacking(offer, &store.incoming(offer.id)).map_err(outside)?;
    let wanted = lacking.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    store.forget_other_incoming(offer.id).map_err(unknown)?;
    let free = free_bytes(store.dir()).map_err(unknown)?.saturating_sub(min_free_bytes);
    if wanted <= free {
        return Ok(lacking);
    }
    let message = format!(
        "no space for the snapshot: {} MiB of it have to be received, and {} MiB are free under {} beside the {} MiB that \
         are kept free; free some space, the snapshot is offered again",
        wanted.div_ceil(1 << 20),
        free >> 20,
        store.dir().display(),
        min_free_bytes >> 20
    );
    Err(Refused::new(Refusal::NoSpace, message))
}

/// A file of a snapshot that has not come.
pub(super) struct Lacking {
    number: u32,
    path: PathBuf,
    bytes: u64,
}

/// What of an offered snapshot is not in `root` yet.
fn lacking(offer: &Offer, root: &Path) -> io::Result<Vec<Lacking>> {
    let mut lacking = Vec::new();
    for (number, file) in (0..).zip(&offer.files) {
        let path = root.join(safe_path(&file.path)?);
        if std::fs::metadata(&path).map_or(true, |found| found.len() != file.bytes) {
            lacking.push(Lacking { number, path, bytes: file.bytes });
        }
    }
    Ok(lacking)
}

/// Receives the files of an offered snapshot that are lacking. They are on disk when this returns.
pub(super) async fn receive_snapshot<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    offer: &Offer,
    lacking: &[Lacking],
    store: &SnapshotStore,
) -> io::Result<SnapshotDir> {
    let root = store.incoming(offer.id);
    std::fs::create_dir_all(&root)?;
    let numbers: Vec<u32> = lacking.iter().map(|file| file.number).collect();
    in_time(PATIENCE, send(stream, Kind::Answer, &numbers)).await?;
    for file in lacking {
        receive_file(stream, &file.path, file.bytes).await?;
    }
    blocking(|| {
        sync_tree(&root)?;
        store.received((offer.id, offer.needs), &offer.files)
    })
}

/// A path below the snapshot's directory and nowhere else.
fn safe_path(path: &str) -> io::Result<PathBuf> {
    let path = PathBuf::from(path);
    let inside = path.components().all(|component| matches!(component, Component::Normal(_)));
    if inside && path.file_name().is_some() {
        return Ok(path);
    }
    Err(invalid(format!("the offered file {} would be outside the snapshot", path.display())))
}

async fn receive_file<S: AsyncRead + Unpin>(stream: &mut S, path: &Path, bytes: u64) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut part_name = path.as_os_str().to_owned();
    part_name.push(".part");
    let part_path = PathBuf::from(part_name);
    let mut file = File::create(&part_path)?;
    let mut left = bytes;
    while left > 0 {
        let frame = in_time(PATIENCE, receive(stream, CHUNK_BYTES + 16)).await?;
        let chunk = checked_chunk(frame.kind, &frame.body)?;
        left =
            left.checked_sub(chunk.len() as u64).ok_or_else(|| invalid("a file is longer than announced"))?;
        blocking(|| file.write_all(chunk))?;
    }
    blocking(|| file.sync_all())?;
    std::fs::rename(&part_path, path)
}

fn checked_chunk(kind: Kind, body: &[u8]) -> io::Result<&[u8]> {
    let Some((crc, chunk)) = body.split_at_checked(4).filter(|(_, chunk)| !chunk.is_empty()) else {
        return Err(invalid("a chunk without contents"));
    };
    if kind != Kind::SnapshotChunk || crc != crc32fast::hash(chunk).to_le_bytes() {
        return Err(invalid("a chunk of a snapshot was damaged in transit"));
    }
    Ok(chunk)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_the_snapshot_are_accepted() {
        assert!(safe_path("000012.sst").is_ok());
        assert!(safe_path("runs/7").is_ok());
        for bad in ["", "..", "../x", "/etc/passwd", "a/../../x", "."] {
            assert!(safe_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_damaged_chunk_is_refused() {
        let mut body = crc32fast::hash(b"abc").to_le_bytes().to_vec();
        body.extend_from_slice(b"abc");
        assert_eq!(checked_chunk(Kind::SnapshotChunk, &body).unwrap(), b"abc");
        body[5] ^= 1;
        assert!(checked_chunk(Kind::SnapshotChunk, &body).is_err());
        assert!(checked_chunk(Kind::SnapshotChunk, &body[..4]).is_err());
    }
}
