//! The encrypted channel to a service, on which both sides show certificates.

use crate::causes::chain;
use crate::pricing::PricingError;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// An idle connection is probed at this interval, so that a dead one is noticed before it is needed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Files of mutual TLS, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates from which the service's must descend.
    pub ca_file: PathBuf,
    /// This client's certificate.
    pub cert_file: PathBuf,
    /// Private key of the certificate.
    pub key_file: PathBuf,
}

/// When each file was last changed, where that is known.
type Changed = [Option<SystemTime>; 3];

/// Makes the channel, and makes it again when a file has changed, so that certificates can be exchanged while it runs.
#[derive(Debug)]
pub(super) struct Connector {
    endpoint: String,
    files: TlsFiles,
    deadline: Duration,
    current: Mutex<(Changed, Channel)>,
}

impl Connector {
    /// A connector to `https://host:port`; it connects when it is used.
    ///
    /// # Errors
    /// [`PricingError`] if a file can't be read or holds nothing usable.
    pub(super) fn new(endpoint: &str, files: &TlsFiles, deadline: Duration) -> Result<Self, PricingError> {
        let changed = files.changed();
        let channel = connect(endpoint, files, deadline)?;
        let current = Mutex::new((changed, channel));
        Ok(Self { endpoint: endpoint.to_owned(), files: files.clone(), deadline, current })
    }

    /// The channel with the files as they are now; as they were if they can't be used now.
    pub(super) fn channel(&self) -> Channel {
        let changed = self.files.changed();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != changed {
            match connect(&self.endpoint, &self.files, self.deadline) {
                Ok(channel) => {
                    tracing::info!(endpoint = self.endpoint, "certificates have changed: reconnecting");
                    *current = (changed, channel);
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificates can't be used: the previous ones stay in use");
                    current.0 = changed;
                }
            }
        }
        current.1.clone()
    }
}

impl TlsFiles {
    fn changed(&self) -> Changed {
        [&self.ca_file, &self.cert_file, &self.key_file]
            .map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
    }
}

fn connect(endpoint: &str, files: &TlsFiles, deadline: Duration) -> Result<Channel, PricingError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| PricingError::File { path: path.clone(), source })
    };
    let unusable = |why: String| PricingError::Endpoint { endpoint: endpoint.to_owned(), why };
    let identity = Identity::from_pem(read(&files.cert_file)?, read(&files.key_file)?);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca_file)?))
        .identity(identity);
    let endpoint = Endpoint::from_shared(endpoint.to_owned())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|e| unusable(chain(&e)))?;
    Ok(endpoint
        .connect_timeout(deadline)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(deadline)
        .keep_alive_while_idle(true)
        .connect_lazy())
}
