//! Four eyes: whether a second person approved a request, by their own token.

use super::Service;
use super::access::{APPROVER, Caller};
use super::body::Headers;
use super::error::ApiError;
use crate::auth::{AuthError, Identity};

/// Who approved; none if no approver's token was sent.
///
/// # Errors
/// 400 for a header that is not text; otherwise what is wrong with the approval.
pub(in crate::api) fn approver(
    service: &Service,
    caller: &Caller,
    headers: &Headers,
    scope: &str,
) -> Result<Result<Option<String>, String>, ApiError> {
    let token = headers.text(APPROVER)?;
    let who = token.map(|token| service.auth.authenticate(Some(&format!("Bearer {token}"))));
    Ok(approved(&caller.0.subject, scope, who))
}

/// Who approved; what is wrong with an approval that does not count.
pub(in crate::api) fn approved(
    requester: &str,
    scope: &str,
    approver: Option<Result<Identity, AuthError>>,
) -> Result<Option<String>, String> {
    match approver {
        None => Ok(None),
        Some(Err(error)) => Err(format!("{APPROVER}: {error}")),
        Some(Ok(approver)) if !approver.has(scope) => Err(format!("the approver lacks the scope {scope}")),
        Some(Ok(approver)) if approver.subject == requester => {
            Err("a request can't be approved by its own requester".to_owned())
        }
        Some(Ok(approver)) => Ok(Some(approver.subject)),
    }
}

/// The reason if no token was sent where one is needed.
pub(in crate::api) fn nobody() -> String {
    format!("send the approver's token in {APPROVER}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::{SCOPE_ADMIN, SCOPE_READ, Via};

    #[test]
    fn only_another_person_with_the_scope_approves() {
        let person = |subject: &str, scope: &str| Identity {
            subject: subject.to_owned(),
            scopes: std::iter::once(scope.to_owned()).collect(),
            via: Via::BearerToken,
            expires_at: u64::MAX,
        };
        let by = |who| approved("a", SCOPE_ADMIN, who);
        assert_eq!(by(None), Ok(None));
        assert_eq!(by(Some(Ok(person("b", SCOPE_ADMIN)))), Ok(Some("b".to_owned())));
        assert!(by(Some(Ok(person("b", SCOPE_READ)))).unwrap_err().contains(SCOPE_ADMIN));
        assert!(by(Some(Ok(person("a", SCOPE_ADMIN)))).unwrap_err().contains("its own requester"));
        assert!(by(Some(Err(AuthError::Expired))).unwrap_err().contains(APPROVER));
    }
}
