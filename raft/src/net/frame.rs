//! Frames: length, kind, body.

use crate::codec::{self, MAX_ENCODED_BYTES};
use serde::Serialize;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before a frame's body.
const HEADER_BYTES: usize = 5;

/// Memory that is allocated for a frame before any of it has arrived; then it grows with what has arrived, in bytes.
const FIRST_BYTES: usize = 64 << 10;

/// How long the rest of a frame may take once it has begun, and how long a peer may take to accept one.
pub(super) const FRAME_WITHIN: Duration = Duration::from_secs(10);

/// An append with entries is never longer, in bytes: one command may be that large, several are a megabyte together.
const STREAM_BYTES: usize = 20 << 20;

/// A forwarded request, with everything that a caller sent, is never longer, in bytes.
const QUESTION_BYTES: usize = 4 << 20;

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
    Condition = 16,
}

impl Kind {
    /// How long a frame of this kind may be, in bytes, where it is the first one of a connection or of its lane.
    pub(super) fn limit(self) -> usize {
        match self {
            Kind::Ask => QUESTION_BYTES,
            Kind::SnapshotOffer => 4 << 20,
            Kind::SnapshotChunk => (1 << 20) + 16,
            _ => 4 << 10,
        }
    }

    fn from_byte(byte: u8) -> io::Result<Self> {
        const ALL: [Kind; 16] = [
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
            Kind::Condition,
        ];
        let found = ALL.into_iter().find(|kind| *kind as u8 == byte);
        found.ok_or_else(|| invalid(format!("unknown frame kind {byte}")))
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
    write(writer, &finish(frame, kind)?).await
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
    write(writer, &finish(frame, kind)?).await
}

/// TLS keeps what it has encrypted until it is flushed.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, frame: &[u8]) -> io::Result<()> {
    writer.write_all(frame).await?;
    writer.flush().await
}

/// Reads a frame of at most `limit` bytes.
pub(super) async fn receive<R: AsyncRead + Unpin>(reader: &mut R, limit: usize) -> io::Result<Frame> {
    receive_as(reader, |_| limit).await
}

/// Reads an append of a stream.
pub(super) async fn receive_append<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Frame> {
    receive_as(reader, |kind| if kind == Kind::Append { STREAM_BYTES } else { 0 }).await
}

/// Reads a frame of at most as many bytes as `limit` says for its kind. Waits without limit for its first bytes, and
/// uses no more memory than twice what has arrived.
pub(super) async fn receive_as<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: impl Fn(Kind) -> usize,
) -> io::Result<Frame> {
    receive_within(reader, limit, FRAME_WITHIN).await
}

async fn receive_within<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: impl Fn(Kind) -> usize,
    within: Duration,
) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    let read = reader.read(&mut header).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rest = async {
        reader.read_exact(&mut header[read..]).await?;
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = Kind::from_byte(header[4])?;
        let limit = limit(kind);
        if len == 0 || len > limit {
            return Err(invalid(format!("a frame of {len} bytes, {kind:?} (allowed: 1 to {limit})")));
        }
        Ok(Frame { kind, body: body(reader, len - 1).await? })
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the rest of a frame did not arrive in time");
    tokio::time::timeout(within, rest).await.map_err(late)?
}

async fn body<R: AsyncRead + Unpin>(reader: &mut R, len: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(len.min(FIRST_BYTES));
    let mut rest = reader.take(len as u64);
    while body.len() < len {
        if body.len() == body.capacity() {
            body.reserve_exact(body.len().min(len - body.len()));
        }
        if rest.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body)
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

    #[tokio::test]
    async fn an_announced_length_takes_no_memory() {
        let mut begun = u32::MAX.to_le_bytes().to_vec();
        begun.extend_from_slice(&[Kind::Append as u8, 1, 2, 3]);
        assert!(receive(&mut begun.as_slice(), MAX_ENCODED_BYTES).await.is_err(), "over the limit");
        let len = 3 * FIRST_BYTES;
        let whole = vec![7; len];
        assert_eq!(body(&mut whole.as_slice(), len).await.unwrap().capacity(), len);
        assert_eq!(body(&mut whole.as_slice(), len - 1).await.unwrap().len(), len - 1);
        assert!(body(&mut &whole[..10], 20 << 20).await.is_err(), "cut");
    }

    #[tokio::test]
    async fn a_frame_that_has_begun_must_go_on() {
        let (mut near, mut far) = tokio::io::duplex(100);
        near.write_all(&[9, 0]).await.unwrap();
        let received = receive_within(&mut far, |_| 100, Duration::from_millis(50)).await;
        let error = received.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
