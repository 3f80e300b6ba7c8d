//! `verify-record`: checks a portable proof file with nothing but the root public key, or without it as far as that goes.
//!
//! Without a root key everything is checked but one thing: whether the key that signed may. Anybody can make a file that
//! holds in itself, with a key of their own; the answer says so.

use super::remote::api_error;
use crate::signer::DevRoot;
use anyhow::{Context, bail};
use cdr_core::json::{self, MAX_FILE_BYTES};
use cdr_core::proof::{PortableProof, Trust, Violation, parse_public_key};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Exit code: what was checked holds.
pub const HOLDS: u8 = 0;
/// Exit code: something does not hold.
pub const VIOLATED: u8 = 1;
/// Exit code: nothing could be checked.
pub const COULD_NOT_RUN: u8 = 2;

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyRecordOptions {
    /// Proof file; `-` reads standard input.
    pub file: PathBuf,
    /// Name of the cluster and file of the root public key; without them the signing key is taken as it stands.
    pub trust: Option<(String, PathBuf)>,
    /// Answer in JSON.
    pub json: bool,
}

/// Verifies a proof, prints what it proves or what does not hold, and returns the exit code.
pub fn run(options: &VerifyRecordOptions) -> u8 {
    let checked = read(options).and_then(|(proof, trust)| {
        let outcome = check(&proof, trust.as_ref())?;
        Ok((proof, outcome))
    });
    let (proof, outcome) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!("cdr-mediation: nothing was verified: {}", super::told_once(&error));
            return COULD_NOT_RUN;
        }
    };
    let with_trust = options.trust.is_some();
    match &outcome {
        _ if options.json => println!("{}", in_json(&proof, &outcome, with_trust)),
        Ok(()) => println!("{}", in_words(&proof, with_trust)),
        Err(violation) => eprintln!("cdr-mediation: NOT VERIFIED: {violation}"),
    }
    if outcome.is_ok() { HOLDS } else { VIOLATED }
}

fn read(options: &VerifyRecordOptions) -> anyhow::Result<(PortableProof, Option<Trust>)> {
    let file = &options.file;
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).context("standard input can't be read")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
    }
    if let Some(said) = api_error(&String::from_utf8_lossy(&text)) {
        bail!("this is no proof, but what the API answered in place of one: {said}");
    }
    let trust = match &options.trust {
        None => None,
        Some((cluster_id, path)) => Some(read_trust(cluster_id, path)?),
    };
    let proof = json::read(&text, MAX_FILE_BYTES)
        .with_context(|| format!("{} is no proof file that can be read in one way only", file.display()))?;
    Ok((proof, trust))
}

pub(super) fn read_trust(cluster_id: &str, path: &Path) -> anyhow::Result<Trust> {
    let root = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let Some(root_public_key) = parse_public_key(&root) else {
        bail!("{} does not hold a public key: 64 hexadecimal digits are expected", path.display());
    };
    Ok(Trust { cluster_id: cluster_id.to_owned(), root_public_key })
}

/// The one verifier's verdict. Where nobody is to be trusted, a root that ends with this process vouches for the key
/// in the file: everything else must hold all the same.
fn check(proof: &PortableProof, trust: Option<&Trust>) -> anyhow::Result<Result<(), Violation>> {
    if let Some(trust) = trust {
        return Ok(proof.verify(trust));
    }
    let root = DevRoot::throwaway()?;
    let mut vouched = proof.clone();
    vouched.key = vouched.key.map(|record| root.vouch_for(record)).transpose()?;
    let trust = Trust { cluster_id: proof.seal.cluster_id.clone(), root_public_key: root.public_key() };
    Ok(vouched.verify(&trust))
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn in_words(proof: &PortableProof, with_trust: bool) -> String {
    let seal = &proof.seal;
    let key_id = seal.signer_key_id.as_deref().unwrap_or("none");
    let proven = format!(
        "{} is row {} of hour {} in cluster {}, sealed at {} under key {key_id}",
        text(&proof.row, "cdrId"),
        proof.row.get("cdrSequence").unwrap_or(&Value::Null),
        seal.bucket_hour,
        seal.cluster_id,
        seal.sealed_at,
    );
    let unchecked = if proof.withholds_personal() {
        "\nNumbers not checked: the file has none of the row's personal data."
    } else {
        ""
    };
    let proven = format!("{proven}{unchecked}");
    if with_trust {
        return proven;
    }
    let public_key = proof.key.as_ref().map_or("", |key| key.public_key.as_str());
    format!(
        "{proven}\nNOT CHECKED: whether that key (public key {public_key}) may sign for cluster {}. The file holds in \
         itself, but anybody can make such a file with a key of their own. Pass --cluster and --trust with the root's \
         public key, from a source that you trust, to check that too.",
        seal.cluster_id
    )
}

fn in_json(proof: &PortableProof, outcome: &Result<(), Violation>, with_trust: bool) -> Value {
    json!({
        "verified": outcome.is_ok(),
        "trustChecked": with_trust,
        "numbersChecked": outcome.is_ok() && !proof.withholds_personal(),
        "violation": outcome.as_ref().err().map(ToString::to_string),
        "cdrId": text(&proof.row, "cdrId"),
        "cdrSequence": proof.row.get("cdrSequence"),
        "bucketHour": proof.seal.bucket_hour,
        "clusterId": proof.seal.cluster_id,
        "sealedAt": proof.seal.sealed_at,
        "signerKeyId": proof.seal.signer_key_id,
        "publicKey": proof.key.as_ref().map(|key| &key.public_key),
    })
}
