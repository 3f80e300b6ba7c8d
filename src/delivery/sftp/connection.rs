//! An SSH connection to a server that has proved to be the right one, by a user that it has let in.

use super::SftpOptions;
use super::session::Session;
use super::within::within;
use crate::causes::chain;
use crate::delivery::Timeouts;
use crate::delivery::error::{DeliveryError, ErrorClass, Place};
use crate::key_files::{KeyFileError, read_secret};
use russh::client::{self, AuthResult, Handle};
use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate,
    decode_secret_key,
};
use russh::{ChannelMsg, Disconnect, Preferred};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A silent server is probed at this interval; three probes without an answer end the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the end of a connection is waited for: nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Keys by which a server may prove who it is. RSA is not among them: the crate that could check it has a known leak.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    /// The server showed a key that is not pinned.
    #[error("the server's key has the fingerprint {0}")]
    HostKey(String),
    /// Anything else.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

/// Lets in the server whose key is pinned.
struct Pinned(Vec<String>);

impl client::Handler for Pinned {
    type Error = SshError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        let found = shown.public_key().fingerprint(HashAlg::Sha256).to_string();
        if self.0.contains(&found) { Ok(true) } else { Err(SshError::HostKey(found)) }
    }
}

/// An authenticated connection.
pub(super) struct Connection<'a> {
    place: &'a Place,
    options: &'a SftpOptions,
    ssh: Handle<Pinned>,
}

impl<'a> Connection<'a> {
    /// Connects, checks who the server is, and proves who this side is.
    pub(super) async fn open(options: &'a SftpOptions, place: &'a Place) -> Result<Self, DeliveryError> {
        let keys = usable_keys(options, place)?;
        let Timeouts { step, .. } = options.timeouts;
        let config = client::Config {
            nodelay: true,
            preferred: Preferred { key: Cow::Borrowed(HOST_KEYS), ..Preferred::DEFAULT },
            keepalive_interval: Some(KEEP_ALIVE),
            inactivity_timeout: Some(step.saturating_mul(2)),
            ..client::Config::default()
        };
        let pinned = Pinned(options.host_fingerprints.clone());
        let address = (options.host.as_str(), options.port);
        let connected = client::connect(Arc::new(config), address, pinned);
        let ssh =
            within(place, step, "connecting", connected).await?.map_err(|e| refused(options, place, &e))?;
        let mut connection = Self { place, options, ssh };
        within(place, step, "authentication", connection.authenticate(keys)).await??;
        Ok(connection)
    }

    /// Presents one key after another; each is offered only once.
    async fn authenticate(&mut self, keys: Vec<(&Path, PrivateKey)>) -> Result<(), DeliveryError> {
        let mut shown = Vec::new();
        for (path, key) in keys {
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
            let answer = self.ssh.authenticate_publickey(self.options.user.clone(), key).await;
            match answer.map_err(|e| refused(self.options, self.place, &e.into()))? {
                AuthResult::Success => {
                    if !shown.is_empty() {
                        tracing::info!(refused = ?shown, accepted = %path.display(), "the server took a later key");
                    }
                    return Ok(());
                }
                AuthResult::Failure { partial_success: true, .. } => {
                    let what = format!("the server wants more than the key {}", path.display());
                    return Err(self.place.error(ErrorClass::PermissionDenied, what));
                }
                AuthResult::Failure { .. } => shown.push(path.display().to_string()),
            }
        }
        let what = format!(
            "the server accepts none of the keys {1} of user {0}",
            self.options.user,
            shown.join(", ")
        );
        Err(self.place.error(ErrorClass::PermissionDenied, what))
    }

    /// Opens the file transfer subsystem.
    pub(super) async fn sftp(&self) -> Result<Session<'_>, DeliveryError> {
        let (place, step) = (self.place, self.options.timeouts.step);
        let failed = |e: russh::Error| refused(self.options, place, &e.into());
        let opened = within(place, step, "opening a channel", self.ssh.channel_open_session()).await?;
        let mut channel = opened.map_err(failed)?;
        let granted = async {
            channel.request_subsystem(true, "sftp").await?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(true),
                    Some(ChannelMsg::Failure) => return Ok(false),
                    Some(_) => {}
                    None => return Err(russh::Error::HUP),
                }
            }
        };
        if !within(place, step, "asking for SFTP", granted).await?.map_err(failed)? {
            let what = format!("the server grants user {} no SFTP", self.options.user);
            return Err(place.error(ErrorClass::PermissionDenied, what));
        }
        Session::begin(self.options, place, channel.into_stream()).await
    }

    /// Says goodbye and waits for the end of the connection, so that none stays behind.
    pub(super) async fn close(self) {
        let goodbye = async {
            let _ = self.ssh.disconnect(Disconnect::ByApplication, "", "en").await;
            let _ = self.ssh.await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Reads a private key; RSA is not supported.
pub(super) fn read_key(place: &Place, path: &Path) -> Result<PrivateKey, DeliveryError> {
    let setup = |error: KeyFileError| place.error(ErrorClass::Setup, error.to_string());
    let unusable = |why: String| setup(KeyFileError::new(path, &why));
    let text = read_secret(path).map_err(setup)?;
    let key = decode_secret_key(&text, None).map_err(|e| unusable(chain(&e)))?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        other => Err(unusable(format!("it is a key of type {other}; Ed25519 and ECDSA can be used"))),
    }
}

/// The keys that can be used now: while keys are exchanged, one of them may be missing.
fn usable_keys<'a>(
    options: &'a SftpOptions,
    place: &Place,
) -> Result<Vec<(&'a Path, PrivateKey)>, DeliveryError> {
    let mut usable = Vec::new();
    let mut first_problem = None;
    for path in &options.key_files {
        match read_key(place, path) {
            Ok(key) => usable.push((path.as_path(), key)),
            Err(error) => {
                tracing::warn!(%error, "a client key is ignored");
                first_problem.get_or_insert(error);
            }
        }
    }
    match first_problem {
        Some(error) if usable.is_empty() => Err(error),
        _ => Ok(usable),
    }
}

/// The error of a connection that did not come about or broke.
fn refused(options: &SftpOptions, place: &Place, error: &SshError) -> DeliveryError {
    let pinned = || options.host_fingerprints.join(", ");
    match error {
        SshError::HostKey(found) => {
            let what = format!("the server's key has the fingerprint {found}; pinned are {}", pinned());
            place.error(ErrorClass::HostKeyChanged, what)
        }
        SshError::Ssh(russh::Error::WrongServerSig) => {
            let what = format!("the server can't prove that it has one of the keys {}", pinned());
            place.error(ErrorClass::HostKeyChanged, what)
        }
        SshError::Ssh(error @ russh::Error::NoCommonAlgo { .. }) => place
            .error(ErrorClass::Setup, format!("no encrypted connection can be agreed on: {}", chain(error))),
        SshError::Ssh(error) => {
            place.error(ErrorClass::Unreachable, format!("no connection: {}", chain(error)))
        }
    }
}
