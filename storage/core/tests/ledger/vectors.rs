//! A golden vector as text: every row, seal and proof on a line of its own, in canonical form.

use crate::oracle::{Chain, Digest32, HashedRow, hex, inclusion, jcs, sha};
use crate::scenarios::Scenario;
use crate::world::{SealKey, root_key};
use serde_json::{Value, json};
use std::fmt::Write;

/// What a vector holds, already canonical.
pub struct Vector {
    /// Rows with their personal data and `rowHash`, in order.
    pub rows: Vec<String>,
    /// `{"seal", "sealHash", "signature"}`, in order.
    pub hours: Vec<String>,
    /// Portable proofs of the rows that [`proved`] names.
    pub proofs: Vec<String>,
}

/// Where the vectors are kept.
pub fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// The rows whose proofs a vector holds: all of a few, some of many.
pub fn proved(count: usize) -> Vec<usize> {
    let all = 0..count;
    if count <= 12 {
        all.collect()
    } else {
        all.filter(|i| [0, 1, 2, 3, 4, 500, 999, 1002].contains(i) || i + 1 == count).collect()
    }
}

impl Vector {
    /// The vector as the oracle computes it.
    pub fn of_oracle(scenario: &Scenario) -> Self {
        let chain = scenario.world.oracle.recompute();
        let hours: Vec<Value> = chain
            .seals
            .iter()
            .map(|sealed| {
                let signature = scenario.world.signature(&sealed.seal, &sealed.hash);
                let signature = cdr_core::proof::encode_base64(&signature);
                json!({"seal": sealed.seal, "sealHash": hex(&sealed.hash), "signature": signature})
            })
            .collect();
        let rows = chain.rows.iter().map(|hashed| {
            let mut row = hashed.row.clone();
            row["personal"] = hashed.personal.clone().unwrap_or_default();
            row["rowHash"] = hex(&hashed.hash).into();
            jcs(&row)
        });
        Self {
            rows: rows.collect(),
            proofs: proved(chain.rows.len()).into_iter().map(|i| jcs(&proof(&chain, &hours, i))).collect(),
            hours: hours.iter().map(jcs).collect(),
        }
    }

    /// The file's text.
    pub fn document(&self, scenario: &Scenario) -> String {
        let mut out = String::from("{\n");
        let text = |value: &str| Value::from(value).to_string();
        let _ = writeln!(out, "\"about\": {},", text(scenario.about));
        let _ = writeln!(out, "\"clusterId\": {},", text(&scenario.world.oracle.cluster_id));
        let _ = writeln!(out, "\"rootPublicKey\": {},", text(&hex(root_key().verifying_key().as_bytes())));
        let lists = [("rows", &self.rows), ("hours", &self.hours), ("proofs", &self.proofs)];
        for (i, (name, lines)) in lists.into_iter().enumerate() {
            let end = if i < 2 { "]," } else { "]" };
            let _ = writeln!(out, "{}: [\n{}\n{end}", text(name), lines.join(",\n"));
        }
        out + "}\n"
    }
}

/// Files and the sidecars that sign them, by a key of each algorithm: name of the key, algorithm, public key (hexadecimal),
/// the file's text, and the sidecar.
pub fn sidecars() -> Vec<[String; 5]> {
    let file = "CDGHAAFGAWTST00001\nnot a real file\n";
    [("export-1", SealKey::ed25519(11)), ("export-2", SealKey::p256(12))]
        .into_iter()
        .flat_map(|(key_id, key)| {
            ["", file].map(|content| {
                let digest = sha(&[content.as_bytes()]);
                let signature = cdr_core::proof::encode_base64(&key.sign(&digest));
                let (algorithm, digest) = (key.algorithm(), hex(&digest));
                let sidecar = format!(
                    "KeyId: {key_id}\nAlgorithm: {algorithm}\nSignature: {signature}\nFileSha256: {digest}\n"
                );
                [key_id.to_owned(), algorithm.to_owned(), key.public_key(), content.to_owned(), sidecar]
            })
        })
        .collect()
}

/// Where the sidecars are kept.
pub fn sidecar_file() -> std::path::PathBuf {
    folder().join("sidecars/sidecars.json")
}

/// The text of [`sidecar_file`].
pub fn sidecar_document() -> String {
    let lines: Vec<String> = sidecars()
        .iter()
        .map(|[key_id, algorithm, public_key, content, sidecar]| {
            jcs(&json!({
                "keyId": key_id, "algorithm": algorithm, "publicKey": public_key, "content": content, "sidecar": sidecar,
            }))
        })
        .collect();
    let about = "Files and the sidecars that sign them, by a key of each algorithm";
    format!("{{\n\"about\": \"{about}\",\n\"files\": [\n{}\n]\n}}\n", lines.join(",\n"))
}

fn proof(chain: &Chain, hours: &[Value], index: usize) -> Value {
    let row = &chain.rows[index].row;
    let sealed = hours.iter().find(|s| s["seal"]["bucketHour"] == row["bucketHour"]).expect("a sealed hour");
    let seal = &sealed["seal"];
    let operators = seal["operators"].as_array().expect("a list");
    let at =
        operators.iter().position(|entry| entry["operatorId"] == row["operatorId"]).expect("its operator");
    let is_beside = |name: &str, other: &Value| other[name] == row[name];
    let partition: Vec<&HashedRow> = chain
        .rows
        .iter()
        .filter(|other| is_beside("bucketHour", &other.row) && is_beside("operatorId", &other.row))
        .collect();
    let leaves: Vec<Digest32> = partition.iter().map(|hashed| hashed.hash).collect();
    let leaf_index = leaves.iter().position(|leaf| *leaf == chain.rows[index].hash).expect("the row itself");
    let national: Vec<Digest32> = operators.iter().map(national_leaf).collect();
    let is_key = |row: &&Value| row["recordType"] == "key" && row["body"]["keyId"] == seal["signerKeyId"];
    let key = chain.rows.iter().map(|r| &r.row).find(is_key).map(|row| row["body"].clone());
    let entry = &operators[at];
    json!({
        "formatVersion": 2, "row": row, "personal": chain.rows[index].personal, "rowHash": hex(&chain.rows[index].hash), "operatorProof": inclusion(&leaves, leaf_index),
        "operatorChain": {
            "bucketRoot": entry["bucketRoot"], "prevChainHash": entry["prevChainHash"], "chainHash": entry["chainHash"],
        },
        "nationalProof": inclusion(&national, at), "seal": seal, "sealHash": sealed["sealHash"],
        "signature": sealed["signature"], "key": key, "anchor": null,
    })
}

fn national_leaf(entry: &Value) -> Digest32 {
    let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
    let chain: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&text("chainHash")[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect();
    sha(&[text("operatorId").as_bytes(), &[0], &chain])
}
