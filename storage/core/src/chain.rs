//! The formulas that join rows, hours and operators (ledger format 2, "Bucket roots, chains").

use crate::hash::{Hash, sha256, sha256_concat};
use crate::time::Hour;

/// Root and chain of an operator before its first hour.
pub fn operator_genesis(cluster_id: &str, operator_id: &str) -> Hash {
    sha256(format!("GENESIS:{cluster_id}:{operator_id}").as_bytes())
}

/// National chain and seal hash before the first hour.
pub fn national_genesis(cluster_id: &str) -> Hash {
    sha256(format!("GENESIS:{cluster_id}").as_bytes())
}

/// Root of an hour without rows.
pub fn empty_root(hour: Hour) -> Hash {
    sha256(format!("EMPTY:{hour}").as_bytes())
}

/// `chainHash[H] = sha256(chainHash[H-1] ‖ bucketRoot[H])`.
pub fn next_chain(previous: &Hash, root: &Hash) -> Hash {
    sha256_concat(&[previous, root])
}

/// An operator's leaf in the national tree.
pub fn national_leaf(operator_id: &str, chain_hash: &Hash) -> Hash {
    sha256_concat(&[operator_id.as_bytes(), &[0], chain_hash])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_that_are_hashed() {
        assert_eq!(operator_genesis("dev", "AWCC"), sha256(b"GENESIS:dev:AWCC"));
        assert_eq!(national_genesis("dev"), sha256(b"GENESIS:dev"));
        let hour = Hour::parse("2026-04-20T13:00:00Z").unwrap();
        assert_eq!(empty_root(hour), sha256(b"EMPTY:2026-04-20T13:00:00Z"));
        assert_eq!(national_leaf("A", &[7; 32]), sha256(&[[b'A', 0].as_slice(), &[7; 32]].concat()));
    }
}
