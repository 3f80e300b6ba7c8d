//! A key pair on the token: how it is found, what it is, and how it signs.

use super::error::meaning;
use crate::signer::SignError;
use cdr_core::hash::sha256;
use cdr_core::key::{Algorithm, PublicKey, normalized_p256};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// Names of Ed25519 in `CKA_EC_PARAMS`: the curve's name, its number in RFC 8410, and the number it had before.
const ED25519_PARAMS: [&[u8]; 3] =
    [b"\x13\x0cedwards25519", b"\x06\x03\x2b\x65\x70", b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"];
/// NIST P-256 in `CKA_EC_PARAMS`.
const P256_PARAMS: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// A key pair of an open session.
pub(super) struct KeyPair {
    private: ObjectHandle,
    public: PublicKey,
}

/// A session and what its token is called.
pub(super) struct Place<'a> {
    pub(super) session: &'a Session,
    pub(super) token: &'a str,
}

impl KeyPair {
    /// Looks for the pair of this name.
    pub(super) fn find(place: &Place<'_>, key_id: &str) -> Result<Self, SignError> {
        let private = place.one(ObjectClass::PRIVATE_KEY, "private", key_id)?;
        let public = place.one(ObjectClass::PUBLIC_KEY, "public", key_id)?;
        Ok(Self { private, public: place.public_key(public, key_id)? })
    }

    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`, and checks the signature: a device whose two halves do not belong together must not pass.
    pub(super) fn sign(
        &self,
        place: &Place<'_>,
        key_id: &str,
        message: &[u8],
    ) -> Result<[u8; 64], SignError> {
        let signed = match self.public.algorithm() {
            Algorithm::Ed25519 => {
                let scheme = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                place.session.sign(&Mechanism::Eddsa(scheme), self.private, message)
            }
            Algorithm::EcdsaP256 => place.session.sign(&Mechanism::Ecdsa, self.private, &sha256(message)),
        };
        let signed = signed.map_err(|e| place.meaning(&e))?;
        let signature = match self.public.algorithm() {
            Algorithm::Ed25519 => signed.try_into().ok(),
            Algorithm::EcdsaP256 => normalized_p256(&signed),
        };
        signature.filter(|signature| self.public.verify(message, signature)).ok_or_else(|| SignError::Key {
            key_id: key_id.to_owned(),
            why: format!(
                "{} signed with it, but its public key there does not verify the signature: keep one pair of this name",
                place.token
            ),
        })
    }
}

impl Place<'_> {
    fn meaning(&self, error: &cryptoki::error::Error) -> SignError {
        meaning(self.token, error)
    }

    /// The one object of a class that has the name as its label, or, where no label fits, as its id.
    fn one(&self, class: ObjectClass, half: &str, key_id: &str) -> Result<ObjectHandle, SignError> {
        let name = key_id.as_bytes().to_vec();
        for attribute in [Attribute::Label(name.clone()), Attribute::Id(name)] {
            let found = self.session.find_objects(&[Attribute::Class(class), attribute]);
            match found.map_err(|e| self.meaning(&e))?[..] {
                [] => {}
                [one] => return Ok(one),
                _ => {
                    let why = format!("{} holds several {half} keys of this name: keep one", self.token);
                    return Err(SignError::Key { key_id: key_id.to_owned(), why });
                }
            }
        }
        let why = format!(
            "{} holds no {half} key with this label or CKA_ID: make the pair there, or correct signer.key_id",
            self.token
        );
        Err(SignError::Key { key_id: key_id.to_owned(), why })
    }

    fn public_key(&self, object: ObjectHandle, key_id: &str) -> Result<PublicKey, SignError> {
        let wanted = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
        let attributes = self.session.get_attributes(object, &wanted).map_err(|e| self.meaning(&e))?;
        let (mut key_type, mut params, mut point) = (None, Vec::new(), Vec::new());
        for attribute in attributes {
            match attribute {
                Attribute::KeyType(value) => key_type = Some(value),
                Attribute::EcParams(value) => params = value,
                Attribute::EcPoint(value) => point = value,
                _ => {}
            }
        }
        read_public_key(key_type, &params, &point).ok_or_else(|| SignError::Key {
            key_id: key_id.to_owned(),
            why: format!("{} holds it as a key that is neither Ed25519 nor NIST P-256", self.token),
        })
    }
}

/// The public key of an object's attributes. Its point is a DER OCTET STRING (PKCS#11 2.40 and 3.0), a BIT STRING, or
/// the bytes as they are (3.1).
fn read_public_key(key_type: Option<KeyType>, params: &[u8], point: &[u8]) -> Option<PublicKey> {
    let algorithm = match key_type? {
        KeyType::EC_EDWARDS if ED25519_PARAMS.contains(&params) => Algorithm::Ed25519,
        KeyType::EC if params == P256_PARAMS => Algorithm::EcdsaP256,
        _ => return None,
    };
    let size = algorithm.public_key_bytes();
    let bytes = match point {
        [0x04, len, rest @ ..] if usize::from(*len) == size && rest.len() == size => rest,
        [0x03, len, 0x00, rest @ ..] if usize::from(*len) == size + 1 && rest.len() == size => rest,
        _ => point,
    };
    PublicKey::new(algorithm, bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_in_every_form_that_devices_give() {
        let ed25519 = [[0x58].as_slice(), &[0x66; 31]].concat();
        let read = |params: &[u8], point: &[u8]| read_public_key(Some(KeyType::EC_EDWARDS), params, point);
        for params in ED25519_PARAMS {
            for wrap in [&b""[..], b"\x04\x20", b"\x03\x21\x00"] {
                let key = read(params, &[wrap, &ed25519].concat()).unwrap();
                assert_eq!((key.algorithm(), key.to_bytes()), (Algorithm::Ed25519, ed25519.clone()));
            }
        }
        assert_eq!(read(P256_PARAMS, &ed25519), None);
        assert_eq!(read(ED25519_PARAMS[0], &ed25519[1..]), None);
        assert_eq!(read(ED25519_PARAMS[0], &[b"\x04\x1f".as_slice(), &ed25519].concat()), None);

        let base = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let base = cdr_core::hash::from_hex::<65>(base).unwrap();
        let read = |point: &[u8]| read_public_key(Some(KeyType::EC), P256_PARAMS, point);
        for wrap in [&b""[..], b"\x04\x41", b"\x03\x42\x00"] {
            assert_eq!(read(&[wrap, &base].concat()).unwrap().to_bytes(), base);
        }
        // Another curve, the compressed form.
        assert_eq!(read_public_key(Some(KeyType::EC), b"\x06\x05\x2b\x81\x04\x00\x0a", &base), None);
        assert_eq!(read(&[b"\x04\x21\x03".as_slice(), &base[1..33]].concat()), None);
        assert_eq!(read_public_key(None, P256_PARAMS, &base), None);
    }
}
