//! Files to deliver, some of which wait in the middle until the test lets them go on.

use bytes::Bytes;
use cdr_core::hash::sha256;
use cdr_mediation::delivery::{Item, Parcel, Source, Timeouts};
use futures::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{Notify, Semaphore};

pub const NAME: &str = "TAP_4120101_ATRA_00000001.20260420.tap";
pub const SIGNATURE: &str = "TAP_4120101_ATRA_00000001.20260420.tap.sig";
pub const SIGNED: &[u8] = b"KeyId: cdr-export-signer-v1\nAlgorithm: Ed25519\n";

/// Patient enough for a busy machine.
pub const PATIENT: Timeouts = Timeouts { step: Duration::from_secs(30), answer: Duration::from_secs(30) };
/// For counterparts that never answer.
pub const BRIEF: Timeouts = Timeouts { step: Duration::from_secs(2), answer: Duration::from_secs(2) };

/// Bytes without a pattern that a lost or doubled piece could hide in.
pub fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// A file and its signature.
pub fn parcel(bytes: &[u8]) -> Parcel {
    let file = Item::bytes(NAME, Bytes::copy_from_slice(bytes)).unwrap();
    let signature = Item::bytes(SIGNATURE, Bytes::from_static(SIGNED)).unwrap();
    Parcel { file, sidecars: vec![signature] }
}

/// A file that stops in the middle when it is read for the first time.
pub struct Gate {
    bytes: Bytes,
    stop_at: u64,
    reached: Notify,
    open: Semaphore,
}

impl Gate {
    pub fn new(bytes: &[u8], stop_at: u64) -> Arc<Self> {
        let bytes = Bytes::copy_from_slice(bytes);
        Arc::new(Self { bytes, stop_at, reached: Notify::new(), open: Semaphore::new(0) })
    }

    pub fn parcel(self: &Arc<Self>) -> Parcel {
        let file = Item::new(NAME, Arc::new(Gated(self.clone())), sha256(&self.bytes)).unwrap();
        Parcel { file, ..parcel(b"") }
    }

    /// Waits until the file is read up to the gate.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets this and every later reader through.
    pub fn open(&self) {
        self.open.close();
    }
}

struct Gated(Arc<Gate>);

impl Source for Gated {
    fn len(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
        let gate = self.0.clone();
        let (before, after) =
            (gate.bytes.slice(..gate.stop_at as usize), gate.bytes.slice(gate.stop_at as usize..));
        let wait = async move {
            gate.reached.notify_one();
            // It is never released, only closed.
            let _ = gate.open.acquire().await;
        };
        let reader = io::Cursor::new(before).chain(Waiting(Box::pin(wait))).chain(io::Cursor::new(after));
        Box::pin(async move { Ok(Box::new(reader) as Box<dyn AsyncRead + Send + Unpin>) })
    }
}

/// Ends, without a byte, when its future does.
struct Waiting(Pin<Box<dyn Future<Output = ()> + Send>>);

impl AsyncRead for Waiting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}
