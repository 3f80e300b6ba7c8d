//! Who is at the other end: TLS 1.3 between replicas, on both sides with a certificate that names the node.
//!
//! A certificate is for one node of one cluster by its DNS name, `node-<id>.<clusterId>`, written exactly as the
//! configuration writes the id. A peer that presents one from the trusted authority that is valid now is that node,
//! whether or not this replica's own membership lists it: a replica that was away must accept a leader that joined
//! meanwhile. Without credentials replicas speak in plain text, between addresses of this machine only.

use super::refusals::{Refusal, Refused};
use super::wire::{Ciphertext, Metered, Wire, ciphertext};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use x509_parser::extensions::GeneralName;

/// Bytes that are read of a connection before its other end has proved who it is.
const UNPROVED_BYTES: usize = 32 << 10;

/// How often a connection looks at the clock for the end of its certificates: clocks may be set.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// What a replica presents of itself, and which authorities it trusts.
pub struct Credentials {
    /// Certificates that every replica's certificate must descend from.
    pub authorities: Vec<CertificateDer<'static>>,
    /// This replica's certificate, and what leads from it to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate of `chain`.
    pub key: PrivateKeyDer<'static>,
}

/// Why credentials can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Authorities, certificate and key do not make up an identity.
    #[error("the certificates between replicas can't be used: {0}")]
    Unusable(String),
    /// The certificate is not this node's.
    #[error("this replica's certificate must have the DNS name {wanted}: {found}")]
    Name {
        /// The name that it must have.
        wanted: String,
        /// What it has.
        found: String,
    },
    /// The certificate is not in force.
    #[error("this replica's certificate has expired: put a new one into its file")]
    Expired,
    /// The replica was started without credentials.
    #[error("this replica was started without certificates: set them and restart it")]
    PlainText,
}

/// How one replica secures its connections.
#[derive(Debug)]
pub(crate) struct Security {
    cluster: String,
    node_id: u64,
    tls: Option<watch::Sender<Arc<Tls>>>,
}

struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    ends: SystemTime,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// A connection that may be used, and whose it is.
#[derive(Debug)]
pub(super) struct Secured {
    pub wire: Wire,
    /// The node that the other end's certificate is for; none in plain text.
    pub node: Option<u64>,
    pub validity: Validity,
}

/// How long a connection may be used: until a certificate of either side ends, or credentials are exchanged.
#[derive(Clone, Debug)]
pub(super) struct Validity(Option<(SystemTime, watch::Receiver<Arc<Tls>>)>);

impl Validity {
    pub(super) fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|(ends, exchanged)| {
            SystemTime::now() < *ends && !exchanged.has_changed().unwrap_or(true)
        })
    }

    /// Returns when the connection may be used no longer.
    pub(super) async fn ended(&self) {
        let Some((ends, exchanged)) = &self.0 else { return std::future::pending().await };
        let mut exchanged = exchanged.clone();
        while let Ok(left) = ends.duration_since(SystemTime::now()) {
            let pause = tokio::time::sleep(left.min(LOOK_EVERY));
            tokio::select! {
                () = pause => {}
                _ = exchanged.changed() => return,
            }
        }
    }
}

impl Security {
    pub(crate) fn new(
        cluster: String,
        node_id: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Self, CredentialsError> {
        let tls = credentials.map(|given| set_up(&cluster, node_id, given)).transpose()?;
        let tls = tls.map(|tls| watch::channel(Arc::new(tls)).0);
        Ok(Self { cluster, node_id, tls })
    }

    /// One that trusts and presents what it is given, whatever its names and dates; for tests.
    #[cfg(test)]
    pub(super) fn unchecked(credentials: &Credentials) -> Self {
        let tls = build(credentials, SystemTime::now() + Duration::from_secs(1 << 20)).ok();
        Self { cluster: "test".to_owned(), node_id: 0, tls: tls.map(|tls| watch::channel(Arc::new(tls)).0) }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Uses other credentials for connections from now on, and ends those that stand. If they can't be used, those in
    /// use stay.
    pub(crate) fn exchange(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let in_use = self.tls.as_ref().ok_or(CredentialsError::PlainText)?;
        in_use.send_replace(Arc::new(set_up(&self.cluster, self.node_id, credentials)?));
        Ok(())
    }

    /// When this replica's certificate ends.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.tls.as_ref().map(|tls| tls.borrow().ends)
    }

    /// Finds out which replica an incoming connection is from.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Result<Secured, Refused> {
        let Some(in_use) = &self.tls else { return plain(tcp) };
        let (tls, exchanged) = in_hand(in_use);
        let accepted = tls.acceptor.accept(ciphertext(tcp, UNPROVED_BYTES)).await;
        self.secured(&tls, exchanged, TlsStream::from(accepted?))
    }

    /// Finds out whether it is node `to` at the other end of a connection that this replica opened.
    pub(super) async fn connect(&self, tcp: TcpStream, to: u64) -> Result<Secured, Refused> {
        let Some(in_use) = &self.tls else { return plain(tcp) };
        let (tls, exchanged) = in_hand(in_use);
        // The name is not a host's: it is checked below, and not sent.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let connected = tls.connector.connect(name, ciphertext(tcp, UNPROVED_BYTES)).await;
        let secured = self.secured(&tls, exchanged, TlsStream::from(connected?))?;
        match secured.node {
            Some(node) if node == to => Ok(secured),
            node => {
                let message = format!("node {to} was dialled, but the certificate is for {node:?}");
                Err(Refused::new(Refusal::WrongName, message))
            }
        }
    }

