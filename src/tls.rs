//! What TLS connections that go out over HTTP have in common. The provider is named here, because another part of the
//! product brings one of its own.

use std::sync::Arc;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, Error, RootCertStore, crypto};

/// A client that trusts `roots`; what it shows of itself is still open.
///
/// # Errors
/// If the provider offers no usable version of TLS.
pub fn client(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// This system's root certificates, none if it has none that can be read.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
