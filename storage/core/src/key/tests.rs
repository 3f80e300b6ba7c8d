use super::*;
use p256::ecdsa::SigningKey as P256Signing;

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 8032, 7.1, test 2; RFC 6979, A.2.5 with SHA-256 and the message "sample", whose `s` is the higher one.
const ED25519: [&str; 3] = [
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
];
const P256: [&str; 3] = [
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    "73616d706c65",
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
];

#[test]
fn the_vectors_of_the_standards_hold() {
    let [key, message, signature] = ED25519.map(unhex);
    let key = PublicKey::new(Algorithm::Ed25519, &key).unwrap();
    assert!(key.verify(&message, &signature.clone().try_into().unwrap()));
    assert!(!key.verify(b"another", &signature.try_into().unwrap()));

    let [bytes, message, signature] = P256.map(unhex);
    let key = PublicKey::new(Algorithm::EcdsaP256, &bytes).unwrap();
    let given: [u8; 64] = signature.try_into().unwrap();
    let normalized = normalized_p256(&given).unwrap();
    assert_ne!(given, normalized);
    assert!(key.verify(&message, &normalized));
    assert!(!key.verify(&message, &given), "there is one signature, not two");
    assert!(!key.verify(b"another", &normalized));
    assert_eq!(normalized_p256(&normalized), Some(normalized));
    assert_eq!((key.to_bytes(), key.to_hex()), (bytes, P256[0].to_owned()));
}

#[test]
fn only_points_in_their_one_encoding_are_keys() {
    let ed25519 = unhex(ED25519[0]);
    let p256 = unhex(P256[0]);
    for (algorithm, bytes) in [
        (Algorithm::Ed25519, &p256[..]),
        (Algorithm::EcdsaP256, &ed25519[..]),
        (Algorithm::Ed25519, &ed25519[..31]),
        (Algorithm::EcdsaP256, &p256[..64]),
        // Not on the curve, the hybrid form of the same point, the point at infinity.
        (Algorithm::EcdsaP256, &[&p256[..64], &[p256[64] ^ 1]].concat()[..]),
        (Algorithm::EcdsaP256, &[&[0x07], &p256[1..]].concat()[..]),
        (Algorithm::EcdsaP256, &[0; 65][..]),
    ] {
        assert_eq!(PublicKey::new(algorithm, bytes), None, "{algorithm} {bytes:02x?}");
    }
    let compressed = [&[0x03], &p256[1..33]].concat();
    assert_eq!(PublicKey::new(Algorithm::EcdsaP256, &compressed), None);
    for bad in [[0; 64], [0xff; 64]] {
        assert_eq!(normalized_p256(&bad), None);
        assert!(!PublicKey::new(Algorithm::EcdsaP256, &p256).unwrap().verify(b"", &bad));
    }
    assert_eq!(normalized_p256(&[1; 63]), None);
}

#[test]
fn algorithms_are_named_in_one_way() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
    }
    for other in ["ed25519", "EdDSA", "ecdsa-P256", "", "Ed25519 "] {
        assert_eq!(Algorithm::parse(other), None);
    }
}

fn record(key_id: &str, from: u32, to: Option<u32>) -> KeyRecord {
    KeyRecord {
        algorithm: "Ed25519".to_owned(),
        cluster_id: "c".to_owned(),
        from_hour: Hour(from),
        key_id: key_id.to_owned(),
        public_key: ED25519[0].to_owned(),
        root_signature: String::new(),
        to_hour: to.map(Hour),
    }
}

#[test]
fn a_record_holds_a_key_of_either_algorithm() {
    let ed25519 = record("k", 0, None);
    assert_eq!(ed25519.public_key().unwrap().algorithm(), Algorithm::Ed25519);
    let p256 = KeyRecord {
        algorithm: "ecdsa-p256".to_owned(),
        public_key: P256[0].to_owned(),
        ..record("k", 0, None)
    };
    assert_eq!(p256.public_key().unwrap().to_hex(), P256[0]);
    let of =
        |algorithm: &str, record: &KeyRecord| KeyRecord { algorithm: algorithm.to_owned(), ..record.clone() };
    assert_eq!(of("ecdsa-p256", &ed25519).public_key(), None);
    assert_eq!(of("Ed25519", &p256).public_key(), None);
    assert_eq!(of("RSA", &ed25519).public_key(), None);
}

