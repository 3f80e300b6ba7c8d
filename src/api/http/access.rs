//! Who calls, and whether they may.

use super::Service;
use super::error::ApiError;
use crate::acts::Origin;
use crate::auth::{AuthError, Identity, Proof};
use crate::tls::ClientCertificate;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header;
use axum::http::request::Parts;
use std::net::SocketAddr;

/// Header that holds the second person's token.
pub(in crate::api) const APPROVER: &str = "X-Approver-Jwt";

/// What a connection over TLS showed of who is at its other end.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its address.
    pub(in crate::api) from: SocketAddr,
    /// Its certificate; none if that has no usable name.
    pub(in crate::api) certificate: Option<ClientCertificate>,
}

/// A caller that has proved who they are, and by what.
#[derive(Clone, Debug)]
pub(in crate::api) struct Caller(pub(in crate::api) Identity, pub(in crate::api) Origin);

impl Caller {
    /// Refuses a caller without `scope`.
    ///
    /// # Errors
    /// 403 with the scope.
    pub(in crate::api) fn require(&self, scope: &'static str) -> Result<(), ApiError> {
        if self.0.has(scope) {
            return Ok(());
        }
        tracing::info!(subject = self.0.subject, scope, "refused: the caller lacks a scope");
        Err(ApiError::InsufficientScope { required: scope })
    }

    /// True if the caller has `scope`.
    pub(in crate::api) fn has(&self, scope: &str) -> bool {
        self.0.has(scope)
    }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let mut sent = parts.headers.get_all(header::AUTHORIZATION).into_iter();
        let authorization = sent.next().map(|value| value.to_str().unwrap_or_default());
        if sent.next().is_some() {
            return Err(AuthError::Twice.into());
        }
        let mut proof = Proof {
            authorization: authorization.map(str::to_owned),
            approver: parts.headers.get(APPROVER).and_then(|value| value.to_str().ok()).map(str::to_owned),
            certificate: None,
        };
        let Some(ConnectInfo(shown)) = parts.extensions.get::<ConnectInfo<Shown>>() else {
            return Ok(Self(service.auth.authenticate(authorization)?, Origin::Caller(proof)));
        };
        proof.certificate.clone_from(&shown.certificate);
        let certificate = shown.certificate.as_ref().ok_or(AuthError::UnknownClient);
        let identity = certificate.and_then(|shown| service.auth.authenticate_client(shown, authorization));
        identity.map(|identity| Self(identity, Origin::Caller(proof))).map_err(|error| {
            tracing::info!(from = %shown.from, name = ?shown.certificate, %error, "a client is refused");
            error.into()
        })
    }
}

/// The variable parts of a path, by name.
#[derive(Debug)]
pub(in crate::api) struct PathInput(Vec<(String, String)>);

impl PathInput {
    /// The part called `name`, read by `parse`.
    ///
    /// # Errors
    /// 400 naming it and what is `expected`.
    pub(in crate::api) fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ApiError> {
        let text = self.text(name);
        parse(text).ok_or_else(|| ApiError::invalid(name, format!("{text:?} is not {expected}")))
    }

    /// The part called `name`.
    pub(in crate::api) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathInput {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::invalid("path", format!("it can't be read: {e}")))?;
        Ok(Self(params.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()))
    }
}
