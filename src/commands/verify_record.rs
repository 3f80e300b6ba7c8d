//! `verify-record`: checks a portable proof file with nothing but the root public key.

use anyhow::{Context, bail};
use cdr_core::proof::{PortableProof, Trust, parse_public_key};
use std::io::Read;
use std::path::Path;

/// Verifies the proof in `file` (`-` reads standard input) and says what it proves.
///
/// # Errors
/// What does not hold, or what could not be read.
pub fn run(file: &Path, cluster_id: &str, trust: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input can't be read")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    }
    let root =
        std::fs::read_to_string(trust).with_context(|| format!("{} can't be read", trust.display()))?;
    let Some(root_public_key) = parse_public_key(&root) else {
        bail!("{} does not hold a public key: 64 hexadecimal digits are expected", trust.display());
    };
    let proof: PortableProof = serde_json::from_str(&text).context("this is no proof file")?;
    proof.verify(&Trust { cluster_id: cluster_id.to_owned(), root_public_key })?;
    let cdr_id = proof.row.get("cdrId").and_then(serde_json::Value::as_str).unwrap_or_default();
    Ok(format!(
        "{cdr_id} is row {} of hour {} in cluster {cluster_id}, sealed at {} under key {}",
        proof.row.get("cdrSequence").unwrap_or(&serde_json::Value::Null),
        proof.seal.bucket_hour,
        proof.seal.sealed_at,
        proof.seal.signer_key_id.as_deref().unwrap_or("none"),
    ))
}
