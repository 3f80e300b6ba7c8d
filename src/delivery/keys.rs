//! Private keys in files, which nobody but their owner may read.

use super::error::{DeliveryError, ErrorClass, Place};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Largest file that is taken for a key or a chain of certificates.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a private key. A file that others than its owner may read or write is refused, like OpenSSH does: its key has
/// to be taken for known.
pub(super) fn read_secret(place: &Place, path: &Path) -> Result<String, DeliveryError> {
    let unusable = |why: String| unusable(place, path, &why);
    let mut file = File::open(path).map_err(|e| unusable(e.to_string()))?;
    let mode = file.metadata().map_err(|e| unusable(e.to_string()))?.permissions().mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(unusable(format!(
            "its mode is {mode:04o}; a private key must have 0600 or less (chmod 600)"
        )));
    }
    read(&mut file).map_err(unusable)
}

/// Reads certificates.
pub(super) fn read_public(place: &Place, path: &Path) -> Result<String, DeliveryError> {
    let mut file = File::open(path).map_err(|e| unusable(place, path, &e.to_string()))?;
    read(&mut file).map_err(|why| unusable(place, path, &why))
}

fn read(file: &mut File) -> Result<String, String> {
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if read as u64 > MAX_BYTES { Err("it is far too large".to_owned()) } else { Ok(text) }
}

/// The error of a file that can't be used; `why` never holds anything of its content.
pub(super) fn unusable(place: &Place, path: &Path, why: &str) -> DeliveryError {
    place.error(ErrorClass::Setup, format!("{} can't be used: {why}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::delivery::ChannelKind;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.key");
        let place = Place { channel: ChannelKind::Sftp, name: "sftp://drop".to_owned() };
        assert_eq!(read_secret(&place, &path).unwrap_err().class, ErrorClass::Setup, "it is missing");
        write(&path, "secret").unwrap();
        for mode in [0o600, 0o400] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&place, &path).unwrap(), "secret");
        }
        for mode in [0o640, 0o604, 0o700, 0o620] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&place, &path).unwrap_err();
            assert!(error.what.contains(&format!("its mode is {mode:04o}; ")), "{error}");
            assert!(!error.to_string().contains("secret"));
        }
        assert_eq!(read_public(&place, &path).unwrap(), "secret");
    }
}
