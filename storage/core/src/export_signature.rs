//! The sidecar that signs the file of an export: `<filename>.sig` (US-CDR-012).
//!
//! Four lines of ASCII, in this order, each ended by `\n`:
//!
//! ```text
//! KeyId: cdr-export-signer-v1
//! Algorithm: Ed25519
//! Signature: <base64 of 64 bytes>
//! FileSha256: <64 lower-case hexadecimal digits>
//! ```
//!
//! The signature is over the 32 bytes of the file's SHA-256 (see [`crate::key`] for what each algorithm does with them).
//! There is one text for a signature, and nothing else is read: no other order, white space, case or line end.

use crate::hash::{Hash, from_hex, to_hex};
use crate::key::{Algorithm, PublicKey};
use crate::proof::{decode_base64, encode_base64};

/// What is appended to a file's name to name its sidecar.
pub const SIDECAR_SUFFIX: &str = ".sig";

/// Longest name of a key that a sidecar may carry.
pub const MAX_KEY_ID_BYTES: usize = 128;

/// A signature under the file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSignature {
    /// Name of the key.
    pub key_id: String,
    /// How the key signs.
    pub algorithm: Algorithm,
    /// The signature over `file_sha256`.
    pub signature: [u8; 64],
    /// SHA-256 of the file.
    pub file_sha256: Hash,
}

/// A sidecar can't be read, or does not sign the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportSignatureError {
    /// A line is not what it must be.
    #[error("line {line} of the sidecar is not \"{name}: \" and {expected}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What it begins with.
        name: &'static str,
        /// What has to follow.
        expected: &'static str,
    },
    /// There is more, or less, than four ended lines.
    #[error("the sidecar is not four lines, each ended by a line feed")]
    Lines,
    /// It is the sidecar of another file.
    #[error("the sidecar is of a file with SHA-256 {named}, this file has {found}")]
    OtherFile {
        /// Digest in the sidecar.
        named: String,
        /// Digest of the file.
        found: String,
    },
    /// The key is of another kind than the sidecar says.
    #[error("the sidecar is signed by {named}, the key is one of {found}")]
    OtherAlgorithm {
        /// Algorithm in the sidecar.
        named: Algorithm,
        /// Algorithm of the key.
        found: Algorithm,
    },
    /// Another signer signed.
    #[error("the signature is not by key {key_id}")]
    Forged {
        /// The key that the sidecar names.
        key_id: String,
    },
}

impl ExportSignature {
    /// The bytes that are signed: the file's SHA-256.
    pub fn signed_message(file_sha256: &Hash) -> [u8; 32] {
        *file_sha256
    }

    /// The text of the sidecar.
    pub fn render(&self) -> String {
        format!(
            "KeyId: {}\nAlgorithm: {}\nSignature: {}\nFileSha256: {}\n",
            self.key_id,
            self.algorithm,
            encode_base64(&self.signature),
            to_hex(&self.file_sha256)
        )
    }

    /// Reads what [`ExportSignature::render`] writes, and nothing else.
    ///
    /// # Errors
    /// [`ExportSignatureError::Line`], [`ExportSignatureError::Lines`].
    pub fn parse(text: &str) -> Result<Self, ExportSignatureError> {
        let body = text.strip_suffix('\n').ok_or(ExportSignatureError::Lines)?;
        let lines: Vec<&str> = body.split('\n').collect();
        let [key_id, algorithm, signature, file_sha256] = lines[..] else {
            return Err(ExportSignatureError::Lines);
        };
        Ok(Self {
            key_id: field(1, key_id, "KeyId", "the name of a key", |text| {
                is_key_id(text).then(|| text.to_owned())
            })?,
            algorithm: field(2, algorithm, "Algorithm", "Ed25519 or ecdsa-p256", Algorithm::parse)?,
            signature: field(3, signature, "Signature", "64 bytes in base64", |text| {
                decode_base64(text)?.try_into().ok()
            })?,
            file_sha256: field(4, file_sha256, "FileSha256", "64 lower-case hexadecimal digits", from_hex)?,
        })
    }

    /// Checks that `key`, which must be the one that the sidecar names, signed the file with this SHA-256.
    ///
    /// # Errors
    /// [`ExportSignatureError::OtherFile`], [`ExportSignatureError::OtherAlgorithm`], [`ExportSignatureError::Forged`].
    pub fn verify(&self, file_sha256: &Hash, key: &PublicKey) -> Result<(), ExportSignatureError> {
        if self.file_sha256 != *file_sha256 {
            let (named, found) = (to_hex(&self.file_sha256), to_hex(file_sha256));
            return Err(ExportSignatureError::OtherFile { named, found });
        }
        if self.algorithm != key.algorithm() {
            let (named, found) = (self.algorithm, key.algorithm());
            return Err(ExportSignatureError::OtherAlgorithm { named, found });
        }
        if key.verify(&Self::signed_message(file_sha256), &self.signature) {
            Ok(())
        } else {
            Err(ExportSignatureError::Forged { key_id: self.key_id.clone() })
        }
    }
}

