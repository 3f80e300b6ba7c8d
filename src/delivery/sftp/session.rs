//! Files on the server: an SFTP session as a [`Store`]. Pieces are written and read several at a time, so that distance
//! costs little, and at most a mebibyte is in flight.

use super::SftpOptions;
use super::within::within;
use crate::delivery::drop::{Renamed, Store, unread};
use crate::delivery::error::{DeliveryError, ErrorClass, Place};
use crate::delivery::parcel::{Item, Reading};
use cdr_core::Hash;
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::extensions::{FSYNC, STATVFS};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in one request; every server accepts this many.
const PIECE: u32 = 32 << 10;
/// Requests under way.
const IN_FLIGHT: usize = 32;
/// A server with less space than what is under way is full.
const FULL_BYTES: u64 = PIECE as u64 * IN_FLIGHT as u64;

/// An open SFTP session; dropping it ends it.
pub(super) struct Session<'a> {
    place: &'a Place,
    options: &'a SftpOptions,
    raw: RawSftpSession,
    syncs: bool,
    tells_space: bool,
}

impl<'a> Session<'a> {
    /// Agrees with the server on the protocol.
    pub(super) async fn begin(
        options: &'a SftpOptions,
        place: &'a Place,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, DeliveryError> {
        let step = options.timeouts.step;
        let config = Config { request_timeout_secs: whole_seconds(step), ..Config::default() };
        let raw = RawSftpSession::new_with_config(stream, config);
        let version = within(place, step, "beginning SFTP", raw.init()).await?.map_err(|e| {
            place.error(ErrorClass::Unreachable, format!("SFTP does not begin: {}", message(&e)))
        })?;
        let offers = |extension: &str| version.extensions.contains_key(extension);
        let (syncs, tells_space) = (offers(FSYNC), offers(STATVFS));
        if !syncs {
            tracing::debug!(
                place = place.name,
                "the server can't be asked to sync; closing the file has to suffice"
            );
        }
        Ok(Self { place, options, raw, syncs, tells_space })
    }

    fn path(&self, name: &str) -> String {
        match self.options.directory.trim_end_matches('/') {
            "" if self.options.directory.starts_with('/') => format!("/{name}"),
            "" => name.to_owned(),
            directory => format!("{directory}/{name}"),
        }
    }

    fn failed(&self, name: &str, what: &str, error: &SftpError) -> DeliveryError {
        let class = match status(error) {
            Some(StatusCode::PermissionDenied) => ErrorClass::PermissionDenied,
            Some(StatusCode::OpUnsupported | StatusCode::BadMessage) => ErrorClass::Setup,
            _ => ErrorClass::Unreachable,
        };
        self.place.error(class, format!("{name} can't be {what}: {}", message(error)))
    }

    async fn create(&self, name: &str) -> Result<String, DeliveryError> {
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE;
        match self.raw.open(self.path(name), flags, FileAttributes::empty()).await {
            Ok(opened) => Ok(opened.handle),
            Err(e) if status(&e) == Some(StatusCode::NoSuchFile) => {
                let what = format!("the server has no directory {:?}", self.options.directory);
                Err(self.place.error(ErrorClass::Setup, what))
            }
            Err(e) => Err(self.failed(name, "made", &e)),
        }
    }

    /// Writes all pieces and has them synced.
    async fn fill(
        &self,
        handle: &str,
        name: &str,
        item: &Item,
        mut reading: Reading,
    ) -> Result<(), DeliveryError> {
        let failed = |e: SftpError| self.failed(name, "written", &e);
        let (mut offset, mut under_way) = (0, FuturesUnordered::new());
        while let Some(piece) =
            reading.next(PIECE as usize).await.map_err(|e| unread(self.place, item, &e))?
        {
            if under_way.len() == IN_FLIGHT {
                under_way.try_next().await.map_err(failed)?;
            }
            let length = piece.len() as u64;
            under_way.push(self.raw.write(handle, offset, piece.to_vec()));
            offset += length;
        }
        while under_way.try_next().await.map_err(failed)?.is_some() {}
        if self.syncs {
            self.raw.fsync(handle).await.map_err(|e| self.failed(name, "synced", &e))?;
        }
        Ok(())
    }

    /// A server has one code for everything that fails on its disk; its free space shows whether that is the cause.
    async fn or_full(&self, error: DeliveryError) -> DeliveryError {
        if error.class != ErrorClass::Unreachable || !self.tells_space {
            return error;
        }
        let directory = match self.options.directory.as_str() {
            "" => ".",
            directory => directory,
        };
        match self.raw.statvfs(directory).await {
            Ok(disk) if disk.blocks_avail.saturating_mul(disk.fragment_size) < FULL_BYTES => {
                let free = disk.blocks_avail.saturating_mul(disk.fragment_size);
                let what = format!("{}; the receiver's disk has {free} bytes free", error.what);
                self.place.error(ErrorClass::Full, what)
            }
            _ => error,
        }
    }

