//! One replica: store, Raft, leader's work and API, put together.

use crate::acts::Desk;
use crate::agreement::{Contradiction, Terms};
use crate::api::{self, Doors, MutualTls};
use crate::auth::{Authenticator, KeySetError};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::delivery::{CurrentChannels, DeliveryError};
use crate::events::NumberHash;
use crate::events::signing_key::SigningKey;
use crate::export::{self, ExportFiles};
use crate::ingest::{Halt, Ingest, IngestSettings, LastNamed};
use crate::key_files::KeyFileError;
use crate::metrics::Metrics;
use crate::pricing::{EntitySource, Pricing, RecordedPricing, Sources};
use crate::reloaded::Recorder;
use crate::restriction;
use crate::signer::{Signer, Signing, Voucher};
use crate::tls::{self, ReplicaFiles};
use crate::workers::{
    ConsumerSettings, Deliveries, Exports, Integrity, Leadership, LedgerSettings, RegulatorSettings, Relay,
    lead_when_elected,
};
use anyhow::{Context, bail};
use cdr_bus::Bus;
use cdr_core::command::ClockKind;
use cdr_core::rules::Build;
use cdr_raft::{AdminError, Node, NodeConfig};
use cdr_storage::{Store, StoreOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// What a replica is made of.
pub struct ReplicaParts {
    /// Its configuration.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Signs seals, and the files of exports.
    pub signer: Arc<dyn Signer>,
    /// Where the record comes from with which the signer's key enters the ledger.
    pub voucher: Arc<Voucher>,
    /// Signs events; none if none are published.
    pub event_key: Option<Arc<SigningKey>>,
    /// True if a ledger on a replay clock may be opened.
    pub allow_replay: bool,
}

/// A running replica.
pub struct Replica {
    node: Node,
    store: Store,
    metrics: Arc<Metrics>,
    auth: Arc<Authenticator>,
    mutual_tls: Option<Arc<tls::Server>>,
    cluster_tls: Option<ReplicaFiles>,
    pricing: Arc<dyn Pricing>,
    entities: Arc<dyn EntitySource>,
    channels: Arc<CurrentChannels>,
    recorder: Recorder,
    tasks: Vec<JoinHandle<()>>,
    /// Held by the relay's thread and task, which an aborted worker leaves behind for a moment.
    relaying: Arc<()>,
    terms: Terms,
    _raft: RaftRuntime,
}

/// Threads of Raft's own runtime.
const RAFT_THREADS: usize = 2;
/// The part of `storage.min_free_mb` that is left for the log's entries when no more are accepted.
const RESERVE: u64 = 4;
/// How long a stop waits for another leader.
const LEAVE_WITHIN: Duration = Duration::from_millis(1_500);
/// How long a stop waits for the relay to release store and bus.
const RELAY_ENDS_WITHIN: Duration = Duration::from_secs(10);

impl Replica {
    /// Opens the store, starts Raft on a runtime of its own, then the API and the wait for leadership.
    ///
    /// # Errors
    /// What can't be opened or started, and why.
    pub async fn start(parts: ReplicaParts) -> anyhow::Result<Self> {
        let config = &parts.config;
        let data_dir = &config.storage.data_dir;
        let forms_cluster = config.cluster.initialize;
        std::fs::create_dir_all(data_dir).with_context(|| format!("{} can't be made", data_dir.display()))?;
        let store =
            Store::open(&data_dir.join("store"), store_options(&config.storage, config.cluster.build()))
                .with_context(|| format!("the store in {} can't be opened", data_dir.display()))?;
        let terms = Terms::of(config);
        refuse_foreign_ledger(&store, &parts, &terms)?;
        let (raft, node) = start_raft(config, &parts.clock, &store).await?;
        let metrics = Arc::new(Metrics::new()?);
        let auth = Arc::new(Authenticator::from_config(&config.auth, &config.api)?);
        let mutual_tls = mutual_tls(&config.api)?;
        let numbers = number_hash(&config.events)?;
        let files = export::opening::open(config, &store)?;
        if files.is_none() {
            tracing::warn!("export.schema_variant is not set: no settlement files are made");
        }
        let known = metrics.clone();
        let signer = move || known.dependencies().remove("signer").unwrap_or(Ok(()));
        let desk = Desk::new(node.clone(), store.clone(), auth.clone()).asking_signer(signer);
        let cluster_tls = replica_files(&config.cluster);
        let ledger =
            Self::api_ledger(&parts, &store, &node, &metrics, &desk, files.as_ref(), numbers.clone());
        let api = serve(doors(&config.api, mutual_tls.as_ref()).await?, ledger, auth.clone());
        let sources = Sources::new(&parts.config, &parts.clock, &metrics)
            .context("the configured source of prices can't be used")?;
        let Sources { pricing, entities, background } = sources;
        let pricing: Arc<dyn Pricing> = Arc::new(RecordedPricing::new(pricing, store.clone()));
        let relaying = Arc::new(());
        let channels = CurrentChannels::open(&parts.config.delivery, metrics.clone())
            .context("the configured delivery can't be used")?;
        let channels = Arc::new(channels);
        let (recorder, recording) = Recorder::new(node.node_id(), desk.clone());
        let restricting =
            restriction::watch(node.clone(), desk.clone(), parts.clock.clone(), data_dir.clone());
        let outside = Outside {
            pricing: pricing.clone(),
            entities: entities.clone(),
            files,
            channels: channels.clone(),
            numbers,
        };
        let leadership = leadership(parts, &store, &node, &metrics, outside, desk, &relaying);
        let leading = tokio::spawn(lead_when_elected(leadership));
        if forms_cluster {
            tokio::spawn(form_cluster(node.clone()));
        }
        let mut tasks = vec![api, leading, tokio::spawn(recording), tokio::spawn(restricting)];
        tasks.extend(background.into_iter().map(tokio::spawn));
        Ok(Self {
            node,
            store,
            metrics,
            auth,
            mutual_tls,
            cluster_tls,
            pricing,
            entities,
            channels,
            recorder,
            tasks,
            relaying,
            terms,
            _raft: raft,
        })
    }

    fn api_ledger(
        parts: &ReplicaParts,
        store: &Store,
        node: &Node,
        metrics: &Arc<Metrics>,
        desk: &Desk,
        files: Option<&ExportFiles>,
        numbers: NumberHash,
    ) -> api::Ledger {
        let ledger = api::Ledger::new(
            store.clone(),
            node.clone(),
            parts.clock.clone(),
            metrics.clone(),
            desk.clone(),
            &parts.config,
        )
        .naming_numbers(numbers)
        .with_event_key(parts.event_key.as_deref());
        match (files, export::settings(&parts.config)) {
            (Some(files), Some(settings)) => {
                ledger.with_schemas(Arc::new(files.schemas(&settings))).with_files(files.clone())
            }
            _ => ledger,
        }
    }

    /// Returns once it is seen that the configuration contradicts the ledger, which the store at the start may not have
    /// shown: the replica must stop.
    pub async fn contradiction(&self) -> Contradiction {
        self.terms.contradiction(&self.node, &self.store).await
    }

    /// The Raft node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The replicated store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the key set of bearer tokens again; if that fails, the keys in use stay.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn reload_token_keys(&self) -> Result<(), KeySetError> {
        self.auth.reload()
    }

    /// Reads certificates and key of the API's TLS again, where there is any; if that fails, those in use stay.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn reload_api_certificates(&self) -> Result<(), KeyFileError> {
        self.mutual_tls.as_ref().map_or(Ok(()), |server| server.reload())
    }

    /// Reads again what this replica presents to the others and whom it trusts, where it speaks TLS with them; if that can't
    /// be used, what is in use stays. Connections are re-established.
    ///
    /// # Errors
    /// Which file can't be used, and why.
    pub fn reload_cluster_certificates(&self) -> anyhow::Result<()> {
        let Some(files) = &self.cluster_tls else { return Ok(()) };
        self.node.exchange_credentials(&files.read()?).with_context(|| files.cert.display().to_string())
    }

    /// Delivers files by the channels of another configuration from the next attempt on; if they can't be used, those
    /// in force stay.
    ///
    /// # Errors
    /// [`DeliveryError`], which names what can't be used.
    pub fn exchange_delivery(&self, config: &config::Delivery) -> Result<(), DeliveryError> {
        self.channels.exchange(config)
    }

    /// Has the ledger record settings that are put in force while this replica runs.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where prices come from.
    pub fn pricing(&self) -> &Arc<dyn Pricing> {
        &self.pricing
    }

    /// Where recording entities come from.
    pub fn entities(&self) -> &Arc<dyn EntitySource> {
        &self.entities
    }

    /// Gives leadership away, stops serving and replicating, and closes everything.
    pub async fn stop(mut self) {
        self.node.leave_leadership(LEAVE_WITHIN).await;
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.node.shutdown().await;
        let deadline = Instant::now() + RELAY_ENDS_WITHIN;
        while Arc::strong_count(&self.relaying) > 1 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What secures connections with client certificates, where there are any.
fn mutual_tls(api: &config::Api) -> anyhow::Result<Option<Arc<tls::Server>>> {
    let files = (&api.mtls_cert_file, &api.mtls_key_file, &api.mtls_client_ca_file);
    let (Some(cert), Some(key), Some(client_ca)) = files else { return Ok(None) };
    let files = tls::ServerFiles { cert: cert.clone(), key: key.clone(), client_ca: client_ca.clone() };
    Ok(Some(Arc::new(tls::Server::open(files).context("the API's TLS can't be set up")?)))
}

/// How events name numbers, by the configuration.
fn number_hash(events: &config::Events) -> anyhow::Result<NumberHash> {
    let keyed = events.msisdn_hash_key_file.as_deref().map(NumberHash::keyed);
    Ok(keyed.transpose().context("events.msisdn_hash_key_file")?.unwrap_or_default())
}

/// What a replica shows the others, where it speaks TLS with them.
fn replica_files(cluster: &config::Cluster) -> Option<ReplicaFiles> {
    let files = (cluster.tls_ca_file.clone(), cluster.tls_cert_file.clone(), cluster.tls_key_file.clone());
    let (Some(ca), Some(cert), Some(key)) = files else { return None };
    Some(ReplicaFiles { ca, cert, key })
}

/// Listens where the API is served.
async fn doors(api: &config::Api, mutual_tls: Option<&Arc<tls::Server>>) -> anyhow::Result<Doors> {
    let listener = async |address: &str| {
        let bound = TcpListener::bind(address).await;
        bound.with_context(|| format!("the API can't listen on {address}: is another process there?"))
    };
    let plain = listener(&api.listen).await?;
    let mutual_tls = match (&api.mtls_listen, mutual_tls) {
        (Some(address), Some(server)) => Some(MutualTls::new(listener(address).await?, server.clone())?),
        _ => None,
    };
    Ok(Doors { plain, mutual_tls })
}

fn serve(doors: Doors, ledger: api::Ledger, auth: Arc<Authenticator>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = api::serve(doors, ledger, auth).await {
            tracing::error!(%error, "the API has stopped");
        }
    })
}