#[test]
fn the_root_vouches_for_keys_of_either_algorithm() {
    use ed25519_dalek::Signer as _;
    let root = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let root_public = root.verifying_key().to_bytes();
    let p256 = P256Signing::from_slice(&[2; 32]).unwrap();
    let mut vouched = KeyRecord {
        algorithm: "ecdsa-p256".to_owned(),
        public_key: to_hex(p256.verifying_key().to_sec1_point(false).as_bytes()),
        ..record("k", 0, None)
    };
    vouched.root_signature = to_hex(&root.sign(&vouched.signed_message().unwrap()).to_bytes());
    assert!(vouched.is_trusted("c", &root_public));
    assert!(!vouched.is_trusted("d", &root_public));
    // Nobody can make the record say that the key is of the other algorithm.
    assert!(!KeyRecord { algorithm: "Ed25519".to_owned(), ..vouched.clone() }.is_trusted("c", &root_public));
    let signed: p256::ecdsa::Signature = p256.sign(b"message");
    let signature = normalized_p256(&signed.to_bytes()).unwrap();
    assert!(vouched.public_key().unwrap().verify(b"message", &signature));
}

fn time(keys: &[KeyRecord], key_id: &str, at: u32) -> (KeyStatus, Option<u32>, Option<u32>) {
    let time = key_time(keys, key_id, Hour(at)).unwrap();
    (time.status, time.signs_before.map(|hour| hour.0), time.exports_before.map(|hour| hour.0))
}

#[test]
fn a_replaced_key_stays_valid_for_exports_for_thirty_days() {
    let mut keys = vec![record("old", 10, None)];
    assert_eq!(time(&keys, "old", 9), (KeyStatus::Pending, None, None));
    assert_eq!(time(&keys, "old", 10), (KeyStatus::Active, None, None));
    keys.push(record("new", 100, None));
    assert_eq!(time(&keys, "old", 99), (KeyStatus::Active, Some(100), Some(820)));
    assert_eq!(time(&keys, "new", 99), (KeyStatus::Pending, None, None));
    assert_eq!(time(&keys, "old", 100), (KeyStatus::Overlap, Some(100), Some(820)));
    assert_eq!(time(&keys, "new", 100), (KeyStatus::Active, None, None));
    assert_eq!(time(&keys, "old", 819).0, KeyStatus::Overlap);
    assert_eq!(time(&keys, "old", 820).0, KeyStatus::Retired);
    assert_eq!(key_time(&keys, "none", Hour(1)), None);
    for (key_id, signed_at, accepted) in [
        ("old", 9, false),
        ("old", 10, true),
        ("old", 819, true),
        ("old", 820, false),
        ("new", 99, false),
        ("new", 100, true),
        ("new", 100_000, true),
    ] {
        assert_eq!(export_key(&keys, key_id, Hour(signed_at)).is_some(), accepted, "{key_id} {signed_at}");
    }
}

#[test]
fn a_key_that_ends_by_its_record_overlaps_too_and_may_come_back() {
    let keys = [record("old", 10, None), record("short", 20, Some(30)), record("empty", 40, Some(40))];
    assert_eq!(time(&keys, "short", 25), (KeyStatus::Active, Some(30), Some(750)));
    assert_eq!(time(&keys, "short", 30), (KeyStatus::Overlap, Some(30), Some(750)));
    assert_eq!(time(&keys, "old", 25), (KeyStatus::Overlap, Some(20), Some(740)));
    assert_eq!(time(&keys, "old", 30), (KeyStatus::Active, None, None), "nobody else covers the hour");
    assert_eq!(time(&keys, "old", 15), (KeyStatus::Active, Some(20), Some(740)));
    // Of two that begin at once, the one registered last signs.
    let keys = [record("one", 10, None), record("two", 10, None)];
    assert_eq!(time(&keys, "two", 10).0, KeyStatus::Active);
    assert_eq!(time(&keys, "one", 10), (KeyStatus::Overlap, Some(10), Some(730)));
}
