//! Keys and certificates in files. Private keys must be readable by their owner only.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Largest file that is taken for a key or a chain of certificates.
const MAX_BYTES: u64 = 1 << 20;

/// A file can't be used; `why` never holds anything of its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} can't be used: {why}")]
pub struct KeyFileError {
    /// The file.
    pub path: String,
    /// Why, and where it helps what to do.
    pub why: String,
}

impl KeyFileError {
    /// The error of a file.
    pub fn new(path: &Path, why: &(impl Display + ?Sized)) -> Self {
        Self { path: path.display().to_string(), why: why.to_string() }
    }
}

/// Reads a private key. A file that others than its owner may read or write is refused, like OpenSSH does: its key has
/// to be taken for known.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_secret(path: &Path) -> Result<String, KeyFileError> {
    let mut file = File::open(path).map_err(|e| KeyFileError::new(path, &e))?;
    let mode = file.metadata().map_err(|e| KeyFileError::new(path, &e))?.permissions().mode() & 0o7777;
    if mode & 0o177 != 0 {
        let why = format!("its mode is {mode:04o}; a private key must have 0600 or less (chmod 600)");
        return Err(KeyFileError::new(path, &why));
    }
    read(path, &mut file)
}

/// Reads certificates or public keys.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_public(path: &Path) -> Result<String, KeyFileError> {
    let mut file = File::open(path).map_err(|e| KeyFileError::new(path, &e))?;
    read(path, &mut file)
}

fn read(path: &Path, file: &mut File) -> Result<String, KeyFileError> {
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| KeyFileError::new(path, &e))?;
    if read as u64 > MAX_BYTES { Err(KeyFileError::new(path, "it is far too large")) } else { Ok(text) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.key");
        assert!(read_secret(&path).is_err(), "it is missing");
        write(&path, "secret").unwrap();
        for mode in [0o600, 0o400] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path).unwrap(), "secret");
        }
        for mode in [0o640, 0o604, 0o700, 0o620] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(error.why.contains(&format!("its mode is {mode:04o}; ")), "{error}");
            assert!(!error.to_string().contains("secret"));
        }
        assert_eq!(read_public(&path).unwrap(), "secret");
    }
}
