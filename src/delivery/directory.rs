//! A directory of this machine as the receiver: what development uses in place of the regulator's drop.

use super::drop::{self, Renamed, Store, unread};
use super::error::{ChannelKind, DeliveryError, ErrorClass, Place};
use super::parcel::{Item, Parcel, Reading};
use super::{Channel, Receipt};
use cdr_core::Hash;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes read and written at once.
const PIECE: usize = 256 << 10;

/// Files put into a directory, synced with it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    place: Place,
}

impl Directory {
    /// The directory at `path`, made with the first delivery if it is missing.
    pub fn new(path: &Path) -> Self {
        let place = Place { channel: ChannelKind::Directory, name: path.display().to_string() };
        Self { path: path.to_owned(), place }
    }

    fn failed(&self, name: &str, what: &str, error: &io::Error) -> DeliveryError {
        let class = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ErrorClass::PermissionDenied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => ErrorClass::Full,
            _ => ErrorClass::Unreachable,
        };
        self.place.error(class, format!("{name} can't be {what}: {error}"))
    }

    /// Makes the names in the directory last.
    async fn sync(&self, name: &str) -> Result<(), DeliveryError> {
        let sync = async { File::open(&self.path).await?.sync_all().await };
        sync.await.map_err(|e| self.failed(name, "synced", &e))
    }
}

impl Channel for Directory {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Directory
    }

    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Box::pin(async move {
            fs::create_dir_all(&self.path).await.map_err(|e| self.failed("the directory", "made", &e))?;
            let already_there = drop::deliver(self, parcel).await?;
            Ok(Receipt {
                channel: ChannelKind::Directory,
                receipt_id: None,
                already_there,
                sha256: *parcel.file.sha256(),
            })
        })
    }
}

impl Store for Directory {
    fn place(&self) -> &Place {
        &self.place
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, DeliveryError> {
        match fs::metadata(self.path.join(name)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, "looked for", &e)),
        }
    }

    async fn sha256(&self, name: &str) -> Result<Hash, DeliveryError> {
        let read = async {
            let mut file = File::open(self.path.join(name)).await?;
            let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
            loop {
                match file.read(&mut piece).await? {
                    0 => return Ok(hasher.finalize().into()),
                    read => hasher.update(&piece[..read]),
                }
            }
        };
        read.await.map_err(|e| self.failed(name, "read back", &e))
    }

    async fn write(&self, name: &str, item: &Item, mut reading: Reading) -> Result<(), DeliveryError> {
        let failed = |e: io::Error| self.failed(name, "written", &e);
        let mut file = File::create(self.path.join(name)).await.map_err(failed)?;
        while let Some(piece) = reading.next(PIECE).await.map_err(|e| unread(&self.place, item, &e))? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Renamed, DeliveryError> {
        // A link, unlike a rename, never replaces an existing file.
        match fs::hard_link(self.path.join(from), self.path.join(to)).await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(Renamed::Exists),
            Err(e) => return Err(self.failed(from, &format!("renamed to {to}"), &e)),
        }
        self.remove(from).await?;
        self.sync(to).await?;
        Ok(Renamed::Done)
    }

    async fn remove(&self, name: &str) -> Result<(), DeliveryError> {
        match fs::remove_file(self.path.join(name)).await {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed(name, "removed", &e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
