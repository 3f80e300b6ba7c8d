//! Opens the signer that the configuration names, and writes the record of its key for the root key to sign.

use crate::config::{self, Config, SignerKind};
use crate::signer::{DevKey, DevRoot, PinSource, Pkcs11Settings, Pkcs11Signer, Signer, Voucher};
use anyhow::{Context, bail};
use cdr_core::Hour;
use cdr_core::hash::to_hex;
use cdr_core::key::KeyRecord;
use cdr_core::proof::parse_public_key;
use std::path::PathBuf;
use std::sync::Arc;

/// The signer, and where the record of its key comes from. A signer that refuses, or whose key is not the record's, is
/// refused here; one that is away may come later.
///
/// # Errors
/// What is wrong, and what to do.
pub async fn open(config: &Config) -> anyhow::Result<(Arc<dyn Signer>, Arc<Voucher>)> {
    let (settings, cluster_id) = (&config.signer, &config.cluster.id);
    let (signer, voucher): (Arc<dyn Signer>, Voucher) = match settings.kind {
        SignerKind::DevKeyFile => open_dev(settings, cluster_id)?,
        SignerKind::Pkcs11 => {
            let Some(file) = &settings.key_record_file else {
                bail!("signer.key_record_file is missing: name the record that the root key signed");
            };
            let voucher = Voucher::from_file(file, &settings.key_id, cluster_id)?;
            (Arc::new(open_hsm(settings)?), voucher)
        }
    };
    check_key(&signer, &voucher, cluster_id).await?;
    Ok((signer, Arc::new(voucher)))
}

/// Asks the signer for its key, and compares it with the record.
async fn check_key(signer: &Arc<dyn Signer>, voucher: &Voucher, cluster_id: &str) -> anyhow::Result<()> {
    let asked = signer.clone();
    let key_id = signer.active_key_id();
    let answer = tokio::task::spawn_blocking(move || asked.public_key(asked.active_key_id()))
        .await
        .context("signer")?;
    match answer {
        Ok(public_key) => {
            voucher.record(key_id, &public_key, cluster_id, Hour(0))?;
        }
        Err(error) if error.is_temporary() => {
            tracing::warn!(key_id, %error, "the signer is unavailable; seals wait for it");
        }
        Err(error) => return Err(error).context("the signer can't be used"),
    }
    Ok(())
}

fn open_dev(settings: &config::Signer, cluster_id: &str) -> anyhow::Result<(Arc<dyn Signer>, Voucher)> {
    if !settings.allow_dev {
        bail!(
            "signer.kind dev-key-file signs with a key in a file: set signer.allow_dev to accept that, or \
             signer.kind to pkcs11"
        );
    }
    let Some(path) = &settings.key_file else {
        bail!("signer.key_file is missing: name the file of the signing key")
    };
    let signer = DevKey::load_or_create(path, "seal")?;
    let voucher = match &settings.key_record_file {
        Some(file) => Voucher::from_file(file, signer.key_id(), cluster_id)?,
        None => Voucher::DevRoot(DevRoot::load_or_create(&path.with_extension("root"))?),
    };
    Ok((Arc::new(signer), voucher))
}

fn open_hsm(settings: &config::Signer) -> anyhow::Result<Pkcs11Signer> {
    let (Some(module), Some(token_label)) = (&settings.module, &settings.token_label) else {
        bail!("signer.module and signer.token_label are required with signer.kind pkcs11");
    };
    Ok(Pkcs11Signer::start(Pkcs11Settings {
        module: module.clone(),
        token_label: token_label.clone(),
        pin: settings.pin_file.clone().map_or(PinSource::Environment, PinSource::File),
        key_id: settings.key_id.clone(),
        algorithm: settings.algorithm,
        previous_key_ids: settings.previous_key_ids.clone(),
    })?)
}

/// What record to write of the key that is configured to sign.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// First hour that the key may seal.
    pub from: String,
    /// First hour that it may no longer seal.
    pub to: Option<String>,
    /// Where to write the bytes that the root key is to sign.
    pub message: Option<PathBuf>,
    /// File with the root key's signature over them, 64 bytes, and file with the root's public key.
    pub root: Option<(PathBuf, PathBuf)>,
}

/// Asks the signer for its key, and prints the key's record as JSON: with the root's signature if it is given, and holds,
/// else without one.
///
/// # Errors
/// What is wrong, and what to do.
pub fn record(config: &Config, options: &RecordOptions) -> anyhow::Result<()> {
    let hour = |text: &str| {
        Hour::parse(text).with_context(|| format!("{text} is not an hour: write 2026-05-01T00:00:00Z"))
    };
    let signer: Arc<dyn Signer> = match config.signer.kind {
        SignerKind::Pkcs11 => Arc::new(open_hsm(&config.signer)?),
        SignerKind::DevKeyFile => {
            bail!("signer.kind is dev-key-file: the development root vouches by itself")
        }
    };
    let key_id = signer.active_key_id();
    let public_key = signer.public_key(key_id).context("the signer can't be used")?;
    let mut record = KeyRecord {
        algorithm: public_key.algorithm().to_string(),
        cluster_id: config.cluster.id.clone(),
        from_hour: hour(&options.from)?,
        key_id: key_id.to_owned(),
        public_key: public_key.to_hex(),
        root_signature: String::new(),
        to_hour: options.to.as_deref().map(hour).transpose()?,
    };
    if let Some(path) = &options.message {
        let message = record.signed_message().map_err(anyhow::Error::msg)?;
        std::fs::write(path, message).with_context(|| format!("{} can't be written", path.display()))?;
    }
    if let Some((signature, root)) = &options.root {
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} can't be read", path.display()));
        let root_public_key = parse_public_key(&String::from_utf8_lossy(&read(root)?))
            .with_context(|| format!("{} does not hold 64 hexadecimal digits", root.display()))?;
        record.root_signature = to_hex(&read(signature)?);
        if !record.is_trusted(&config.cluster.id, &root_public_key) {
            bail!(
                "{} is not the root key's signature over this record: sign what --message writes, with the same --from and --to",
                signature.display()
            );
        }
    }
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}
