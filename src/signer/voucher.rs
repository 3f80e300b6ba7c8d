//! Where the record of the signing key comes from: the root key's word that a cluster may use it from an hour on.

use super::{DevRoot, SignError};
use cdr_core::key::{KeyRecord, PublicKey};
use cdr_core::time::Hour;
use std::path::Path;

/// Vouches for the signing key.
pub enum Voucher {
    /// A record that the offline root key has signed: it says from which hour on the key may be used.
    Record(KeyRecord),
    /// The development root, which vouches again whenever it is asked.
    DevRoot(DevRoot),
}

/// A key record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum VoucherError {
    /// The file can't be read.
    #[error("signer.key_record_file {path} can't be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no key record.
    #[error("signer.key_record_file {path} holds no key record: {source}")]
    Syntax {
        /// The file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The record is of something else than this node signs with.
    #[error(
        "signer.key_record_file: its {field} is {found}, this node's is {expected}: have the root key sign a record for \
         this node's key, or configure the key that the record names"
    )]
    Differs {
        /// Field of the record.
        field: &'static str,
        /// What the record says.
        found: String,
        /// What it has to say.
        expected: String,
    },
    /// The development root can't write a record.
    #[error(transparent)]
    DevRoot(#[from] SignError),
}

impl Voucher {
    /// Reads the record of `file` and checks that it is of the key of this name in `cluster_id`. Whether its public key
    /// is that key's is known only once the key is read ([`Voucher::record`]).
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn from_file(file: &Path, key_id: &str, cluster_id: &str) -> Result<Self, VoucherError> {
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|source| VoucherError::File { path: path.clone(), source })?;
        let record: KeyRecord = serde_json::from_str(&text)
            .map_err(|source| VoucherError::Syntax { path: path.clone(), source })?;
        same(&[("clusterId", &record.cluster_id, cluster_id), ("keyId", &record.key_id, key_id)])?;
        Ok(Self::Record(record))
    }

    /// The record with which the key enters the ledger. The development root vouches for it from `from_hour` on; a
    /// record that the root key has signed stays as it is, and must be of this key.
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn record(
        &self,
        key_id: &str,
        public_key: &PublicKey,
        cluster_id: &str,
        from_hour: Hour,
    ) -> Result<KeyRecord, VoucherError> {
        match self {
            Self::Record(record) => {
                same(&[
                    ("keyId", &record.key_id, key_id),
                    ("algorithm", &record.algorithm, public_key.algorithm().as_str()),
                    ("publicKey", &record.public_key, &public_key.to_hex()),
                ])?;
                Ok(record.clone())
            }
            Self::DevRoot(root) => Ok(root.vouch_key(key_id, public_key, cluster_id, from_hour)?),
        }
    }
}

/// Refuses the first field that is not what it has to be.
fn same(fields: &[(&'static str, &str, &str)]) -> Result<(), VoucherError> {
    match fields.iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((field, found, expected)) => {
            let (found, expected) = ((*found).to_owned(), (*expected).to_owned());
            Err(VoucherError::Differs { field, found, expected })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::signer::{DevKey, Signer};

    #[test]
    fn a_record_of_another_key_or_cluster_is_refused_by_field() {
        let dir = tempfile::tempdir().unwrap();
        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let signer = DevKey::load_or_create(&dir.path().join("signer.key"), "seal").unwrap();
        let other = DevKey::load_or_create(&dir.path().join("other.key"), "seal").unwrap();
        let file = dir.path().join("record.json");
        let good = root.vouch(&signer, "one", Hour(5)).unwrap();
        let public_key = signer.public_key(signer.key_id()).unwrap();
        let refused = |record: &KeyRecord| {
            std::fs::write(&file, serde_json::to_string(record).unwrap()).unwrap();
            let voucher = Voucher::from_file(&file, signer.key_id(), "one")?;
            voucher.record(signer.key_id(), &public_key, "one", Hour(9))
        };
        assert_eq!(refused(&good).unwrap(), good);
        let of_other_key = root.vouch(&other, "one", Hour(5)).unwrap();
        let other_public = KeyRecord { public_key: of_other_key.public_key.clone(), ..good.clone() };
        for (record, field) in [
            (root.vouch(&signer, "two", Hour(5)).unwrap(), "clusterId"),
            (of_other_key, "keyId"),
            (other_public, "publicKey"),
            (KeyRecord { algorithm: "RSA".to_owned(), ..good.clone() }, "algorithm"),
        ] {
            let why = refused(&record).unwrap_err().to_string();
            assert!(why.contains(&format!("key_record_file: its {field} is")), "{why}");
        }
        std::fs::write(&file, "{}").unwrap();
        let why = Voucher::from_file(&file, "k", "one").map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("record.json holds no key record"), "{why}");
    }

    #[test]
    fn the_development_root_vouches_from_any_hour_and_a_signed_record_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let signer = DevKey::load_or_create(&dir.path().join("signer.key"), "seal").unwrap();
        let signed = root.vouch(&signer, "one", Hour(5)).unwrap();
        let public_key = signer.public_key(signer.key_id()).unwrap();
        let record = |voucher: Voucher| voucher.record(signer.key_id(), &public_key, "one", Hour(9)).unwrap();
        assert_eq!(record(Voucher::Record(signed.clone())), signed);
        assert_eq!(record(Voucher::DevRoot(root)).from_hour, Hour(9));
    }
}
