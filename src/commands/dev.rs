//! `dev`: three real replicas in one process, with embedded defaults for every outside part.

use super::progress::{Progress, count_lines};
use super::{PROGRESS_PERIOD, stop_signal};
use crate::auth::dev::DevIssuer;
use crate::clock::Clock;
use crate::config::{Config, ExchangeRate, Operator, Pricing, Tariff, TariffTable};
use crate::dlr::{Parsed, parse};
use crate::events::signing_key::SigningKey;
use crate::export;
use crate::replica::{Replica, ReplicaParts};
use crate::signer::{DevKey, DevRoot, Signer, Voucher};
use anyhow::{Context, bail};
use cdr_bus::{Bus, LocalBackend, LocalOptions, PublishOptions, publish_file};
use cdr_core::command::ClockKind;
use cdr_core::row::BillingIndicator;
use cdr_core::{Hour, LedgerState, Millis, Money};
use cdr_storage::Depth;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the development cluster.
const CLUSTER: &str = "dev";
/// Replicas in the process.
const REPLICAS: u16 = 3;
/// API of the first replica; the others follow.
pub const API_PORT: u16 = 3018;
/// Raft port of the first replica; the others follow.
pub const RAFT_PORT: u16 = 7018;

/// The options of `dev`.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Directory of everything.
    pub data: PathBuf,
    /// Receipts to feed, one JSON a line.
    pub replay: Option<PathBuf>,
    /// Stop after the replay.
    pub exit_when_done: bool,
    /// API of the first replica, usually [`API_PORT`]; the others have the ports after it.
    pub api_port: u16,
    /// Raft port of the first replica, usually [`RAFT_PORT`]; the others have the ports after it.
    pub raft_port: u16,
}

/// Runs three replicas, feeds them, and serves until a signal stops it.
///
/// # Errors
/// What can't be opened or started, or what the replay found wrong.
pub async fn run(options: DevOptions) -> anyhow::Result<()> {
    let dir = &options.data;
    if options.api_port.max(options.raft_port) > u16::MAX - REPLICAS {
        bail!("ports end at {}: there is no room for {REPLICAS} replicas", u16::MAX);
    }
    std::fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
    let bus: Arc<dyn Bus> = Arc::new(LocalBackend::open(&dir.join("bus"), LocalOptions::default())?);
    let cluster = Cluster::start(&options, bus.clone()).await?;
    match &options.replay {
        Some(file) => cluster.replay(file, &bus).await?,
        None => cluster.resume().await?,
    }
    println!(
        "\nREST on http://127.0.0.1:{} (and :{}, :{}); bearer token in {}",
        options.api_port,
        options.api_port + 1,
        options.api_port + 2,
        dir.join("dev-token").display()
    );
    if !options.exit_when_done {
        stop_signal().await.context("signals can't be received")?;
    }
    cluster.stop().await;
    Ok(())
}

struct Cluster {
    replicas: Vec<Replica>,
    clock: Clock,
    config: Config,
}

impl Cluster {
    async fn start(options: &DevOptions, bus: Arc<dyn Bus>) -> anyhow::Result<Self> {
        let dir = &options.data;
        DevIssuer::load_or_create(dir)?;
        let (signer, voucher) = dev_signer(dir)?;
        let event_key = Arc::new(SigningKey::load_or_create(&dir.join("event-signing.pem"))?);
        let clock = choose_clock(options)?;
        let peers: BTreeMap<u64, String> =
            (1..).zip(ports(options.raft_port)).map(|(id, port)| (id, format!("127.0.0.1:{port}"))).collect();
        let mut replicas = Vec::new();
        let mut config = Config::default();
        for (node_id, port) in (1..).zip(ports(options.api_port)) {
            let api = format!("127.0.0.1:{port}");
            config = Config::development(CLUSTER, node_id, peers.clone(), dir, &api);
            config.operators.list = operators();
            config.pricing = prices()?;
            config.export.schema_dir = super::dev_schemas::directory(dir)?;
            config.export.exchange_rates =
                BTreeMap::from([("USD".to_owned(), ExchangeRate(Decimal::new(7025, 2)))]);
            // Three replicas share one machine's memory.
            config.storage.dedup_filter_mb = 64;
            replicas.push(
                Replica::start(ReplicaParts {
                    config: config.clone(),
                    clock: clock.clone(),
                    bus: bus.clone(),
                    signer: signer.clone(),
                    voucher: voucher.clone(),
                    event_key: Some(event_key.clone()),
                    allow_replay: true,
                })
                .await?,
            );
        }
        Ok(Self { replicas, clock, config })
    }