/// Raft's own runtime; it may be dropped inside another one.
struct RaftRuntime(Option<Runtime>);

impl Drop for RaftRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts Raft on a runtime of its own, so that no load can starve heartbeats.
async fn start_raft(config: &Config, clock: &Clock, store: &Store) -> anyhow::Result<(RaftRuntime, Node)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RAFT_THREADS)
        .thread_name("raft")
        .enable_all()
        .build()
        .context("Raft's runtime can't be started")?;
    let starting = Node::start(node_config(config, clock)?, Arc::new(store.clone()));
    let spawned = runtime.spawn(starting);
    let runtime = RaftRuntime(Some(runtime));
    let node = spawned.await.context("Raft's runtime stopped")??;
    Ok((runtime, node))
}

/// Begins the cluster once all its replicas answer, where it was not begun before; the API serves meanwhile.
async fn form_cluster(node: Node) {
    match node.initialize().await {
        Ok(true) => tracing::info!("the cluster is formed"),
        Ok(false) | Err(AdminError::Stopped { .. }) => {}
        Err(error) => node.fail(&format!("SEV1: the cluster can't be formed by this replica: {error}")),
    }
}

fn node_config(config: &Config, clock: &Clock) -> anyhow::Result<NodeConfig> {
    let cluster = &config.cluster;
    let listen = cluster
        .listen
        .parse()
        .with_context(|| format!("cluster.listen {} is not an address", cluster.listen))?;
    let (data_dir, peers, clock) = (config.storage.data_dir.clone(), cluster.peers.0.clone(), clock.clone());
    let mut node = NodeConfig::new(
        cluster.node_id,
        cluster.id.clone(),
        data_dir,
        listen,
        peers,
        Arc::new(move || clock.now().0),
    );
    if let Some(files) = replica_files(cluster) {
        node.credentials = Some(Arc::new(files.read()?));
    }
    node.heartbeat_ms = cluster.heartbeat_ms;
    node.election_min_ms = cluster.election_min_ms;
    node.election_max_ms = cluster.election_max_ms;
    node.min_free_bytes = min_free_bytes(&config.storage);
    // Ingest alone may use all that it is configured to; the other workers come on top.
    node.max_in_flight = config.ingest.in_flight as usize + 8;
    Ok(node)
}

