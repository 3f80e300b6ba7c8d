//! Who calls: bearer tokens (JWT, RS256) checked against a JSON Web Key Set, client certificates by their common name, and
//! the scopes that they carry.
//!
//! An [`Identity`] holds who and by what means; handlers check its scopes only. Scopes are explicit: none implies
//! another.

mod clients;
pub mod dev;
mod jwks;
mod proof;
mod token;

#[cfg(test)]
mod tests;

pub use crate::scopes::{
    ALL_SCOPES, SCOPE_ADMIN, SCOPE_AUDIT, SCOPE_PII, SCOPE_READ, SCOPE_REGULATOR_ACK, SCOPE_VERIFY,
    SCOPE_WRITE,
};
pub use jwks::KeySetError;
pub use proof::Proof;

use crate::config;
use crate::tls::ClientCertificate;
use clients::Clients;
use jwks::KeySetFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User or service, as its issuer names it.
    pub subject: String,
    /// What it may do.
    pub scopes: BTreeSet<String>,
    /// How it proved itself.
    pub via: Via,
    /// Until when that counts, in seconds since the Unix epoch: the token's `exp`, with the tolerance for its issuer's
    /// clock, or the end of the certificate; of both, the earlier.
    pub expires_at: u64,
}

/// How a caller proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a bearer token (RFC 6750).
    BearerToken,
    /// By a client certificate, with or without a bearer token.
    ClientCertificate,
}

impl Identity {
    /// True if its credentials have expired. The machine's clock decides, as it does when a token is checked,
    /// also where the ledger runs on another one.
    pub fn has_expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() > self.expires_at
    }

    /// True if it has `scope`.
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }
}

/// Why a caller is not let in. The texts are shown to callers: they name no key and no claim's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AuthError {
    /// No credentials.
    #[error("a bearer token is required: send the header `Authorization: Bearer <token>`")]
    Missing,
    /// Credentials of two callers, or twice those of one.
    #[error("the header Authorization is given twice")]
    Twice,
    /// Not a token at all, or one that names no key.
    #[error("the bearer token is not a signed JWT with a kid")]
    Malformed,
    /// Another algorithm than RS256.
    #[error("the bearer token is not signed with RS256")]
    Algorithm,
    /// The key set has no such key.
    #[error("the bearer token's issuer is not known here")]
    UnknownKey,
    /// Not signed by the key that it names.
    #[error("the bearer token's signature is not valid")]
    Signature,
    /// `exp` is past.
    #[error("the bearer token has expired: get a new one")]
    Expired,
    /// `nbf` is not reached.
    #[error("the bearer token is not valid yet")]
    NotYetValid,
    /// `iss` or `aud` is not the required one.
    #[error("the bearer token is of another issuer or for another audience")]
    Foreign,
    /// A certificate that the configuration does not name.
    #[error("the client certificate's common name is not known here: it must be that of one of api.clients")]
    UnknownClient,
    /// A certificate that was presented to another replica, which this one can't verify.
    #[error(
        "the leader accepts no client certificate from a replica that has not presented its own: send a bearer token"
    )]
    Unvouched,
    /// The credentials are another caller's.
    #[error("the request is made in another name than its credentials")]
    NotTheirs,
    /// `exp` or `sub` is absent, or a claim has the wrong form.
    #[error("the bearer token lacks exp or sub, or a claim has the wrong form")]
    Claims,
}

/// Authenticates callers.
#[derive(Debug)]
pub struct Authenticator {
    keys: KeySetFile,
    rules: token::Rules,
    /// None where client certificates are not accepted.
    clients: Option<Clients>,
}

impl Authenticator {
    /// Reads the key set that the configuration names.
    ///
    /// # Errors
    /// [`KeySetError`] if there is no usable key in it.
    pub fn from_config(settings: &config::Auth, api: &config::Api) -> Result<Self, KeySetError> {
        let rules = token::Rules {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway_seconds: settings.leeway_seconds,
        };
        let clients = api.mtls_listen.as_ref().map(|_| Clients::from_config(&api.clients));
        Ok(Self { keys: KeySetFile::open(&settings.jwks_file)?, rules, clients })
    }

    /// The identity of who sent `authorization`, the value of the header of that name.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Identity, AuthError> {
        self.token(authorization.ok_or(AuthError::Missing)?)
    }

    /// The identity of a service that showed a certificate, and sent `authorization` or nothing.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate_client(
        &self,
        certificate: &ClientCertificate,
        authorization: Option<&str>,
    ) -> Result<Identity, AuthError> {
        let clients = self.clients.as_ref().ok_or(AuthError::UnknownClient)?;
        clients.identify(certificate, authorization.map(|text| self.token(text)))
    }

    fn token(&self, authorization: &str) -> Result<Identity, AuthError> {
        let token = bearer(authorization).ok_or(AuthError::Missing)?;
        self.keys.refresh();
        let mut identity = token::verify(token, &self.keys, &self.rules)?;
        // The regulator speaks for itself, by its certificate, wherever it can show one.
        if self.clients.is_some() {
            identity.scopes.remove(SCOPE_REGULATOR_ACK);
        }
        Ok(identity)
    }

    /// Reads the key set again now. If that fails, the keys in use stay.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn reload(&self) -> Result<(), KeySetError> {
        self.keys.reload()
    }
}

/// The token of a header `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
