//! One signer and its device: both algorithms, a token that goes away, a wrong PIN.

use cdr_core::export_signature::ExportSignature;
use cdr_core::hash::sha256;
use cdr_core::key::Algorithm::{self, EcdsaP256, Ed25519};
use cdr_mediation::signer::{PIN_VARIABLE, PinSource, Pkcs11Settings, Pkcs11Signer, SignError, Signer};
use testkit::softhsm::{ED25519_SEED, P256_PUBLIC, PIN, SoftHsm, TOKEN};

/// How a signer reaches the token.
fn settings(hsm: &SoftHsm, key_id: &str, algorithm: Algorithm, previous: &[&str]) -> Pkcs11Settings {
    Pkcs11Settings {
        module: SoftHsm::module(),
        token_label: TOKEN.to_owned(),
        pin: PinSource::File(hsm.pin_file()),
        key_id: key_id.to_owned(),
        algorithm,
        previous_key_ids: previous.iter().map(|id| (*id).to_owned()).collect(),
    }
}

const OLD: &str = "cdr-export-signer-v1";
const NEW: &str = "cdr-export-signer-v2";

fn start(settings: Pkcs11Settings) -> Pkcs11Signer {
    Pkcs11Signer::start(settings).unwrap()
}

fn signs(signer: &Pkcs11Signer, key_id: &str, message: &[u8]) {
    let signature = signer.sign(key_id, message).unwrap();
    let key = signer.public_key(key_id).unwrap();
    assert!(key.verify(message, &signature));
    assert!(!key.verify(b"another message", &signature));
}

fn refusal(result: Result<impl Sized, SignError>) -> String {
    let Err(error) = result else { panic!("it was not refused") };
    assert!(!error.is_temporary(), "{error}");
    error.to_string()
}

#[test]
fn keys_of_both_algorithms_sign() {
    let Some(hsm) = SoftHsm::for_test("hsm::device::keys_of_both_algorithms_sign") else { return };
    hsm.import(OLD, Ed25519);
    hsm.import(NEW, EcdsaP256);
    let signer = start(settings(&hsm, NEW, EcdsaP256, &[OLD]));
    assert_eq!(signer.active_key_id(), NEW);
    let public = signer.public_key(OLD).unwrap();
    let expected = ed25519_dalek::SigningKey::from_bytes(&ED25519_SEED).verifying_key().to_bytes();
    assert_eq!((public.algorithm(), public.to_bytes()), (Ed25519, expected.to_vec()));
    assert_eq!(signer.public_key(NEW).unwrap().to_hex(), P256_PUBLIC);
    // Half of all P-256 signatures come out of a device with the higher s.
    for number in 0..16u8 {
        signs(&signer, OLD, &[number]);
        signs(&signer, NEW, &[number]);
    }
    let file_sha256 = sha256(b"a file");
    for (key_id, algorithm) in [(OLD, Ed25519), (NEW, EcdsaP256)] {
        let signature = signer.sign(key_id, &ExportSignature::signed_message(&file_sha256)).unwrap();
        let sidecar = ExportSignature { key_id: key_id.to_owned(), algorithm, signature, file_sha256 };
        let read = ExportSignature::parse(&sidecar.render()).unwrap();
        assert_eq!(read.verify(&file_sha256, &signer.public_key(key_id).unwrap()), Ok(()));
    }
}

#[test]
fn what_can_not_be_signed_with_is_named() {
    let Some(hsm) = SoftHsm::for_test("hsm::device::what_can_not_be_signed_with_is_named") else { return };
    hsm.import(OLD, Ed25519);
    let signer = start(settings(&hsm, OLD, EcdsaP256, &["later"]));
    let why = refusal(signer.public_key(OLD));
    assert!(why.contains("key of Ed25519, signer.algorithm is ecdsa-p256"), "{why}");
    let why = refusal(signer.sign("unheard-of", b"m"));
    assert!(why.contains("signer.previous_key_ids"), "{why}");
    let why = refusal(signer.sign("later", b"m"));
    assert!(why.contains("holds no private key with this label or CKA_ID"), "{why}");
    // Made on the device while the signer stands, it is found.
    hsm.import("later", EcdsaP256);
    signs(&signer, "later", b"m");
    drop(signer);

    let settings = settings(&hsm, OLD, Ed25519, &[]);
    let other = start(Pkcs11Settings { module: "/nonexistent/libpkcs11.so".into(), ..settings.clone() });
    let why = refusal(other.public_key(OLD));
    assert!(why.contains("signer.module"), "{why}");
    let other = start(Pkcs11Settings { token_label: "another".to_owned(), ..settings });
    let Err(error) = other.public_key(OLD) else { panic!("there is no such token") };
    assert!(error.is_temporary() && error.to_string().contains("token another can't be reached"), "{error}");
}

#[test]
fn a_token_that_was_away_signs_again() {
    let Some(hsm) = SoftHsm::for_test("hsm::device::a_token_that_was_away_signs_again") else { return };
    hsm.import(OLD, Ed25519);
    let signer = start(settings(&hsm, OLD, Ed25519, &[]));
    for round in 0..3u8 {
        signs(&signer, OLD, &[round]);
        hsm.take_away();
        let error = signer.sign(OLD, b"m").unwrap_err();
        assert!(error.is_temporary(), "{error}");
        assert!(signer.sign(OLD, b"m").unwrap_err().is_temporary());
        hsm.bring_back();
    }
    signs(&signer, OLD, b"back");
    // Away from the beginning: the first request that finds it is served.
    drop(signer);
    hsm.take_away();
    let signer = start(settings(&hsm, OLD, Ed25519, &[]));
    assert!(signer.public_key(OLD).unwrap_err().is_temporary());
    hsm.bring_back();
    signs(&signer, OLD, b"here");
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let Some(hsm) = SoftHsm::for_test("hsm::device::a_wrong_pin_is_tried_once") else { return };
    hsm.import(OLD, Ed25519);
    let wrong = "wrong-5Tz81";
    std::fs::write(hsm.pin_file(), wrong).unwrap();
    let signer = start(settings(&hsm, OLD, Ed25519, &[]));
    let first = refusal(signer.sign(OLD, b"m"));
    assert!(first.contains("token cdr refuses"), "{first}");
    let second = refusal(signer.sign(OLD, b"m"));
    assert!(second.contains("was refused before"), "{second}");
    assert!(!first.contains(wrong) && !second.contains(wrong));
    std::fs::write(hsm.pin_file(), format!("{PIN}\n")).unwrap();
    signs(&signer, OLD, b"the right one needs no restart");
    drop(signer);

    std::fs::write(hsm.pin_file(), "\n").unwrap();
    let why = refusal(start(settings(&hsm, OLD, Ed25519, &[])).public_key(OLD));
    assert!(why.contains("holds no PIN"), "{why}");
    std::fs::remove_file(hsm.pin_file()).unwrap();
    let why = refusal(start(settings(&hsm, OLD, Ed25519, &[])).public_key(OLD));
    assert!(why.contains("can't be read"), "{why}");
    let settings = Pkcs11Settings { pin: PinSource::Environment, ..settings(&hsm, OLD, Ed25519, &[]) };
    let why = refusal(start(settings).public_key(OLD));
    assert!(why.contains(PIN_VARIABLE), "{why}");
}
