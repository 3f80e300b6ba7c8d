//! What a caller sent to prove itself, so that another replica can look at it again.

use crate::tls::ClientCertificate;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a caller sent to prove itself. Tokens are secrets: they are never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The token of a second person, who approves.
    pub approver: Option<String>,
    /// The certificate that its connection presented; only the replica that received it can know.
    pub certificate: Option<ClientCertificate>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("authorization", &self.authorization.as_ref().map(|_| "***"))
            .field("approver", &self.approver.as_ref().map(|_| "***"))
            .field("certificate", &self.certificate)
            .finish()
    }
}
