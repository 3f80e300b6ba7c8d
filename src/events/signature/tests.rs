#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Two keys, made once: RSA keys take their time.
fn keys() -> &'static [SigningKey; 2] {
    static KEYS: OnceLock<[SigningKey; 2]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        ["a.pem", "b.pem"].map(|name| SigningKey::load_or_create(&folder.path().join(name)).unwrap())
    })
}

fn trusted() -> TrustedKey {
    TrustedKey::from_pem("dev", keys()[0].public_pem()).unwrap()
}

fn payloads(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("{{\"event\":{i}}}").into_bytes()).collect()
}

fn sign(payloads: &[Vec<u8>]) -> SignedBatch {
    SignedBatch::sign(payloads, &keys()[0], "dev", Millis(1_776_690_000_123)).unwrap()
}

fn set(headers: &mut [(String, String)], name: &str, value: &str) {
    value.clone_into(&mut headers.iter_mut().find(|(n, _)| n == name).unwrap().1);
}

#[test]
fn every_event_of_a_batch_verifies_whatever_its_size() {
    for count in [1, 2, 3, 4, 5, 7, 8, 9, 500] {
        let payloads = payloads(count);
        let batch = sign(&payloads);
        let leaves: Vec<Hash> = payloads.iter().map(|p| sha256(p)).collect();
        for (index, payload) in payloads.iter().enumerate() {
            let claims = verify_event(payload, &batch.headers(index), &trusted()).unwrap();
            assert_eq!(claims.count, count as u64);
            assert_eq!(claims.root, to_hex(&cdr_core::merkle::root(&leaves).unwrap()), "the ledger's tree");
            assert_eq!((claims.iss.as_str(), claims.iat), ("dev", 1_776_690_000));
        }
        assert!(batch.headers(count).is_empty());
    }
    assert_eq!(
        SignedBatch::sign::<Vec<u8>>(&[], &keys()[0], "dev", Millis(0)).unwrap_err(),
        SignError::Empty
    );
}

#[test]
fn the_signature_says_what_it_is() {
    let batch = sign(&payloads(3));
    let headers = batch.headers(2);
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Cdr-Batch-Signature", "Cdr-Batch-Index", "Cdr-Batch-Proof"]);
    let header = URL_SAFE_NO_PAD.decode(headers[0].1.split('.').next().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&header).unwrap(),
        json!({ "alg": "RS256", "kid": keys()[0].kid(), "typ": "cdr-event-batch+jws" })
    );
    let claims = URL_SAFE_NO_PAD.decode(headers[0].1.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let keys: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["count", "iat", "iss", "root"]);
    assert!(headers.iter().all(|(_, value)| value.is_ascii() && !value.contains([' ', '\r', '\n'])));
}

#[test]
fn a_batch_of_another_key_or_cluster_is_refused() {
    let payloads = payloads(4);
    let other_key = SignedBatch::sign(&payloads, &keys()[1], "dev", Millis(0)).unwrap();
    let error = verify_event(&payloads[1], &other_key.headers(1), &trusted()).unwrap_err();
    assert!(matches!(error, VerifyError::Signature { .. }), "{error}");
    let other_cluster = SignedBatch::sign(&payloads, &keys()[0], "other", Millis(0)).unwrap();
    let error = verify_event(&payloads[1], &other_cluster.headers(1), &trusted()).unwrap_err();
    assert_eq!(error, VerifyError::Foreign { cluster_id: "dev".to_owned() });
}

#[test]
fn headers_of_another_batch_or_place_are_refused() {
    let (first, second) = (payloads(4), payloads(9)[5..].to_vec());
    let (one, two) = (sign(&first), sign(&second));
    let error = verify_event(&first[1], &two.headers(1), &trusted()).unwrap_err();
    assert_eq!(error, VerifyError::NotInBatch { index: 1, count: 4 });
    let error = verify_event(&first[1], &one.headers(2), &trusted()).unwrap_err();
    assert_eq!(error, VerifyError::NotInBatch { index: 2, count: 4 });
    // The signature of one batch with the path of the other.
    let mut mixed = one.headers(1);
    let path = two.headers(1).remove(2).1;
    set(&mut mixed, PROOF_HEADER, &path);
    assert!(verify_event(&first[1], &mixed, &trusted()).is_err());
}

