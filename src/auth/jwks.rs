//! The key set file (RFC 7517): RSA keys by `kid`, read again when the file changes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::json::{MAX_FILE_BYTES, Raw, outermost};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// How often the file's modification time is checked, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Moduli of 2048 (RFC 7518, 3.3) to 8192 bits.
const MODULUS_BYTES: RangeInclusive<usize> = 256..=1024;
/// Public exponents that signatures are checked with.
const EXPONENT_BYTES: RangeInclusive<usize> = 1..=4;

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
    /// The file is not a key set.
    #[error("key set {path} is no JSON Web Key Set: {why}")]
    Syntax {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Two keys have the same name, so that it is ambiguous which one a token means.
    #[error("key set {path} has two keys with the kid {kid:?}: give each its own")]
    RepeatedKid {
        /// The file.
        path: String,
        /// The name.
        kid: String,
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

/// What matters of a key.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys in `path` that can check RS256, by `kid`. Any other is ignored: a set may hold keys of kinds that nobody
/// here knows, and one that can't be used must not take the others with it (RFC 7517, 5).
fn read(path: &Path) -> Result<HashMap<String, DecodingKey>, KeySetError> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|source| KeySetError::File { path: name.clone(), source })?;
    let syntax = |why: String| KeySetError::Syntax { path: name.clone(), why };
    let members = outermost(&text, MAX_FILE_BYTES).map_err(|e| syntax(e.to_string()))?;
    let listed = members.iter().find(|(key, _)| key == "keys").map(|(_, value)| value.elements());
    let elements = match listed {
        Some(Ok(Some(elements))) => elements,
        Some(Err(error)) => return Err(syntax(error.to_string())),
        Some(Ok(None)) | None => return Err(syntax("it has no list \"keys\"".to_owned())),
    };
    let mut keys = HashMap::new();
    for (number, element) in (1..).zip(elements) {
        match usable(element) {
            Ok((kid, key)) => {
                if keys.insert(kid.clone(), key).is_some() {
                    return Err(KeySetError::RepeatedKid { path: name, kid });
                }
            }
            Err(why) => tracing::info!(path = name, number, why, "a key of the key set is ignored"),
        }
    }
    if keys.is_empty() { Err(KeySetError::Empty { path: name }) } else { Ok(keys) }
}

/// The key, or why it can't check RS256.
fn usable(element: Raw<'_>) -> Result<(String, DecodingKey), String> {
    element.check().map_err(|e| e.to_string())?;
    let jwk: Jwk = serde_json::from_str(element.text()).map_err(|e| e.to_string())?;
    if !jwk.is_for_rs256() {
        return Err("it is for something else than RS256 signatures".to_owned());
    }
    let (Some(kid), Some(n), Some(e)) = (&jwk.kid, &jwk.n, &jwk.e) else {
        return Err("it lacks kid, n or e".to_owned());
    };
    let integer = |text: &str| {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|e| format!("n and e are base64url without padding: {e}"))?;
        Ok::<_, String>(
            bytes.iter().position(|byte| *byte != 0).map_or(Vec::new(), |at| bytes[at..].to_vec()),
        )
    };
    let (modulus, exponent) = (integer(n)?, integer(e)?);
    if !MODULUS_BYTES.contains(&modulus.len()) {
        return Err("its modulus has fewer than 2048 or more than 8192 bits".to_owned());
    }
    if !EXPONENT_BYTES.contains(&exponent.len())
        || exponent.last().is_some_and(|byte| byte % 2 == 0)
        || exponent == [1]
    {
        return Err("its exponent is not an odd number from 3 on".to_owned());
    }
    let key = DecodingKey::from_rsa_components(n, e).map_err(|e| e.to_string())?;
    Ok((kid.clone(), key))
}

impl Jwk {
    fn is_for_rs256(&self) -> bool {
        self.kty == "RSA"
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
            && self.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }
}