    fn secured(
        &self,
        tls: &Tls,
        exchanged: watch::Receiver<Arc<Tls>>,
        stream: TlsStream<Ciphertext>,
    ) -> Result<Secured, Refused> {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown =
            shown.ok_or_else(|| Refused::new(Refusal::NoCertificate, "no certificate was presented"))?;
        let identity = Identity::read(shown, &self.cluster)
            .map_err(|found| Refused::new(Refusal::Foreign, format!("the certificate's names: {found}")))?;
        Ok(Secured {
            wire: Wire::Secured(Box::new(stream)),
            node: Some(identity.node),
            validity: Validity(Some((identity.ends.min(tls.ends), exchanged))),
        })
    }
}

/// What is in use, and what signals that it is exchanged.
fn in_hand(tls: &watch::Sender<Arc<Tls>>) -> (Arc<Tls>, watch::Receiver<Arc<Tls>>) {
    let mut exchanged = tls.subscribe();
    let tls = Arc::clone(&exchanged.borrow_and_update());
    (tls, exchanged)
}

fn plain(tcp: TcpStream) -> Result<Secured, Refused> {
    let address = tcp.peer_addr()?;
    if !address.ip().to_canonical().is_loopback() {
        let message =
            format!("plain text is allowed between loopback addresses only, and {address} is not one");
        return Err(Refused::new(Refusal::PlainText, message));
    }
    let wire = Wire::Plain(Metered::new(tcp, UNPROVED_BYTES));
    Ok(Secured { wire, node: None, validity: Validity(None) })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unusable(error: impl std::fmt::Display) -> CredentialsError {
    CredentialsError::Unusable(error.to_string())
}

fn set_up(cluster: &str, node_id: u64, credentials: &Credentials) -> Result<Tls, CredentialsError> {
    build(credentials, own_identity(cluster, node_id, credentials)?.ends)
}

fn build(credentials: &Credentials, ends: SystemTime) -> Result<Tls, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in &credentials.authorities {
        roots.add(authority.clone()).map_err(unusable)?;
    }
    let roots = Arc::new(roots);
    let (chain, key) = (credentials.chain.clone(), credentials.key.clone_key());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(clients.build().map_err(unusable)?)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(unusable)?;
    // A resumed session would not look at the certificate again.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(FromAuthority { roots, provider: provider() }))
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    Ok(Tls { connector: TlsConnector::from(Arc::new(client)), acceptor, ends })
}

fn own_identity(
    cluster: &str,
    node_id: u64,
    credentials: &Credentials,
) -> Result<Identity, CredentialsError> {
    let own = credentials.chain.first().ok_or_else(|| unusable("there is no certificate"))?;
    let wanted = name_of(node_id, cluster);
    match Identity::read(own, cluster) {
        Ok(identity) if identity.node != node_id => {
            Err(CredentialsError::Name { wanted, found: name_of(identity.node, cluster) })
        }
        Ok(identity) if identity.ends <= SystemTime::now() => Err(CredentialsError::Expired),
        Ok(identity) => Ok(identity),
        Err(found) => Err(CredentialsError::Name { wanted, found }),
    }
}

/// The DNS name in the certificate of a node.
fn name_of(node: u64, cluster: &str) -> String {
    format!("node-{node}.{cluster}")
}

/// Whose a certificate is, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    node: u64,
    ends: SystemTime,
}

impl Identity {
    /// Reads a certificate; if it is not for exactly one node of `cluster`, what it has instead.
    fn read(certificate: &CertificateDer<'_>, cluster: &str) -> Result<Self, String> {
        let parsed = x509_parser::parse_x509_certificate(certificate);
        let (_, parsed) = parsed.map_err(|error| format!("it can't be read: {error}"))?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
            .collect();
        let mut nodes: Vec<u64> = names.iter().filter_map(|name| node_of(name, cluster)).collect();
        nodes.dedup();
        let [node] = nodes[..] else {
            return Err(if names.is_empty() { "no DNS name".to_owned() } else { names.join(", ") });
        };
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { node, ends: UNIX_EPOCH + Duration::from_secs(not_after) })
    }
}

/// The node that a DNS name is of, if it is one of `cluster`.
fn node_of(name: &str, cluster: &str) -> Option<u64> {
    let (id, named) = name.strip_prefix("node-")?.split_once('.')?;
    let node: u64 = id.parse().ok()?;
    (named == cluster && node.to_string() == id).then_some(node)
}

/// Accepts certificates of a trusted authority that are valid now. Which node one is for is checked by [`Identity`]: ids of
/// clusters need not be names of hosts.
#[derive(Debug)]
struct FromAuthority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FromAuthority {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_node_of_one_cluster() {
        assert_eq!(node_of("node-3.national", "national"), Some(3));
        for other in [
            "node-3.other",
            "node-3.National",
            "node-03.national",
            "node-+3.national",
            "node-.national",
            "node-3",
            "node-3.national.example",
            "3.national",
            "node--3.national",
            "*.national",
        ] {
            assert_eq!(node_of(other, "national"), None, "{other}");
        }
    }
}
