//! Signs seals, oldest first, and attaches the signatures by a later command.

use crate::proposer::{ProposalError, Proposer};
use crate::signer::{SignError, Signer};
use cdr_core::command::{Command, Rejection, Reply, SignSeal};
use cdr_core::seal::signed_message;
use cdr_storage::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// How often the state is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// Why signing stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The seal can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key can't be used.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The log refused the signature.
    #[error("{0}")]
    Refused(Rejection),
}

/// Signs every seal that names this signer's key.
///
/// # Errors
/// [`SigningError`].
pub async fn run(proposer: &Proposer, signer: &Arc<dyn Signer>) -> Result<(), SigningError> {
    loop {
        if !sign_next(proposer, signer).await? {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Signs the oldest unsigned seal; false if there is none for this signer.
async fn sign_next(proposer: &Proposer, signer: &Arc<dyn Signer>) -> Result<bool, SigningError> {
    let head = proposer.state().head.clone();
    if head.next_unsigned >= head.open_hour {
        return Ok(false);
    }
    let hour = head.next_unsigned;
    let Some(sealed) = proposer.store().seal(hour)? else { return Ok(false) };
    if sealed.seal.signer_key_id.as_deref() != Some(signer.key_id()) {
        tracing::warn!(%hour, key = sealed.seal.signer_key_id, "the seal names a key that this node does not hold");
        tokio::time::sleep(Duration::from_secs(10)).await;
        return Ok(false);
    }
    let (signing, message) = (signer.clone(), signed_message(&sealed.seal_hash));
    let signature = tokio::task::spawn_blocking(move || signing.sign(&message))
        .await
        .map_err(|e| SignError::Record(e.to_string()))??;
    match proposer.propose(Command::SignSeal(SignSeal { hour, signature })).await? {
        Reply::Rejected(rejection) => Err(SigningError::Refused(rejection)),
        _ => Ok(true),
    }
}
