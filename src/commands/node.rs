//! `node`: one replica in production.

use super::reload::{Reload, SetLogFilter};
use super::{signer, stop_signal};
use crate::clock::Clock;
use crate::config::{BusKind, Config};
use crate::events::signing_key::SigningKey;
use crate::replica::{Replica, ReplicaParts};
use anyhow::Context;
use cdr_bus::{Bus, JetStream, LocalBackend, LocalOptions, NatsAuth, NatsOptions, NatsTls};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a replica until a signal stops it. `config` is what was read from `file`; at SIGHUP it is read again.
///
/// # Errors
/// What can't be opened or started.
pub async fn run(file: &Path, config: Config, set_log_filter: &SetLogFilter) -> anyhow::Result<()> {
    // Before anything else: the signal's default is to end the process.
    let mut hangups = signal(SignalKind::hangup()).context("signals can't be received")?;
    let mut reload = Reload::new(file, config.clone(), set_log_filter);
    let clock = Clock::system();
    let bus = open_bus(&config).await?;
    let (signer, voucher) = signer::open(&config).await?;
    let event_key = match &config.events.signing_key_file {
        Some(path) if config.events.enabled => Some(Arc::new(SigningKey::load(path)?)),
        _ => None,
    };
    let (raft, api, mutual_tls) =
        (config.cluster.listen.clone(), config.api.listen.clone(), config.api.mtls_listen.clone());
    let parts = ReplicaParts { config, clock, bus, signer, voucher, event_key, allow_replay: false };
    let replica = Replica::start(parts).await?;
    tracing::info!(
        node = replica.node().node_id(),
        version = env!("CARGO_PKG_VERSION"),
        raft,
        api,
        mutual_tls,
        "replica started"
    );
    let outcome = {
        let mut contradicted = std::pin::pin!(replica.contradiction());
        loop {
            tokio::select! {
                stopped = stop_signal() => break stopped.context("signals can't be received"),
                contradiction = &mut contradicted => break Err(contradiction.into()),
                _ = hangups.recv() => reload.hang_up(&replica),
            }
        }
    };
    tracing::info!("stopping");
    replica.stop().await;
    outcome
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
