//! Keys in files, for development: made on first use with mode 0600, named `dev-…` and after their public key.

use super::{SignError, Signer};
use cdr_core::hash::{from_hex, sha256, to_hex};
use cdr_core::seal::KeyRecord;
use cdr_core::time::Hour;
use ed25519_dalek::{Signer as _, SigningKey};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An Ed25519 key in a file.
pub struct DevKey {
    key_id: String,
    key: SigningKey,
}

/// The development root: stands in for the offline root key that vouches for signing keys.
pub struct DevRoot {
    key: SigningKey,
}

impl DevKey {
    /// Loads the key of `path`, making it first if there is none. Its name is `dev-`, `name`, and the first 8 hexadecimal
    /// digits of its public key's SHA-256: two keys never have one name.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn load_or_create(path: &Path, name: &str) -> Result<Self, SignError> {
        let key = load_or_create(path)?;
        let print = to_hex(&sha256(key.verifying_key().as_bytes())[..4]);
        Ok(Self { key_id: format!("dev-{name}-{print}"), key })
    }
}

impl Signer for DevKey {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

impl DevRoot {
    /// Loads the root key of `path`, making it first if there is none.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn load_or_create(path: &Path) -> Result<Self, SignError> {
        Ok(Self { key: load_or_create(path)? })
    }

    /// A root key that no file holds and nobody has to trust: it ends with the process.
    ///
    /// # Errors
    /// [`SignError::Random`].
    pub fn throwaway() -> Result<Self, SignError> {
        Ok(Self { key: SigningKey::from_bytes(&random_seed()?) })
    }

    /// The root's public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The root's public key, hexadecimal.
    pub fn public_key_hex(&self) -> String {
        to_hex(&self.public_key())
    }

    /// Vouches for a signer's key in `cluster_id` from `from_hour` on.
    ///
    /// # Errors
    /// [`SignError::Record`].
    pub fn vouch(
        &self,
        signer: &dyn Signer,
        cluster_id: &str,
        from_hour: Hour,
    ) -> Result<KeyRecord, SignError> {
        self.vouch_for(KeyRecord {
            algorithm: "Ed25519".to_owned(),
            cluster_id: cluster_id.to_owned(),
            from_hour,
            key_id: signer.key_id().to_owned(),
            public_key: to_hex(&signer.public_key()),
            root_signature: String::new(),
            to_hour: None,
        })
    }

    /// Puts this root's signature under a record, in place of any other's.
    ///
    /// # Errors
    /// [`SignError::Record`].
    pub fn vouch_for(&self, mut record: KeyRecord) -> Result<KeyRecord, SignError> {
        let message = record.signed_message().map_err(SignError::Record)?;
        record.root_signature = to_hex(&self.key.sign(&message).to_bytes());
        Ok(record)
    }
}

fn load_or_create(path: &Path) -> Result<SigningKey, SignError> {
    let file_error = |source| SignError::File { path: path.display().to_string(), source };
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let seed = from_hex::<32>(text.trim());
                return seed
                    .map(|seed| SigningKey::from_bytes(&seed))
                    .ok_or_else(|| SignError::NotAKey { path: path.display().to_string() });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => create(path)?,
            Err(e) => return Err(file_error(e)),
        }
    }
}

fn random_seed() -> Result<[u8; 32], SignError> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|e| SignError::Random(e.to_string()))?;
    Ok(seed)
}

/// Makes a key under a name of its own and then links it: replicas that start at once agree on the first one.
fn create(path: &Path) -> Result<(), SignError> {
    let own = path.with_extension(format!("new-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file_error = |source| SignError::File { path: own.display().to_string(), source };
    let seed = random_seed()?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&own)
        .map_err(file_error)?;
    file.write_all(to_hex(&seed).as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)?;
    let linked = std::fs::hard_link(&own, path);
    std::fs::remove_file(&own).map_err(file_error)?;
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(file_error(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_its_record_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer.key");
        let first = DevKey::load_or_create(&path, "seal").unwrap();
        let again = DevKey::load_or_create(&path, "seal").unwrap();
        assert_eq!(first.public_key(), again.public_key());
        let print = to_hex(&sha256(&first.public_key()));
        assert_eq!(first.key_id(), format!("dev-seal-{}", &print[..8]));
        let other = DevKey::load_or_create(&dir.path().join("other.key"), "seal").unwrap();
        assert_ne!(first.key_id(), other.key_id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let record = root.vouch(&first, "dev", Hour(7)).unwrap();
        let public = from_hex(&root.public_key_hex()).unwrap();
        assert!(record.is_trusted("dev", &public));
        assert!(!record.is_trusted("other", &public));
        assert!(!record.is_trusted("dev", &first.public_key()));
    }

    #[test]
    fn a_damaged_key_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer.key");
        std::fs::write(&path, "not a key").unwrap();
        assert!(matches!(DevKey::load_or_create(&path, "seal"), Err(SignError::NotAKey { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
    }
}