    /// Feeds a file of receipts, closes its last hour and day, verifies, and reports.
    async fn replay(&self, file: &Path, bus: &Arc<dyn Bus>) -> anyhow::Result<()> {
        let started = Instant::now();
        let lines = count_lines(file).with_context(|| format!("{} can't be read", file.display()))?;
        let stream = &self.config.ingest.stream;
        let mut progress = Progress::new("replaying", Some(lines));
        self.wait_for(|state| state.latest_epoch(stream).is_some()).await?;
        let reader = tokio::io::BufReader::new(tokio::fs::File::open(file).await?);
        let options = PublishOptions::default();
        let publishing = publish_file(&**bus, reader, &options, |_| ());
        let watching = async {
            loop {
                progress.at(self.position());
                tokio::time::sleep(PROGRESS_PERIOD).await;
            }
        };
        let report = tokio::select! { report = publishing => report?, () = watching => bail!("unreachable") };
        let last = bus.stream_info(stream).await?.last_sequence;
        while self.position() < last {
            progress.at(self.position());
            tokio::time::sleep(PROGRESS_PERIOD).await;
        }
        drop(progress);
        let ingested = started.elapsed();
        self.close_day().await?;
        self.wait_for_exports().await?;
        println!(
            "{} DLRs published and ingested in {:.1} s ({:.0}/s)",
            report.published,
            ingested.as_secs_f64(),
            report.published as f64 / ingested.as_secs_f64()
        );
        self.report()
    }

    /// Without a replay, a replay clock continues from where the ledger is.
    async fn resume(&self) -> anyhow::Result<()> {
        self.wait_for(|state| state.cluster.is_some()).await?;
        self.clock.observe(self.replicas[0].store().state().head.last_recorded_at);
        self.clock.release();
        Ok(())
    }

    /// Moves the replay clock past the end of the last hour and settlement day, and waits for seals and signatures.
    async fn close_day(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let zone = jiff::tz::TimeZone::get(&self.config.settlement.zone)?;
        let local = jiff::Timestamp::from_millisecond(now.0)?.to_zoned(zone);
        let day_end = Millis(local.tomorrow()?.start_of_day()?.timestamp().as_millisecond());
        let end = Millis(day_end.0 - 1).hour().end().max(now.hour().end());
        self.clock.observe(end);
        self.clock.release();
        let target = end.hour();
        self.wait_for(|state| state.head.open_hour >= target && state.head.next_unsigned >= target).await
    }

    /// Waits until every file of the days that are over is delivered.
    async fn wait_for_exports(&self) -> anyhow::Result<()> {
        let Some(settings) = export::settings(&self.config) else { return Ok(()) };
        let clock = self.clock.clone();
        self.wait_for(move |state| {
            let due = export::plan::due(state, &settings, clock.now());
            state.exports.open().next().is_none() && due.is_ok_and(|due| due.is_empty())
        })
        .await
    }

    /// Prints which files there are.
    fn report_exports(&self) -> anyhow::Result<()> {
        let mut files = Vec::new();
        self.replicas[0].store().exports(None, |export| {
            files.push(export);
            true
        })?;
        for export in &files {
            let content = export.content.as_ref();
            println!(
                "{} for {} on {}: {} records, {} in quarantine, {}",
                export.pins.file_name,
                export.pins.operator_id,
                export.pins.settlement_day,
                content.map_or(0, |content| content.records_included),
                content.map_or(0, |content| content.quarantined_count),
                export.delivery_status(),
            );
        }
        if let (Some(export), Some(drop)) = (files.first(), &self.config.delivery.directory_path) {
            println!("signed files in {}; check one while this runs:", drop.display());
            println!("  {}", self.check_of(&drop.join(&export.pins.file_name), drop));
        }
        Ok(())
    }

    /// The command that checks a delivered file, with all that it needs to trust the answer.
    fn check_of(&self, file: &Path, drop: &Path) -> String {
        let beside = |name: &str| drop.with_file_name(name).display().to_string();
        format!(
            "cdr-mediation verify-export --schemas {} --cluster {CLUSTER} --trust {} --against http://{} --token-file {} {}",
            self.config.export.schema_dir.display(),
            beside("root.pub"),
            self.config.api.listen,
            beside("dev-token"),
            file.display()
        )
    }

    /// Waits until every replica's state fulfils a condition.
    async fn wait_for(&self, condition: impl Fn(&LedgerState) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.replicas.iter().all(|replica| condition(&replica.store().state())) {
            if Instant::now() > deadline {
                bail!("the replicas did not finish within two minutes: the log says why");
            }
            tokio::time::sleep(PROGRESS_PERIOD).await;
        }
        Ok(())
    }

    /// Last sequence of the inbound stream that the first replica has applied.
    fn position(&self) -> u64 {
        let state = self.replicas[0].store().state();
        state.latest_epoch(&self.config.ingest.stream).map_or(0, |stream| stream.position)
    }

