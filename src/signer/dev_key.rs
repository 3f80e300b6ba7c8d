//! Keys in files, for development: made on first use with mode 0600, named `dev-…` and after their public key.

use super::{SignError, Signer};
use cdr_core::hash::{from_hex, sha256, to_hex};
use cdr_core::key::{Algorithm, KeyRecord, PublicKey};
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

/// The development root: used in place of the offline root key that vouches for signing keys.
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

impl DevKey {
    /// Name of the key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    fn named(&self, key_id: &str) -> Result<&SigningKey, SignError> {
        if key_id == self.key_id {
            return Ok(&self.key);
        }
        let why = format!("this node signs with {} alone: configure the key that is named", self.key_id);
        Err(SignError::Key { key_id: key_id.to_owned(), why })
    }
}

impl Signer for DevKey {
    fn active_key_id(&self) -> &str {
        &self.key_id
    }

    fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError> {
        let bytes = self.named(key_id)?.verifying_key().to_bytes();
        PublicKey::new(Algorithm::Ed25519, &bytes).ok_or_else(|| SignError::Key {
            key_id: key_id.to_owned(),
            why: "it is not an Ed25519 key".to_owned(),
        })
    }

    fn sign(&self, key_id: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.named(key_id)?.sign(message).to_bytes())
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

    /// The root's public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The root's public key, hexadecimal.
    pub fn public_key_hex(&self) -> String {
        to_hex(&self.public_key())
    }

    /// Vouches for the key that `signer` is configured to sign with, in `cluster_id` from `from_hour` on.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn vouch(
        &self,
        signer: &dyn Signer,
        cluster_id: &str,
        from_hour: Hour,
    ) -> Result<KeyRecord, SignError> {
        let key_id = signer.active_key_id();
        self.vouch_key(key_id, &signer.public_key(key_id)?, cluster_id, from_hour)
    }

    /// Vouches for a key in `cluster_id` from `from_hour` on.
    ///
    /// # Errors
    /// [`SignError::Record`].
    pub fn vouch_key(
        &self,
        key_id: &str,
        public_key: &PublicKey,
        cluster_id: &str,
        from_hour: Hour,
    ) -> Result<KeyRecord, SignError> {
        let mut record = KeyRecord {
            algorithm: public_key.algorithm().to_string(),
            cluster_id: cluster_id.to_owned(),
            from_hour,
            key_id: key_id.to_owned(),
            public_key: public_key.to_hex(),
            root_signature: String::new(),
            to_hour: None,
        };
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
        let public_key = first.public_key(first.key_id()).unwrap();
        assert_eq!(public_key, again.public_key(first.key_id()).unwrap());
        let print = to_hex(&sha256(&public_key.to_bytes()));
        assert_eq!(first.key_id(), format!("dev-seal-{}", &print[..8]));
        let other = DevKey::load_or_create(&dir.path().join("other.key"), "seal").unwrap();
        assert_ne!(first.key_id(), other.key_id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let record = root.vouch(&first, "dev", Hour(7)).unwrap();
        let public = from_hex(&root.public_key_hex()).unwrap();
        assert!(record.is_trusted("dev", &public));
        assert!(!record.is_trusted("other", &public));
        assert!(!record.is_trusted("dev", &public_key.to_bytes().try_into().unwrap()));
    }

    #[test]
    fn it_signs_in_its_own_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = DevKey::load_or_create(&dir.path().join("signer.key"), "seal").unwrap();
        let signature = key.sign(key.key_id(), b"message").unwrap();
        assert!(key.public_key(key.key_id()).unwrap().verify(b"message", &signature));
        let error = key.sign("another", b"message").unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains(key.key_id()), "{error}");
        assert!(key.public_key("another").is_err());
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
