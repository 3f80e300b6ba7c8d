//! The key set file (RFC 7517): RSA keys by `kid`, read again when the file changes.

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// How often the file's modification time is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A key set can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file can't be read.
    #[error("key set {path} can't be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no key set.
    #[error("key set {path} is no JSON Web Key Set: {why}")]
    Syntax {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// No key can check RS256.
    #[error("key set {path} has no RSA key with a kid for RS256 signatures")]
    Empty {
        /// The file.
        path: String,
    },
}

/// The keys in use and the file that they come from.
pub(super) struct KeySetFile {
    path: PathBuf,
    keys: RwLock<Arc<HashMap<String, DecodingKey>>>,
    seen: Mutex<Seen>,
}

/// What was last seen of the file.
struct Seen {
    modified: Option<SystemTime>,
    looked_at: Instant,
}

impl std::fmt::Debug for KeySetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySetFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl KeySetFile {
    /// Reads `path`.
    pub(super) fn open(path: &Path) -> Result<Self, KeySetError> {
        let modified = modified(path);
        let keys = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            keys: RwLock::new(Arc::new(keys)),
            seen: Mutex::new(Seen { modified, looked_at: Instant::now() }),
        })
    }

    /// The key named `kid`.
    pub(super) fn with_key<T>(&self, kid: &str, use_key: impl FnOnce(&DecodingKey) -> T) -> Option<T> {
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        keys.get(kid).map(use_key)
    }

    /// Reads the file again if it has changed; looks at it at most once a second.
    pub(super) fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked_at.elapsed() < LOOK_INTERVAL {
            return;
        }
        seen.looked_at = Instant::now();
        let modified = modified(&self.path);
        if modified == seen.modified {
            return;
        }
        seen.modified = modified;
        drop(seen);
        if let Err(error) = self.reload() {
            tracing::warn!(%error, "the key set has changed and can't be used; the keys read before stay in use");
        }
    }

    /// Reads the file again; on an error the keys in use stay.
    pub(super) fn reload(&self) -> Result<(), KeySetError> {
        let keys = read(&self.path)?;
        tracing::info!(path = %self.path.display(), keys = keys.len(), "key set read");
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// What matters of a key; others than RSA keys for signatures are passed over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

fn read(path: &Path) -> Result<HashMap<String, DecodingKey>, KeySetError> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|source| KeySetError::File { path: name.clone(), source })?;
    let syntax = |why: String| KeySetError::Syntax { path: name.clone(), why };
    let set: Jwks = serde_json::from_slice(&text).map_err(|e| syntax(e.to_string()))?;
    let mut keys = HashMap::new();
    for jwk in set.keys.iter().filter(|jwk| jwk.is_for_rs256()) {
        if let (Some(kid), Some(n), Some(e)) = (&jwk.kid, &jwk.n, &jwk.e) {
            let key =
                DecodingKey::from_rsa_components(n, e).map_err(|e| syntax(format!("key {kid}: {e}")))?;
            keys.insert(kid.clone(), key);
        }
    }
    if keys.is_empty() { Err(KeySetError::Empty { path: name }) } else { Ok(keys) }
}

impl Jwk {
    fn is_for_rs256(&self) -> bool {
        self.kty == "RSA"
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && self.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
    }
}