#[test]
fn an_inner_node_does_not_pass_for_an_event() {
    let payloads = payloads(4);
    let batch = sign(&payloads);
    let inner = [sha256(&payloads[0]), sha256(&payloads[1])].concat();
    let mut headers = batch.headers(0);
    let upper = headers[2].1.split(',').nth(1).unwrap().to_owned();
    set(&mut headers, PROOF_HEADER, &upper);
    let error = verify_event(&inner, &headers, &trusted()).unwrap_err();
    assert_eq!(error, VerifyError::NotInBatch { index: 0, count: 4 });
}

#[test]
fn missing_repeated_and_malformed_headers_are_named() {
    let payloads = payloads(2);
    let good = sign(&payloads).headers(1);
    let refused = |headers: &[(String, String)]| match verify_event(&payloads[1], headers, &trusted()) {
        Err(VerifyError::Header { name }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[]), SIGNATURE_HEADER);
    assert_eq!(refused(&good[..1]), INDEX_HEADER);
    for (at, (name, _)) in good.iter().enumerate() {
        let mut twice = good.clone();
        twice.push(good[at].clone());
        assert_eq!(refused(&twice), name);
    }
    for (name, value) in
        [(INDEX_HEADER, "one"), (INDEX_HEADER, "-1"), (PROOF_HEADER, "AA"), (PROOF_HEADER, "")]
    {
        let mut headers = good.clone();
        set(&mut headers, name, value);
        assert_eq!(refused(&headers), name);
    }
    // Without its proof an event of a larger batch is nowhere.
    let error = verify_event(&payloads[1], &good[..2], &trusted()).unwrap_err();
    assert_eq!(error, VerifyError::NotInBatch { index: 1, count: 2 });
}

#[test]
fn another_kind_of_token_by_the_same_key_is_refused() {
    let payloads = payloads(1);
    let claims = BatchClaims { count: 1, root: to_hex(&sha256(&payloads[0])), iss: "dev".to_owned(), iat: 0 };
    let headers = |header: &Header| {
        let jws = encode(header, &claims, &keys()[0].key).unwrap();
        vec![(SIGNATURE_HEADER.to_owned(), jws), (INDEX_HEADER.to_owned(), "0".to_owned())]
    };
    let right = Header { typ: Some(JWS_TYPE.to_owned()), ..Header::new(Algorithm::RS256) };
    verify_event(&payloads[0], &headers(&right), &trusted()).unwrap();
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..right.clone() };
    let algorithm = Header { alg: Algorithm::RS512, ..right };
    for header in [Header::new(Algorithm::RS256), critical, algorithm] {
        let error = verify_event(&payloads[0], &headers(&header), &trusted()).unwrap_err();
        assert!(matches!(error, VerifyError::Signature { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(64)))]

    #[test]
    fn any_changed_bit_is_found(
        count in 1usize..40,
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let payloads = payloads(count);
        let batch = sign(&payloads);
        let index = pick.index(count);
        let mut payload = payloads[index].clone();
        payload[at.index(payloads[index].len())] ^= 1 << bit;
        prop_assert!(verify_event(&payload, &batch.headers(index), &trusted()).is_err());
        for header in 0..batch.headers(index).len() {
            let mut headers = batch.headers(index);
            let mut value = std::mem::take(&mut headers[header].1).into_bytes();
            let place = at.index(value.len());
            // Another letter of the alphabet, so that the header stays readable.
            value[place] = if value[place] == b'1' { b'2' } else { b'1' };
            headers[header].1 = String::from_utf8(value).unwrap();
            prop_assert!(verify_event(&payloads[index], &headers, &trusted()).is_err(), "header {}", header);
        }
    }
}
