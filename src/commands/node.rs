//! `node`: one replica in production.

use super::stop_signal;
use crate::bus::{Bus, JetStream, LocalBackend, LocalOptions, NatsAuth, NatsOptions, NatsTls};
use crate::clock::Clock;
use crate::config::{BusKind, Config};
use crate::events::signing_key::SigningKey;
use crate::replica::{Replica, ReplicaParts};
use crate::signer::{DevKey, DevRoot, Signer};
use anyhow::{Context, bail};
use cdr_core::seal::KeyRecord;
use cdr_core::time::Hour;
use std::path::Path;
use std::sync::Arc;

/// Runs a replica until it is told to stop.
///
/// # Errors
/// What can't be opened or started.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let clock = Clock::system();
    let bus = open_bus(&config).await?;
    let (signer, key) = open_signer(&config)?;
    let event_key = match &config.events.signing_key_file {
        Some(path) if config.events.enabled => Some(Arc::new(SigningKey::load(path)?)),
        _ => None,
    };
    let replica =
        Replica::start(ReplicaParts { config, clock, bus, signer, key, event_key, allow_replay: false })
            .await?;
    tracing::info!(node = replica.node().node_id(), "replica started");
    stop_signal().await.context("signals can't be received")?;
    tracing::info!("stopping");
    replica.stop().await;
    Ok(())
}

async fn open_bus(config: &Config) -> anyhow::Result<Arc<dyn Bus>> {
    let ingest = &config.ingest;
    Ok(match ingest.bus {
        BusKind::Local => {
            let dir = config.storage.data_dir.join("bus");
            Arc::new(LocalBackend::open(&dir, LocalOptions::default())?)
        }
        BusKind::Nats => {
            let mut options = NatsOptions::new(String::new());
            options.servers.clone_from(&ingest.nats_urls);
            if let Some(path) = &ingest.credentials_file {
                options.auth = NatsAuth::CredentialsFile(path.clone());
            }
            if ingest.tls_ca_file.is_some() || ingest.tls_cert_file.is_some() {
                options.tls = Some(NatsTls {
                    ca_file: ingest.tls_ca_file.clone(),
                    client: ingest.tls_cert_file.clone().zip(ingest.tls_key_file.clone()),
                });
            }
            Arc::new(JetStream::connect(options).await?)
        }
    })
}

fn open_signer(config: &Config) -> anyhow::Result<(Arc<dyn Signer>, KeyRecord)> {
    let settings = &config.signer;
    if !settings.allow_dev {
        bail!(
            "signer.kind dev-key-file signs with a key that lies in a file: set signer.allow_dev to accept that"
        );
    }
    let Some(path) = &settings.key_file else {
        bail!("signer.key_file is missing: name the file of the signing key")
    };
    let signer = DevKey::load_or_create(path, "seal")?;
    let record = if let Some(file) = &settings.key_record_file {
        read_record(file)?
    } else {
        let root = DevRoot::load_or_create(&path.with_extension("root"))?;
        root.vouch(&signer, &config.cluster.id, Hour(0))?
    };
    Ok((Arc::new(signer), record))
}

fn read_record(file: &Path) -> anyhow::Result<KeyRecord> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no key record", file.display()))
}
