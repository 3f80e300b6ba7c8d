//! The regulator's SFTP server as the receiver (US-CDR-013).
//!
//! Every attempt has a connection of its own: the server's key must be one of the pinned ones, then this side's keys are
//! shown in their order, so that for a while two are in use. The only place that names the SSH crates.

mod connection;
mod session;
mod within;

use super::error::{ChannelKind, DeliveryError, ErrorClass, Place};
use super::parcel::Parcel;
use super::{Channel, Receipt, Timeouts, drop};
use crate::config;
use connection::Connection;
use futures::future::BoxFuture;
use std::path::PathBuf;

/// What is to be known about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpOptions {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name there.
    pub user: String,
    /// Directory of the drop, relative to where the server lets the user in; empty for that place itself.
    pub directory: String,
    /// SHA-256 fingerprints of the keys that the server may show, in OpenSSH's form `SHA256:...`.
    pub host_fingerprints: Vec<String>,
    /// Files of this side's private keys (OpenSSH or PKCS#8, Ed25519 or ECDSA, without passphrase), in the order in which
    /// they are tried.
    pub key_files: Vec<PathBuf>,
    /// How long steps may take.
    pub timeouts: Timeouts,
}

impl SftpOptions {
    pub(super) fn of(config: &config::Delivery) -> Self {
        Self {
            host: config.sftp_host.clone(),
            port: config.sftp_port,
            user: config.sftp_user.clone(),
            directory: config.sftp_directory.clone(),
            host_fingerprints: config.sftp_host_fingerprints.clone(),
            key_files: config.sftp_key_files.clone(),
            timeouts: config.into(),
        }
    }

    fn place(&self) -> Place {
        let Self { user, host, port, directory, .. } = self;
        let slash = if directory.is_empty() || directory.starts_with('/') { "" } else { "/" };
        Place { channel: ChannelKind::Sftp, name: format!("sftp://{user}@{host}:{port}{slash}{directory}") }
    }
}

/// Delivers by SFTP.
#[derive(Debug)]
pub struct Sftp {
    options: SftpOptions,
    place: Place,
}

impl Sftp {
    /// The channel to a server; it connects when something is delivered.
    ///
    /// # Errors
    /// [`DeliveryError`] of class [`ErrorClass::Setup`] if one of the keys can't be used.
    pub fn new(options: SftpOptions) -> Result<Self, DeliveryError> {
        let place = options.place();
        if options.key_files.is_empty() || options.host_fingerprints.is_empty() {
            let what = "a client key and a fingerprint of the host's key are needed";
            return Err(place.error(ErrorClass::Setup, what));
        }
        for path in &options.key_files {
            connection::read_key(&place, path)?;
        }
        Ok(Self { options, place })
    }
}

impl Channel for Sftp {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Sftp
    }

    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Box::pin(async move {
            let connection = Connection::open(&self.options, &self.place).await?;
            let session = connection.sftp().await?;
            let delivered = drop::deliver(&session, parcel).await;
            std::mem::drop(session);
            connection.close().await;
            Ok(Receipt {
                channel: ChannelKind::Sftp,
                receipt_id: None,
                already_there: delivered?,
                sha256: *parcel.file.sha256(),
            })
        })
    }
}