    fn report(&self) -> anyhow::Result<()> {
        let store = self.replicas[0].store();
        let state = store.state();
        let (first, last) = (state.head.first_hour, Hour(state.head.open_hour.0 - 1));
        let mut totals = [0u64; 6];
        for sealed in store.seals(first, last) {
            for stream in sealed?.seal.completeness.iter().filter(|s| s.stream == self.config.ingest.stream) {
                let fates = [
                    stream.received,
                    stream.appended,
                    stream.duplicate,
                    stream.ignored,
                    stream.dead_lettered,
                    stream.missing,
                ];
                totals.iter_mut().zip(fates).for_each(|(total, count)| *total += count);
            }
        }
        let [received, appended, duplicate, ignored, dead, missing] = totals;
        println!(
            "received {received} = appended {appended} + duplicate {duplicate} + ignored {ignored} + dead letters {dead}; \
             missing {missing}"
        );
        println!("{} rows, including system rows", state.head.row_count);
        println!("{} hours sealed and signed, {first} to {last}", last.0 - first.0 + 1);
        self.report_exports()?;
        let started = Instant::now();
        let mut progress = Progress::new("verifying replicas", Some(self.replicas.len() as u64));
        for (done, replica) in (0..).zip(&self.replicas) {
            progress.at(done);
            let report = replica.store().verify_range(first, last, None, Depth::Rows)?;
            if !report.faults.is_empty() {
                bail!("replica {}: the chain does not hold: {:?}", replica.node().node_id(), report.faults);
            }
            if replica.store().state().head.prev_seal_hash != state.head.prev_seal_hash {
                bail!("replica {} has another chain", replica.node().node_id());
            }
        }
        drop(progress);
        println!(
            "chain verified on three replicas, every row hashed again, in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }

    async fn stop(self) {
        for replica in self.replicas {
            replica.stop().await;
        }
    }
}

/// A ledger keeps its kind of clock; a new one replays if it is given something to replay.
fn choose_clock(options: &DevOptions) -> anyhow::Result<Clock> {
    let marker = options.data.join("clock");
    let kind = std::fs::read_to_string(&marker).ok();
    let clock = match (kind.as_deref(), &options.replay) {
        (Some("system"), Some(_)) => bail!(
            "{} holds a ledger on the system clock: replay into another directory",
            options.data.display()
        ),
        (None | Some("replay"), Some(file)) => Clock::replay(first_event(file)?),
        (Some("replay"), None) => Clock::replay(Millis(0)),
        _ => Clock::system(),
    };
    let text = if clock.kind() == ClockKind::Replay { "replay" } else { "system" };
    std::fs::write(&marker, text).with_context(|| format!("{} can't be written", marker.display()))?;
    Ok(clock)
}

/// Time of the first final receipt of a file: the hour in which a replayed ledger begins.
fn first_event(file: &Path) -> anyhow::Result<Millis> {
    let reader = std::fs::File::open(file).with_context(|| format!("{} can't be read", file.display()))?;
    for line in BufReader::new(reader).split(b'\n') {
        if let Parsed::Final(dlr) = parse(&line?) {
            return Ok(dlr.final_at);
        }
    }
    bail!("{} holds no final DLR", file.display())
}

fn dev_signer(dir: &Path) -> anyhow::Result<(Arc<dyn Signer>, Arc<Voucher>)> {
    let signer = DevKey::load_or_create(&dir.join("signer.key"), "seal")?;
    let root = DevRoot::load_or_create(&dir.join("root.key"))?;
    let public = dir.join("root.pub");
    std::fs::write(&public, root.public_key_hex())
        .with_context(|| format!("{} can't be written", public.display()))?;
    Ok((Arc::new(signer), Arc::new(Voucher::DevRoot(root))))
}

/// The seven operators of the sample day, with recording entities of MCC, MNC and sequence.
fn operators() -> Vec<Operator> {
    [
        ("AWCC", "4120101"),
        ("ROSHAN", "4122001"),
        ("MTN_AF", "4124001"),
        ("ETS", "4125001"),
        ("SALAAM", "4128001"),
        ("INTL_IN", "4129901"),
        ("INTL_OUT", "4129902"),
    ]
    .map(|(id, entity)| Operator { id: id.to_owned(), recording_entity: entity.to_owned() })
    .into()
}

/// The price list of the sample day.
fn prices() -> anyhow::Result<Pricing> {
    let tariff = |operator: Option<&str>, price: &str, currency: &str, class: &str| {
        Ok::<_, anyhow::Error>(Tariff {
            operator_id: operator.map(str::to_owned),
            tenant_id: None,
            charge_type: None,
            direction: None,
            per_segment: Money::parse(price).context("a price of the sample list is not an amount")?,
            currency: currency.to_owned(),
            tap_tariff_class: class.to_owned(),
            billing_indicator: BillingIndicator::Chargeable,
        })
    };
    Ok(Pricing {
        tables: vec![TariffTable {
            version: "sample-1".to_owned(),
            valid_from: Millis(0),
            valid_to: None,
            tariffs: vec![
                tariff(Some("INTL_IN"), "0.025", "USD", "I010")?,
                tariff(Some("INTL_OUT"), "0.065", "USD", "I020")?,
                tariff(Some("AWCC"), "0.3840", "AFN", "A042")?,
                tariff(None, "0.4200", "AFN", "A040")?,
            ],
        }],
        ..Pricing::default()
    })
}

fn ports(first: u16) -> std::ops::Range<u16> {
    first..first + REPLICAS
}
