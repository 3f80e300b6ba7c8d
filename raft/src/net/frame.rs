//! Frames: length, kind, body.

use crate::codec::{self, MAX_ENCODED_BYTES};
use serde::Serialize;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before a frame's body.
const HEADER_BYTES: usize = 5;

/// What a frame is. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Welcome = 2,
    Append = 3,
    Vote = 4,
    PreVote = 5,
    TransferLeader = 6,
    OpenStream = 7,
    ReadIndex = 8,
    Clock = 9,
    SnapshotOffer = 10,
    SnapshotChunk = 11,
    Answer = 12,
    Failed = 13,
    Ask = 14,
    Refused = 15,
}

impl Kind {
    fn from_byte(byte: u8) -> io::Result<Self> {
        const ALL: [Kind; 15] = [
            Kind::Hello,
            Kind::Welcome,
            Kind::Append,
            Kind::Vote,
            Kind::PreVote,
            Kind::TransferLeader,
            Kind::OpenStream,
            Kind::ReadIndex,
            Kind::Clock,
            Kind::SnapshotOffer,
            Kind::SnapshotChunk,
            Kind::Answer,
            Kind::Failed,
            Kind::Ask,
            Kind::Refused,
        ];
        let found = ALL.into_iter().find(|kind| *kind as u8 == byte);
        found.ok_or_else(|| invalid(format!("frames of kind {byte} are not known")))
    }
}

/// A frame that was read.
pub(super) struct Frame {
    pub kind: Kind,
    pub body: Vec<u8>,
}

pub(super) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

fn finish(mut frame: Vec<u8>, kind: Kind) -> io::Result<Vec<u8>> {
    let len = frame.len() - 4;
    if len > MAX_ENCODED_BYTES {
        return Err(invalid(format!("a frame of {len} bytes is over the limit of {MAX_ENCODED_BYTES}")));
    }
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    frame[4] = kind as u8;
    Ok(frame)
}

/// Sends a value.
pub(super) async fn send<W: AsyncWrite + Unpin, T: Serialize>(
    writer: &mut W,
    kind: Kind,
    value: &T,
) -> io::Result<()> {
    let mut frame = vec![0; HEADER_BYTES];
    codec::encode_into(value, &mut frame)?;
    writer.write_all(&finish(frame, kind)?).await
}

/// Sends bytes that are not encoded.
pub(super) async fn send_raw<W: AsyncWrite + Unpin>(
    writer: &mut W,
    kind: Kind,
    parts: &[&[u8]],
) -> io::Result<()> {
    let mut frame = vec![0; HEADER_BYTES];
    for part in parts {
        frame.extend_from_slice(part);
    }
    writer.write_all(&finish(frame, kind)?).await
}

/// Reads a frame of at most `limit` bytes.
pub(super) async fn receive<R: AsyncRead + Unpin>(reader: &mut R, limit: usize) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).await?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if len == 0 || len > limit {
        return Err(invalid(format!("a frame of {len} bytes (allowed: 1 to {limit})")));
    }
    let kind = Kind::from_byte(header[4])?;
    let mut body = vec![0; len - 1];
    reader.read_exact(&mut body).await?;
    Ok(Frame { kind, body })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn golden_bytes() {
        let mut out = Vec::new();
        send(&mut out, Kind::Clock, &300_u64).await.unwrap();
        assert_eq!(out, [5, 0, 0, 0, 9, 1, 251, 44, 1]);
    }

    #[tokio::test]
    async fn a_frame_is_read_back_and_a_bad_one_refused() {
        let mut out = Vec::new();
        send_raw(&mut out, Kind::SnapshotChunk, &[b"ab", b"c"]).await.unwrap();
        let frame = receive(&mut out.as_slice(), 100).await.unwrap();
        assert_eq!((frame.kind, frame.body.as_slice()), (Kind::SnapshotChunk, b"abc".as_slice()));

        assert!(receive(&mut out.as_slice(), 3).await.is_err(), "too long");
        assert!(receive(&mut &out[..6], 100).await.is_err(), "cut");
        assert!(receive(&mut [0; 5].as_slice(), 100).await.is_err(), "no kind");
        assert!(receive(&mut [1, 0, 0, 0, 99].as_slice(), 100).await.is_err(), "unknown kind");
    }
}
