//! Mutual TLS: what is read from files, and what refusals mean.

use crate::causes::chain;
use crate::delivery::error::{DeliveryError, ErrorClass, Place};
use crate::key_files::KeyFileError;
use crate::tls;
use reqwest::Url;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
pub(super) use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription};

/// Longest time within which a receiver that refuses a certificate reports it.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// Files of mutual TLS, PEM.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl TlsFiles {
    /// Reads the files as they are now.
    pub(super) fn load(&self, place: &Place) -> Result<ClientConfig, DeliveryError> {
        let setup = |what: String| place.error(ErrorClass::Setup, what);
        let unusable = |error: KeyFileError| setup(error.to_string());
        let roots = match &self.ca {
            Some(path) => tls::roots(path).map_err(unusable)?,
            None => tls::system_roots(),
        };
        if roots.is_empty() {
            let what =
                "this system has no root certificates: install ca-certificates, or set delivery.rest_ca_file";
            return Err(setup(what.to_owned()));
        }
        let chain = tls::certificates(&self.cert).map_err(unusable)?;
        let key = tls::private_key(&self.key).map_err(unusable)?;
        let builder = tls::client(roots).map_err(|e| setup(format!("TLS can't be used: {e}")))?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map_err(|e| unusable(KeyFileError::new(&self.cert, &format!("with its key: {e}"))))
    }
}

/// Connects without asking for anything, and listens whether the receiver refuses this side's certificate.
pub(super) async fn ask(url: &Url, config: ClientConfig, step: Duration) -> Option<String> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    let port = url.port_or_known_default()?;
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let refusal = async {
        let stream = TcpStream::connect((host, port)).await?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        // With TLS 1.3 the handshake is done on this side before the receiver has checked the certificate.
        stream.read(&mut [0; 1]).await
    };
    match tokio::time::timeout(step.min(REFUSED_WITHIN), refusal).await {
        Ok(Err(error)) => refusal_of(&error),
        _ => None,
    }
}

/// The refusal of a certificate or of encryption among an error's causes.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(refusal_of) {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return means_refusal(found).then(|| chain(found));
        }
        cause = error.source();
    }
    None
}

/// An IO error carries what TLS said inside, where `source` does not lead.
fn refusal_of(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(found) => means_refusal(found).then(|| chain(found)),
        None => inner.downcast_ref::<io::Error>().and_then(refusal_of),
    }
}

/// True for what a person has to correct; a connection that just breaks does not count.
fn means_refusal(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::AlertReceived(alert) => !matches!(
            alert,
            AlertDescription::CloseNotify | AlertDescription::InternalError | AlertDescription::UserCanceled
        ),
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidMessage(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::UnsupportedNameType
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::PeerMisbehaved(_) => true,
        _ => false,
    }
}