/// True for what can name a key in a sidecar: visible ASCII without spaces.
pub fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn field<T>(
    line: usize,
    text: &str,
    name: &'static str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ExportSignatureError> {
    text.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(": "))
        .and_then(read)
        .ok_or(ExportSignatureError::Line { line, name, expected })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    fn ed25519(seed: u8, file: &[u8]) -> (ExportSignature, PublicKey) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let file_sha256 = sha256(file);
        let signature = key.sign(&ExportSignature::signed_message(&file_sha256)).to_bytes();
        let public = PublicKey::new(Algorithm::Ed25519, key.verifying_key().as_bytes()).unwrap();
        let key_id = format!("key-{seed}");
        (ExportSignature { key_id, algorithm: Algorithm::Ed25519, signature, file_sha256 }, public)
    }

    fn p256(seed: u8, file: &[u8]) -> (ExportSignature, PublicKey) {
        let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
        let file_sha256 = sha256(file);
        let signed: p256::ecdsa::Signature = key.sign(&ExportSignature::signed_message(&file_sha256));
        let signature = crate::key::normalized_p256(&signed.to_bytes()).unwrap();
        let bytes = key.verifying_key().to_sec1_point(false);
        let public = PublicKey::new(Algorithm::EcdsaP256, bytes.as_bytes()).unwrap();
        let key_id = format!("key-{seed}");
        (ExportSignature { key_id, algorithm: Algorithm::EcdsaP256, signature, file_sha256 }, public)
    }

    #[test]
    fn a_sidecar_reads_as_the_story_says() {
        let (signature, _) = ed25519(3, b"a file");
        let text = signature.render();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines[0], "KeyId: key-3\n");
        assert_eq!(lines[1], "Algorithm: Ed25519\n");
        assert_eq!(lines[3], format!("FileSha256: {}\n", to_hex(&sha256(b"a file"))));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn violations_are_named() {
        let (sidecar, key) = ed25519(3, b"a file");
        let (other, other_key) = p256(4, b"a file");
        assert_eq!(sidecar.verify(&sha256(b"a file"), &key), Ok(()));
        assert_eq!(other.verify(&sha256(b"a file"), &other_key), Ok(()));
        let refused = |sidecar: &ExportSignature, file: &[u8], key: &PublicKey| {
            sidecar.verify(&sha256(file), key).unwrap_err().to_string()
        };
        assert!(refused(&sidecar, b"another", &key).contains("is of a file with SHA-256"));
        assert!(refused(&sidecar, b"a file", &other_key).contains("signed by Ed25519"));
        assert!(refused(&sidecar, b"a file", &ed25519(5, b"").1).contains("not by key key-3"));
        assert!(refused(&other, b"a file", &p256(5, b"").1).contains("not by key key-4"));
        // The digest is what is signed: one without the other does not pass.
        let moved = ExportSignature { file_sha256: sha256(b"another"), ..sidecar };
        assert!(refused(&moved, b"another", &key).contains("not by key"));
    }

    #[test]
    fn nothing_but_the_one_text_is_read() {
        let (sidecar, _) = p256(7, b"a file");
        let text = sidecar.render();
        let changed: [&dyn Fn(&str) -> String; 14] = [
            &|t| t.trim_end().to_owned(),
            &|t| format!("{t}\n"),
            &|t| format!("\n{t}"),
            &|t| t.replace('\n', "\r\n"),
            &|t| t.replace("KeyId: ", "KeyId:"),
            &|t| t.replace("KeyId: ", "KeyId:  "),
            &|t| t.replace("KeyId: ", "keyid: "),
            &|t| t.replace("KeyId: key-7", "KeyId: "),
            &|t| t.replace("key-7", "key 7"),
            &|t| t.replace("ecdsa-p256", "ECDSA-P256"),
            &|t| t.replace("FileSha256: ", "FileSha256: 0x"),
            &|t| t.to_uppercase(),
            &|t| t.split_inclusive('\n').rev().collect(),
            &|t| format!("{t}Extra: 1\n"),
        ];
        for (number, change) in changed.iter().enumerate() {
            assert!(ExportSignature::parse(&change(&text)).is_err(), "change {number} is read");
        }
    }

    proptest! {
        #[test]
        fn a_sidecar_survives_its_text(
            key_id in "[!-~]{1,128}", p256 in any::<bool>(),
            signature in proptest::collection::vec(any::<u8>(), 64), file_sha256 in any::<[u8; 32]>(),
        ) {
            let algorithm = if p256 { Algorithm::EcdsaP256 } else { Algorithm::Ed25519 };
            let signature = signature.try_into().unwrap();
            let sidecar = ExportSignature { key_id, algorithm, signature, file_sha256 };
            prop_assert_eq!(ExportSignature::parse(&sidecar.render()), Ok(sidecar));
        }

        #[test]
        fn whatever_is_read_is_written_alike(text in "(KeyId: [ -~]{0,4}\n|Algorithm: Ed25519\n|[ -~\n]{0,9}){0,5}") {
            if let Ok(sidecar) = ExportSignature::parse(&text) {
                prop_assert_eq!(sidecar.render(), text);
            }
        }

        #[test]
        fn any_changed_byte_of_a_sidecar_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..=255, p in any::<bool>()) {
            let (sidecar, key) = if p { p256(9, b"f") } else { ed25519(9, b"f") };
            let mut bytes = sidecar.render().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
            if let Ok(read) = ExportSignature::parse(&text) {
                // The name of the key only selects a key.
                let names_another = read.key_id != sidecar.key_id;
                prop_assert!(names_another || read.verify(&sha256(b"f"), &key).is_err(), "byte {} by {:#x}", at, flip);
            }
        }
    }
}
