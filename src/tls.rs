//! TLS on both sides of HTTP: what is read from files, and what connections are built with. The provider is named here,
//! because another part of the product brings one of its own.

use crate::key_files::{KeyFileError, read_public, read_secret};
use cdr_raft::Credentials;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, Error, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// What a server that demands certificates needs, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, with what leads to the root.
    pub cert: PathBuf,
    /// Private key of the certificate, mode 0600.
    pub key: PathBuf,
    /// Certificates that clients' certificates must descend from.
    pub client_ca: PathBuf,
}

/// What a replica presents to the others, and which authorities it trusts, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFiles {
    /// Certificates that every replica's certificate must descend from.
    pub ca: PathBuf,
    /// Its certificate, with what leads to the root.
    pub cert: PathBuf,
    /// Private key of the certificate, mode 0600.
    pub key: PathBuf,
}

impl ReplicaFiles {
    /// Reads the files as they are now.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(&self) -> Result<Credentials, KeyFileError> {
        let (authorities, chain) = (certificates(&self.ca)?, certificates(&self.cert)?);
        Ok(Credentials { authorities, chain, key: private_key(&self.key)? })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// A client that trusts `roots`; what it shows of itself is still open.
///
/// # Errors
/// If the provider offers no usable version of TLS.
pub fn client(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(provider());
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// Lets in only who shows a certificate that descends from `files.client_ca` and is in force.
fn server(files: &ServerFiles) -> Result<ServerConfig, KeyFileError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&files.client_ca)?), provider())
            .build()
            .map_err(|e| KeyFileError::new(&files.client_ca, &e))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| KeyFileError::new(&files.cert, &e))?;
    let (chain, key) = (certificates(&files.cert)?, private_key(&files.key)?);
    let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key);
    config.map_err(|e| KeyFileError::new(&files.cert, &format!("with its key: {e}")))
}

/// A connection of a [`Server`].
pub type Secured = TlsStream<TcpStream>;

/// How a server secures connections: as its files said when they were read last.
#[derive(Debug)]
pub struct Server {
    files: ServerFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn open(files: ServerFiles) -> Result<Self, KeyFileError> {
        let config = RwLock::new(Arc::new(server(&files)?));
        Ok(Self { files, config })
    }

    /// Reads the files again, for connections from now on. If that fails, what is in use stays.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn reload(&self) -> Result<(), KeyFileError> {
        let config = Arc::new(server(&self.files)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Secures a connection, and returns what its other end has presented; none if that has no usable name.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Secured, Option<ClientCertificate>)> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.and_then(ClientCertificate::read);
        Ok((stream, certificate))
    }
}

/// This system's root certificates, none if it has none that can be read.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The certificates of a file, each as a root.
///
/// # Errors
/// [`KeyFileError`].
pub fn roots(path: &Path) -> Result<RootCertStore, KeyFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| KeyFileError::new(path, &e))?;
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
///
/// # Errors
/// [`KeyFileError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyFileError> {
    let text = read_public(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(KeyFileError::new(path, "it holds no certificate in PEM")),
        Err(e) => Err(KeyFileError::new(path, &e)),
    }
}

/// The private key of a file.
///
/// # Errors
/// [`KeyFileError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, KeyFileError> {
    // The parser's words could hold a part of the key.
    PrivateKeyDer::from_pem_slice(read_secret(path)?.as_bytes())
        .map_err(|_| KeyFileError::new(path, "it holds no private key in PEM"))
}

/// Whose a client's certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The common name.
    pub name: String,
    /// When it ends, seconds since the Unix epoch.
    pub not_after: u64,
}

impl ClientCertificate {
    /// Reads a certificate; none if it does not have exactly one common name.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let mut names = parsed.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?.to_owned();
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        names.next().is_none().then_some(Self { name, not_after })
    }
}
