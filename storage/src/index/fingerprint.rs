//! Keyed 64-bit fingerprints. Clients choose many of the ids, so an unkeyed hash would let them choose
//! collisions too.

use super::keys::{PostingKind, Table};
use super::{Lookup, PostingKey};
use cdr_core::Uuid;
use siphasher::sip::SipHasher13;

/// SipHash-1-3 under the ledger's key.
pub(super) struct Fingerprints(SipHasher13);

impl Fingerprints {
    /// Fingerprints under this key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// A value that shows whether two keys are the same.
    pub fn key_check(&self) -> u64 {
        self.0.hash(b"index key check")
    }

    /// Fingerprint of some id.
    pub fn of(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }

    /// Table and fingerprint that answer a look-up.
    pub fn lookup(&self, lookup: &Lookup) -> (Table, u64) {
        match lookup {
            Lookup::CdrId(id) => (Table::CdrId, self.of(&id.0)),
            Lookup::Message(id) => (Table::Message, self.of(&id.0)),
            Lookup::MsisdnTo(hash) => (Table::MsisdnTo, self.of(hash)),
            Lookup::AdjustmentOf(id) => (Table::AdjustmentOf, self.of(&id.0)),
        }
    }

    /// Kind and name of a posting list.
    pub fn posting(&self, key: PostingKey) -> (PostingKind, u64) {
        match key {
            PostingKey::Tenant(id) => (PostingKind::Tenant, self.tenant(id)),
            PostingKey::Operator(operator) => (PostingKind::Operator, operator_name(operator)),
            PostingKey::Kind(kind) => (PostingKind::Operator, kind_name(kind)),
        }
    }

    /// Name of a tenant's posting list.
    pub fn tenant(&self, id: Uuid) -> u64 {
        self.of(&id.0)
    }
}

/// Name of an operator's posting list.
pub(super) fn operator_name(operator: u16) -> u64 {
    u64::from(operator)
}

/// Name of the posting list of a kind of rows: they stand behind those of all operators.
pub(super) fn kind_name(kind: u8) -> u64 {
    1 << 16 | u64::from(kind)
}
