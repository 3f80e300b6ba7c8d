//! Signs seals, oldest first, and attaches the signatures by a later command.

use crate::proposer::{ProposalError, Proposer};
use crate::signer::Signing;
use cdr_core::command::{Command, Rejection, Reply, SignSeal};
use cdr_core::seal::signed_message;
use cdr_storage::StoreError;
use std::time::Duration;

/// How often the state is read.
const PAUSE: Duration = Duration::from_millis(100);

/// Pause after a refusal, which only a person can correct.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Why signing stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The seal can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log refused the signature.
    #[error("{0}")]
    Refused(Rejection),
}

/// Signs every seal with the key that it names.
///
/// # Errors
/// [`SigningError`].
pub async fn run(proposer: &Proposer, signing: &Signing) -> Result<(), SigningError> {
    loop {
        if !sign_next(proposer, signing).await? {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Signs the oldest unsigned seal; false if there is none, or none that can be signed now.
async fn sign_next(proposer: &Proposer, signing: &Signing) -> Result<bool, SigningError> {
    let head = proposer.state().head.clone();
    if head.next_unsigned >= head.open_hour {
        return Ok(false);
    }
    let hour = head.next_unsigned;
    let Some(sealed) = proposer.store().seal(hour)? else { return Ok(false) };
    let Some(key_id) = &sealed.seal.signer_key_id else { return Ok(false) };
    let signature = match signing.sign(key_id, signed_message(&sealed.seal_hash)).await {
        Ok(signature) => signature,
        Err(error) => {
            tracing::error!(severity = "SEV1", %hour, key_id, %error, "the seal can't be signed");
            tokio::time::sleep(REFUSED_PAUSE).await;
            return Ok(false);
        }
    };
    match proposer.propose(Command::SignSeal(SignSeal { hour, signature })).await? {
        Reply::Rejected(rejection) => Err(SigningError::Refused(rejection)),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