/// Free space below which commands are refused.
fn min_free_bytes(storage: &config::Storage) -> u64 {
    storage.min_free_mb << 20
}

fn store_options(storage: &config::Storage, build: Build) -> StoreOptions {
    StoreOptions {
        build,
        block_cache_bytes: (storage.block_cache_mb as usize) << 20,
        write_buffer_bytes: (storage.write_buffer_mb as usize) << 20,
        dedup_filter_bytes: (storage.dedup_filter_mb as usize) << 20,
        // Commands are refused long before, so that what is in the log finds room here.
        min_free_bytes: min_free_bytes(storage) / RESERVE,
        ..StoreOptions::default()
    }
}

/// What the leader's work needs of the outside world, beyond bus and signer.
struct Outside {
    pricing: Arc<dyn Pricing>,
    entities: Arc<dyn EntitySource>,
    files: Option<ExportFiles>,
    channels: Arc<CurrentChannels>,
    numbers: NumberHash,
}

fn leadership(
    parts: ReplicaParts,
    store: &Store,
    node: &Node,
    metrics: &Arc<Metrics>,
    outside: Outside,
    desk: Desk,
    relaying: &Arc<()>,
) -> Leadership {
    let Outside { pricing, entities, files, channels, numbers } = outside;
    let config = parts.config;
    let signing = Signing::new(parts.signer, metrics.clone());
    let regulator = RegulatorSettings::new(&config, channels.clone());
    let settings = export::settings(&config);
    let exports = files.clone().zip(settings).map(|(files, settings)| Exports {
        settings,
        files,
        signing: signing.clone(),
        metrics: metrics.clone(),
    });
    let deliveries = files.map(|files| Deliveries { channels, files, metrics: metrics.clone() });
    let (terms, zone) = (Terms::of(&config), config.settlement.zone);
    let settings = IngestSettings {
        subject: config.ingest.subject,
        stream: config.ingest.stream.clone(),
        durable: config.ingest.durable,
        batch_max: config.ingest.batch_max as usize,
        in_flight: config.ingest.in_flight as usize,
        replicas: usize::from(config.ingest.replicas),
    };
    let events = config.events;
    let relay = parts.event_key.filter(|_| events.enabled).map(|key| Relay {
        bus: parts.bus.clone(),
        key,
        batch: events.batch as usize,
        in_flight: events.in_flight as usize,
        replicas: usize::from(events.replicas),
        numbers,
        metrics: metrics.clone(),
        running: relaying.clone(),
    });
    let integrity = Integrity {
        at: config.storage.integrity_at.0,
        rows_per_second: config.storage.integrity_rows_per_second,
        desk: desk.clone(),
        metrics: metrics.clone(),
    };
    let operators = config.operators.list.into_iter().map(|o| (o.id, o.recording_entity)).collect();
    Leadership {
        node: node.clone(),
        store: store.clone(),
        clock: parts.clock,
        ingest: Ingest {
            settings,
            bus: parts.bus,
            pricing: pricing.clone(),
            metrics: metrics.clone(),
            last_named: LastNamed::default(),
            halt: Halt::in_dir(&config.storage.data_dir),
        },
        desk,
        pricing,
        reprice_every: Duration::from_millis(config.pricing.reprice_ms),
        entities,
        consumers: ConsumerSettings {
            streams: config.consumers,
            replicas: usize::from(config.ingest.replicas),
            inbound: config.ingest.stream,
            expired_wait: config.ingest.expired_wait.0,
        },
        signing,
        exports,
        regulator,
        rules_upto: config.cluster.rules_upto,
        unpriced_wait_hours: config.export.unpriced_wait_hours,
        deliveries,
        voucher: parts.voucher,
        ledger: LedgerSettings {
            cluster_id: config.cluster.id,
            zone,
            dedup_horizon_hours: config.ingest.dedup_horizon_hours,
            operators,
        },
        terms,
        max_clock_offset_ms: config.cluster.max_clock_offset_ms as i64,
        relay,
        integrity,
        metrics: metrics.clone(),
    }
}

/// A ledger on disk must be what the configuration says, and of this kind of clock.
fn refuse_foreign_ledger(store: &Store, parts: &ReplicaParts, terms: &Terms) -> anyhow::Result<()> {
    let state = store.state();
    let Some(cluster) = &state.cluster else { return Ok(()) };
    terms.check(&state)?;
    let dir = parts.config.storage.data_dir.display();
    if cluster.clock == ClockKind::Replay && !parts.allow_replay {
        bail!("{dir} holds a ledger that ran on a replay clock: it is not a production record");
    }
    if cluster.clock != parts.clock.kind() {
        let (held, given) = (cluster.clock, parts.clock.kind());
        bail!("{dir} holds a ledger on the {held:?} clock: it can't continue on the {given:?} clock");
    }
    Ok(())
}
