//! The golden vectors are what this crate computes, byte for byte.

use crate::proofs::{personal_value, prove, row_value};
use crate::scenarios::{Scenario, all};
use crate::vectors::{Vector, folder, proved, sidecar_document, sidecar_file, sidecars};
use crate::world::trust;
use cdr_core::canonical::to_jcs;
use cdr_core::export_signature::ExportSignature;
use cdr_core::hash::{sha256, to_hex};
use cdr_core::key::{Algorithm, PublicKey};
use cdr_core::proof::encode_base64;
use cdr_core::rules::Build;
use serde_json::json;

fn canonical(value: &impl serde::Serialize) -> String {
    String::from_utf8(to_jcs(value).unwrap()).unwrap()
}

/// The vector as this crate computes it.
fn of_ledger(scenario: &Scenario) -> Vector {
    let ledger = &scenario.world.ledger;
    let rows = (0..ledger.rows.len()).map(|i| {
        let mut row = row_value(&scenario.world, i);
        row["personal"] = personal_value(&scenario.world, i).unwrap_or_default();
        row["rowHash"] = to_hex(&ledger.rows[i].1).into();
        canonical(&row)
    });
    let hours = ledger.seals.values().map(|closed| {
        let signature = encode_base64(&ledger.signatures[&closed.seal.bucket_hour].signature);
        canonical(
            &json!({"seal": closed.seal, "sealHash": to_hex(&closed.seal_hash), "signature": signature}),
        )
    });
    let proofs = proved(ledger.rows.len()).into_iter().map(|i| {
        let proof = prove(&scenario.world, i);
        assert_eq!(proof.verify_as(&trust(), Build::NEXT), Ok(()));
        canonical(&proof)
    });
    Vector { rows: rows.collect(), hours: hours.collect(), proofs: proofs.collect() }
}

#[test]
fn the_golden_vectors_are_what_this_crate_computes() {
    let mut count = 0;
    for scenario in all() {
        count += 1;
        scenario.world.check();
        let path = folder().join(format!("{}.json", scenario.name));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| {
            panic!("{}: {e}; write it with: cargo run -p cdr-core --release --example golden", path.display())
        });
        let computed = of_ledger(&scenario).document(&scenario);
        assert_eq!(
            golden,
            Vector::of_oracle(&scenario).document(&scenario),
            "{}: not the oracle's",
            scenario.name
        );
        let differs = computed.lines().zip(golden.lines()).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{}: the first line that differs", scenario.name);
        assert_eq!(computed.len(), golden.len(), "{}", scenario.name);
    }
    let files = std::fs::read_dir(folder()).unwrap();
    let vectors =
        files.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count();
    assert_eq!(vectors, count, "a vector that no scenario writes");
}

#[test]
fn the_golden_sidecars_are_what_this_crate_reads_and_writes() {
    assert_eq!(std::fs::read_to_string(sidecar_file()).unwrap(), sidecar_document());
    for [key_id, algorithm, public_key, content, sidecar] in sidecars() {
        let read = ExportSignature::parse(&sidecar).unwrap();
        assert_eq!((read.render(), &read.key_id), (sidecar, &key_id));
        let bytes: Vec<u8> = (0..public_key.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&public_key[at..at + 2], 16).unwrap())
            .collect();
        let key = PublicKey::new(Algorithm::parse(&algorithm).unwrap(), &bytes).unwrap();
        assert_eq!(read.verify(&sha256(content.as_bytes()), &key), Ok(()));
    }
}
