//! What is delivered: a file with its sidecars, read piece by piece and hashed on the way out.

use bytes::{Bytes, BytesMut};
use cdr_core::Hash;
use cdr_core::hash::to_hex;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Ending of the name that a file has while it is written (US-CDR-013).
pub const TEMPORARY: &str = ".tmp";

/// Longest name; with [`TEMPORARY`] every file system can hold it.
const MAX_NAME: usize = 200;

/// Bytes that can be read repeatedly.
pub trait Source: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from the first one on.
    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn AsyncRead + Send + Unpin>>>;
}

/// A file of this machine.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: PathBuf,
    len: u64,
}

impl FileSource {
    /// The file at `path`, of the size that it has now.
    ///
    /// # Errors
    /// If it does not exist or is not a file.
    pub async fn new(path: PathBuf) -> io::Result<Self> {
        let metadata = tokio::fs::metadata(&path).await?;
        if !metadata.is_file() {
            return Err(io::Error::other(format!("{} is no file", path.display())));
        }
        Ok(Self { path, len: metadata.len() })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
        Box::pin(async move {
            let file = tokio::fs::File::open(&self.path).await?;
            Ok(Box::new(file) as Box<dyn AsyncRead + Send + Unpin>)
        })
    }
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
        let reader = io::Cursor::new(self.clone());
        Box::pin(async move { Ok(Box::new(reader) as Box<dyn AsyncRead + Send + Unpin>) })
    }
}

/// A name under which nothing can be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a delivered file: 1 to 200 visible ASCII characters without / and \", not beginning with a dot, not ending with .tmp"
)]
pub struct BadName(pub String);

/// One file as the receiver will hold it.
#[derive(Clone)]
pub struct Item {
    name: String,
    source: Arc<dyn Source>,
    sha256: Hash,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes, SHA-256 {})", self.name, self.source.len(), to_hex(&self.sha256))
    }
}

impl Item {
    /// A file named `name`, whose bytes come from `source` and have this SHA-256. Bytes that have not are never delivered.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn new(name: &str, source: Arc<dyn Source>, sha256: Hash) -> Result<Self, BadName> {
        let plain = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'"')
            && !name.starts_with('.')
            && !name.ends_with(TEMPORARY);
        if !plain {
            return Err(BadName(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), source, sha256 })
    }

    /// A small file that is in memory.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn bytes(name: &str, bytes: Bytes) -> Result<Self, BadName> {
        let sha256 = cdr_core::hash::sha256(&bytes);
        Self::new(name, Arc::new(bytes), sha256)
    }

    /// Its final name at the receiver.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// True if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// SHA-256 of its bytes.
    pub fn sha256(&self) -> &Hash {
        &self.sha256
    }

    /// Its name while it is written.
    pub(super) fn temporary_name(&self) -> String {
        format!("{}{TEMPORARY}", self.name)
    }

    /// Begins to read it.
    pub(super) async fn read(&self) -> Result<Reading, ReadError> {
        let reader = self.source.open().await.map_err(|e| ReadError::Io(e.to_string()))?;
        Ok(Reading { reader, hasher: Sha256::new(), expected: self.sha256, len: self.len(), read: 0 })
    }
}

/// A file and what goes with it.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The file.
    pub file: Item,
    /// Its signature (`.sig`) and whatever else the receiver gets beside it, in the order of delivery.
    pub sidecars: Vec<Item>,
}

/// Why the bytes of a file can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// They can't be read.
    #[error("{0}")]
    Io(String),
    /// They are not those that were signed.
    #[error("it has {0}")]
    Damaged(String),
}

/// The bytes of an [`Item`] on their way out. The last piece is handed out only if all of them together have the right
/// length and hash, so that a damaged file never leaves this machine whole.
pub(super) struct Reading {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    hasher: Sha256,
    expected: Hash,
    len: u64,
    read: u64,
}

impl Reading {
    /// The next piece, of `size` bytes except the last one; `None` at the end.
    pub(super) async fn next(&mut self, size: usize) -> Result<Option<Bytes>, ReadError> {
        let wanted = (self.len - self.read).min(size as u64);
        let mut piece = BytesMut::with_capacity(wanted as usize);
        let mut reader = (&mut self.reader).take(wanted);
        while (piece.len() as u64) < wanted {
            let read = reader.read_buf(&mut piece).await.map_err(|e| ReadError::Io(e.to_string()))?;
            if read == 0 {
                let found = self.read + piece.len() as u64;
                return Err(ReadError::Damaged(format!("{found} bytes in place of {}", self.len)));
            }
        }
        self.read += wanted;
        self.hasher.update(&piece);
        if self.read == self.len {
            self.check_end().await?;
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    async fn check_end(&mut self) -> Result<(), ReadError> {
        let beyond = self.reader.read(&mut [0; 1]).await.map_err(|e| ReadError::Io(e.to_string()))?;
        if beyond > 0 {
            return Err(ReadError::Damaged(format!("more than {} bytes", self.len)));
        }
        let found: Hash = self.hasher.clone().finalize().into();
        if found == self.expected {
            return Ok(());
        }
        let (found, expected) = (to_hex(&found), to_hex(&self.expected));
        Err(ReadError::Damaged(format!("SHA-256 {found} in place of {expected}")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::hash::sha256;
    use proptest::prelude::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn all(item: &Item, size: usize) -> Result<Vec<u8>, ReadError> {
        let mut reading = item.read().await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reading.next(size).await? {
            assert!(piece.len() <= size);
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(reading.next(size).await?, None, "the end stays the end");
        Ok(bytes)
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_file(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1..64usize) {
            let item = Item::bytes("a.tap", Bytes::from(bytes.clone())).unwrap();
            prop_assert_eq!(run(all(&item, size)).unwrap(), bytes);
        }

        #[test]
        fn a_changed_byte_keeps_the_last_piece_back(
            bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), size in 1..64usize,
        ) {
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1;
            let item = Item::new("a.tap", Arc::new(Bytes::from(changed)), sha256(&bytes)).unwrap();
            prop_assert!(matches!(run(all(&item, size)), Err(ReadError::Damaged(_))));
        }
    }

    /// A source that says another length than it has.
    struct Wrong(Bytes, u64);

    impl Source for Wrong {
        fn len(&self) -> u64 {
            self.1
        }

        fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
            self.0.open()
        }
    }

    #[test]
    fn a_file_of_another_length_is_damaged() {
        let bytes = Bytes::from_static(b"twelve bytes");
        for (len, why) in [
            (13, "it has 12 bytes in place of 13"),
            (11, "it has more than 11 bytes"),
            (0, "it has more than 0 bytes"),
        ] {
            let item = Item::new("a.tap", Arc::new(Wrong(bytes.clone(), len)), sha256(&bytes)).unwrap();
            assert_eq!(run(all(&item, 5)).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let long = "a".repeat(201);
        for name in ["", ".", "..", "../a", "a/b", ".a", "a.tmp", "a b", "a\n", "a\"b", "ä.tap", &long] {
            assert_eq!(Item::bytes(name, Bytes::new()).unwrap_err(), BadName(name.to_owned()));
        }
        let item = Item::bytes("TAP_4120101_ATRA_00000001.20260420.tap", Bytes::new()).unwrap();
        assert_eq!(item.temporary_name(), "TAP_4120101_ATRA_00000001.20260420.tap.tmp");
    }
}
