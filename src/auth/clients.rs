//! Services that prove themselves by a client certificate (mTLS).

use super::{AuthError, Identity, Via};
use crate::config;
use crate::tls::ClientCertificate;
use std::collections::{BTreeMap, BTreeSet};

/// What a service may do whose certificate has a known common name.
#[derive(Debug)]
struct Client {
    scopes: BTreeSet<String>,
    requires_token: bool,
}

/// The services that are known, by the common name of their certificates.
#[derive(Debug)]
pub(super) struct Clients(BTreeMap<String, Client>);

impl Clients {
    pub(super) fn from_config(clients: &[config::ApiClient]) -> Self {
        let client = |client: &config::ApiClient| {
            let scopes = client.scopes.iter().cloned().collect();
            (client.name.clone(), Client { scopes, requires_token: client.requires_token })
        };
        Self(clients.iter().map(client).collect())
    }

    /// The identity of the service that showed a certificate, and also a bearer token if `token` is one.
    pub(super) fn identify(
        &self,
        certificate: &ClientCertificate,
        token: Option<Result<Identity, AuthError>>,
    ) -> Result<Identity, AuthError> {
        let client = self.0.get(&certificate.name).ok_or(AuthError::UnknownClient)?;
        match token {
            None if client.requires_token => Err(AuthError::Missing),
            None => Ok(Identity {
                subject: certificate.name.clone(),
                scopes: client.scopes.clone(),
                expires_at: certificate.not_after,
                via: Via::ClientCertificate,
            }),
            Some(token) => {
                let mut identity = token?;
                identity.scopes.extend(client.scopes.iter().cloned());
                let expires_at = identity.expires_at.min(certificate.not_after);
                Ok(Identity { via: Via::ClientCertificate, expires_at, ..identity })
            }
        }
    }
}
