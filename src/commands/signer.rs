//! Opens the signer that the configuration names, and writes the record of its key for the root key to sign.

use crate::config::{self, Config, SignerKind};
use crate::signer::{DevKey, DevRoot, PinSource, Pkcs11Settings, Pkcs11Signer, Signer, Voucher};
use anyhow::{Context, bail};
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

/// Asks the signer for its key, and holds it against the record.
async fn check_key(signer: &Arc<dyn Signer>, voucher: &Voucher, cluster_id: &str) -> anyhow::Result<()> {
    let asked = signer.clone();
    let key_id = signer.active_key_id();
    let answer = tokio::task::spawn_blocking(move || asked.public_key(asked.active_key_id()))
        .await
        .context("signer")?;
    match answer {
        Ok(public_key) => {
            voucher.record(key_id, &public_key, cluster_id, cdr_core::Hour(0))?;
        }
        Err(error) if error.is_temporary() => {
            tracing::warn!(key_id, %error, "the signer is away; seals wait for it");
        }
        Err(error) => return Err(error).context("the signer can't be used"),
    }
    Ok(())
}

fn open_dev(settings: &config::Signer, cluster_id: &str) -> anyhow::Result<(Arc<dyn Signer>, Voucher)> {
    if !settings.allow_dev {
        bail!(
            "signer.kind dev-key-file signs with a key that lies in a file: set signer.allow_dev to accept that, or \
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
