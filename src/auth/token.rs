//! One token: signature, times, issuer, audience, scopes (RFC 7519, RFC 8725).

use super::jwks::KeySetFile;
use super::{AuthError, Identity, Via};
use crate::texts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::json::{MAX_BYTES, members};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use std::collections::BTreeSet;

/// What a token must satisfy beside its signature.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) leeway_seconds: u64,
}

impl Rules {
    fn validation(&self) -> Validation {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = self.leeway_seconds;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        validation.set_required_spec_claims(&["exp", "sub"]);
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    scope: Option<Scopes>,
    scp: Option<Scopes>,
    scopes: Option<Scopes>,
}

/// Scopes come as one text with spaces (RFC 8693) or as a list, depending on the issuer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scopes {
    Text(String),
    List(Vec<String>),
}

impl Scopes {
    fn into_set(self) -> BTreeSet<String> {
        match self {
            Self::Text(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Self::List(list) => list.into_iter().collect(),
        }
    }
}

/// The identity that `token` proves.
pub(super) fn verify(token: &str, keys: &KeySetFile, rules: &Rules) -> Result<Identity, AuthError> {
    read_once(token)?;
    let header = decode_header(token).map_err(|_| AuthError::Malformed)?;
    if header.alg != Algorithm::RS256 {
        return Err(AuthError::Algorithm);
    }
    // An extension that is critical and not understood forbids to accept the token (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(AuthError::Malformed);
    }
    let kid = header.kid.ok_or(AuthError::Malformed)?;
    let decoded = keys
        .with_key(&kid, |key| decode::<Claims>(token, key, &rules.validation()))
        .ok_or(AuthError::UnknownKey)?
        .map_err(|e| refused(e.kind()))?;
    let claims = decoded.claims;
    // It enters rows as the one who acts.
    if !texts::is_name(&claims.sub) {
        return Err(AuthError::Claims);
    }
    let scopes = [claims.scope, claims.scp, claims.scopes].into_iter().flatten().flat_map(Scopes::into_set);
    // `exp` may have a fraction (RFC 7519, 2); what is too large for an instant never comes.
    let expires_at = (claims.exp.max(0.0) as u64).saturating_add(rules.leeway_seconds);
    Ok(Identity { subject: claims.sub, scopes: scopes.collect(), via: Via::BearerToken, expires_at })
}

/// Refuses a header or claims that two readers could understand differently, such as a claim that occurs twice (RFC
/// 7515, 4; RFC 7519, 4).
fn read_once(token: &str) -> Result<(), AuthError> {
    let mut parts = token.split('.');
    for refused in [AuthError::Malformed, AuthError::Claims] {
        let part =
            parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or(AuthError::Malformed)?;
        members(&part, MAX_BYTES).map_err(|_| refused)?;
    }
    Ok(())
}

fn refused(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYetValid,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => AuthError::Foreign,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => AuthError::Algorithm,
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" || claim == "aud" => AuthError::Foreign,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            AuthError::Claims
        }
        _ => AuthError::Malformed,
    }
}
