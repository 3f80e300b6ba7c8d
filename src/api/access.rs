//! Who asks, and whether they may.

use super::Service;
use super::error::ApiError;
use crate::auth::Identity;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header;
use axum::http::request::Parts;

/// A caller that has proved who they are.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Identity);

impl Caller {
    /// Refuses whoever lacks `scope`.
    ///
    /// # Errors
    /// 403 with the scope.
    pub(super) fn require(&self, scope: &'static str) -> Result<(), ApiError> {
        if self.0.has(scope) {
            return Ok(());
        }
        tracing::info!(subject = self.0.subject, scope, "refused for lack of a scope");
        Err(ApiError::InsufficientScope { required: scope })
    }

    /// True if the caller has `scope`.
    pub(super) fn has(&self, scope: &str) -> bool {
        self.0.has(scope)
    }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let authorization =
            parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        Ok(Self(service.tokens.authenticate(authorization)?))
    }
}

/// The variable parts of a path, by name.
#[derive(Debug)]
pub(super) struct PathInput(Vec<(String, String)>);

impl PathInput {
    /// The part called `name`, read by `parse`.
    ///
    /// # Errors
    /// 400 naming it and saying what is `expected`.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ApiError> {
        let text = self.text(name);
        parse(text).ok_or_else(|| ApiError::invalid(name, format!("{text:?} is not {expected}")))
    }

    /// The part called `name`.
    pub(super) fn text(&self, name: &str) -> &str {
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