    /// The bytes from `offset` on, `length` of them if the file goes so far.
    async fn read(&self, handle: &str, offset: u64, length: u32) -> Result<Vec<u8>, SftpError> {
        let mut bytes = Vec::with_capacity(length as usize);
        // A server may answer with less than was requested.
        while (bytes.len() as u32) < length {
            let (from, missing) = (offset + bytes.len() as u64, length - bytes.len() as u32);
            match self.raw.read(handle, from, missing).await {
                Ok(data) if data.data.is_empty() => break,
                Ok(data) => bytes.extend_from_slice(&data.data),
                Err(e) if status(&e) == Some(StatusCode::Eof) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(bytes)
    }
}

impl Store for Session<'_> {
    fn place(&self) -> &Place {
        self.place
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, DeliveryError> {
        match self.raw.stat(self.path(name)).await {
            Ok(found) => {
                let why = || format!("the server does not report the size of {name}");
                found.attrs.size.map(Some).ok_or_else(|| self.place.error(ErrorClass::Setup, why()))
            }
            Err(e) if status(&e) == Some(StatusCode::NoSuchFile) => Ok(None),
            Err(e) => Err(self.failed(name, "looked for", &e)),
        }
    }

    async fn sha256(&self, name: &str) -> Result<Hash, DeliveryError> {
        let Some(size) = self.size(name).await? else {
            return Err(self.place.error(ErrorClass::Unreachable, format!("{name} is gone")));
        };
        let opened = self.raw.open(self.path(name), OpenFlags::READ, FileAttributes::empty()).await;
        let handle = opened.map_err(|e| self.failed(name, "opened to read it back", &e))?.handle;
        let offsets = (0..size).step_by(PIECE as usize);
        let mut pieces = stream::iter(offsets)
            .map(|offset| self.read(&handle, offset, (size - offset).min(u64::from(PIECE)) as u32))
            .buffered(IN_FLIGHT);
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.next().await {
            hasher.update(piece.map_err(|e| self.failed(name, "read back", &e))?);
        }
        self.raw.close(handle.as_str()).await.map_err(|e| self.failed(name, "closed", &e))?;
        Ok(hasher.finalize().into())
    }

    async fn write(&self, name: &str, item: &Item, reading: Reading) -> Result<(), DeliveryError> {
        let handle = match self.create(name).await {
            Ok(handle) => handle,
            Err(error) => return Err(self.or_full(error).await),
        };
        let filled = self.fill(&handle, name, item, reading).await;
        // A full disk may be reported only when the file is closed.
        let closed = self.raw.close(handle.as_str()).await.map_err(|e| self.failed(name, "closed", &e));
        match filled.and(closed.map(|_| ())) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.or_full(error).await),
        }
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Renamed, DeliveryError> {
        // Plain renaming must not replace a file, but not every server keeps to that.
        if self.size(to).await?.is_some() {
            return Ok(Renamed::Exists);
        }
        match self.raw.rename(self.path(from), self.path(to)).await {
            Ok(_) => Ok(Renamed::Done),
            // The server has no word for "there is one already".
            Err(e) if status(&e).is_some() && self.size(to).await?.is_some() => {
                tracing::debug!(to, error = message(&e), "not renamed");
                Ok(Renamed::Exists)
            }
            Err(e) => Err(self.failed(from, &format!("renamed to {to}"), &e)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), DeliveryError> {
        match self.raw.remove(self.path(name)).await {
            Err(e) if status(&e) != Some(StatusCode::NoSuchFile) => Err(self.failed(name, "removed", &e)),
            _ => Ok(()),
        }
    }
}

/// Time-outs of requests are whole seconds, at least one.
fn whole_seconds(limit: Duration) -> u64 {
    limit.as_millis().div_ceil(1_000).clamp(1, 3_600) as u64
}

fn status(error: &SftpError) -> Option<StatusCode> {
    match error {
        SftpError::Status(status) => Some(status.status_code),
        _ => None,
    }
}

/// What happened, in words; a broken connection shows in several ways.
fn message(error: &SftpError) -> String {
    match error {
        SftpError::Status(status) if status.error_message.is_empty() => status.status_code.to_string(),
        SftpError::Status(status) => format!("the server says {:?}", status.error_message),
        SftpError::Timeout => "the server did not answer in time".to_owned(),
        SftpError::UnexpectedBehavior(how) => format!("the connection was lost ({how})"),
        other => other.to_string(),
    }
}
