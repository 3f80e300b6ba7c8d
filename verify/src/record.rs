//! Checks a portable proof file with nothing but the root public key, or without it as far as that goes.
//!
//! Without a root key everything is checked but one thing: whether the key that signed may. Anybody can make a file that
//! is consistent in itself, with a key of their own; the answer says so.

use crate::remote::api_error;
use crate::{COULD_NOT_RUN, HOLDS, TrustArguments, VIOLATED, told_once};
use anyhow::{Context, anyhow, bail};
use cdr_core::hash::to_hex;
use cdr_core::json::{self, MAX_FILE_BYTES};
use cdr_core::key::KeyRecord;
use cdr_core::proof::{PortableProof, Trust, Violation};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Verifies a portable proof file with nothing but the root public key.
///
/// Without --cluster and --trust everything is checked but whether the key that signed may sign; the answer says so.
/// Exit code 0: what was checked holds; 1: something does not, and it is named; 2: nothing could be checked.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordArguments {
    #[command(flatten)]
    trust: TrustArguments,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// Proof file; `-` reads standard input.
    file: PathBuf,
}

/// Verifies a proof, prints what it proves or what does not hold, and returns the exit code.
pub fn run(program: &str, arguments: &RecordArguments) -> u8 {
    let checked = read(arguments).and_then(|(proof, trust)| {
        let outcome = check(&proof, trust.as_ref())?;
        Ok((proof, trust, outcome))
    });
    let (proof, trust, outcome) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!("{program}: nothing was verified: {}", told_once(&error));
            return COULD_NOT_RUN;
        }
    };
    let with_trust = trust.is_some();
    match &outcome {
        _ if arguments.json => println!("{}", in_json(&proof, &outcome, with_trust)),
        Ok(()) => println!("{}", in_words(&proof, with_trust)),
        Err(violation) => eprintln!("{program}: NOT VERIFIED: {violation}"),
    }
    if outcome.is_ok() { HOLDS } else { VIOLATED }
}

fn read(arguments: &RecordArguments) -> anyhow::Result<(PortableProof, Option<Trust>)> {
    let file = &arguments.file;
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).context("standard input can't be read")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
    }
    if let Some(said) = api_error(&String::from_utf8_lossy(&text)) {
        bail!("this is not a proof, but the API's error: {said}");
    }
    let trust = arguments.trust.read()?;
    let proof = json::read(&text, MAX_FILE_BYTES)
        .with_context(|| format!("{} is not an unambiguous proof file", file.display()))?;
    Ok((proof, trust))
}

/// The one verifier's verdict. Where no key is to be trusted, a root that ends with this process vouches for the key
/// in the file: everything else must still hold.
fn check(proof: &PortableProof, trust: Option<&Trust>) -> anyhow::Result<Result<(), Violation>> {
    if let Some(trust) = trust {
        return Ok(proof.verify(trust));
    }
    let root = throwaway_root()?;
    let mut vouched = proof.clone();
    vouched.key = vouched.key.map(|record| vouch_for(&root, record)).transpose()?;
    let root_public_key = root.verifying_key().to_bytes();
    let trust = Trust { cluster_id: proof.seal.cluster_id.clone(), root_public_key };
    Ok(vouched.verify(&trust))
}

/// A root key that no file holds and nobody has to trust.
fn throwaway_root() -> anyhow::Result<SigningKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow!("no random bytes from the operating system: {e}"))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Puts `root`'s signature under a record, in place of any other's.
fn vouch_for(root: &SigningKey, mut record: KeyRecord) -> anyhow::Result<KeyRecord> {
    let message = record.signed_message().map_err(|why| anyhow!("key record: {why}"))?;
    record.root_signature = to_hex(&root.sign(&message).to_bytes());
    Ok(record)
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
        "{proven}\nNOT CHECKED: whether that key (public key {public_key}) may sign for cluster {}. The file is consistent in \
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
