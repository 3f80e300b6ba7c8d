//! What every endpoint stands on: who asks, what is asked, and how it is answered.

pub(super) mod access;
pub(super) mod act;
pub(super) mod answer;
pub(super) mod approval;
pub(super) mod body;
pub(super) mod cursor;
pub(super) mod error;
pub(super) mod input;
pub(super) mod layer;
pub(super) mod ledger;
pub(super) mod mtls;
pub(super) mod page;
pub(super) mod paths;
pub(super) mod trace;

use crate::auth::Authenticator;
use ledger::Ledger;
use std::sync::Arc;

/// What every handler is given.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) ledger: Arc<Ledger>,
    pub(super) auth: Arc<Authenticator>,
}
