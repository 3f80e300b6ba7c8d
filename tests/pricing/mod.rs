//! Prices and recording entities from real gRPC services with mutual TLS: fetched, exchanged while they are used,
//! kept while the services are away, refused where they make no sense.

mod entities;
mod node;
mod outages;
mod service;
mod snapshots;

use cdr_core::row::{ChargeType, Direction};
use cdr_core::{Millis, Uuid};
use cdr_mediation::clock::Clock;
use cdr_mediation::metrics::Metrics;
use cdr_mediation::pricing::{
    BreakerSettings, CallSettings, GrpcPricing, GrpcSettings, PriceQuery, TlsFiles,
};
use service::{Service, Shared, v1};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::certificates::{Authority, ClientFiles, Pair};

/// What the replay clock shows.
const NOW: i64 = 1_776_690_000_000;
/// How old events may be.
const HORIZON: Duration = Duration::from_secs(168 * 3_600);

/// A service, and what a client needs to reach it.
struct Fixture {
    authority: Authority,
    own: Pair,
    shared: Shared,
    service: Service,
    dir: TempDir,
    tls: TlsFiles,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Fixture {
    async fn new() -> Self {
        let authority = Authority::new("authority");
        let own = authority.issue("billing");
        let shared = Shared::default();
        let service = Service::start(0, &shared, &own, &authority).await;
        let dir = TempDir::new().unwrap();
        let tls = write_client(dir.path(), &authority, &authority.issue("cdr-mediation"));
        let clock = Clock::replay(Millis(NOW));
        let metrics = Arc::new(Metrics::new().unwrap());
        Self { authority, own, shared, service, dir, tls, clock, metrics }
    }

    /// A client that is patient enough for a busy machine.
    fn settings(&self) -> GrpcSettings {
        GrpcSettings {
            endpoint: self.service.endpoint(),
            tls: self.tls.clone(),
            call: CallSettings {
                deadline: Duration::from_secs(10),
                retries: 1,
                breaker: BreakerSettings { failures: 100, open: Duration::from_millis(200) },
            },
            refresh: Duration::from_millis(100),
            operator_ids: vec!["AWCC".to_owned(), "ETS".to_owned()],
        }
    }

    fn pricing(&self, settings: GrpcSettings) -> Arc<GrpcPricing> {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        Arc::new(GrpcPricing::new(settings, HORIZON, clock, metrics).unwrap())
    }

    fn offer(&self, etag: &str, tables: Vec<v1::TariffTable>) {
        let not_modified = false;
        self.shared.script().snapshot = v1::PricingSnapshot { etag: etag.to_owned(), not_modified, tables };
    }

    fn dependency(&self, name: &str) -> Result<(), String> {
        self.metrics.dependencies()[name].clone()
    }
}

/// Writes what a client needs into `dir`: whom it trusts, and what it shows.
fn write_client(dir: &Path, trusted: &Authority, shown: &Pair) -> TlsFiles {
    let files = ClientFiles::write(dir, trusted, shown);
    TlsFiles { ca_file: files.ca, cert_file: files.cert, key_file: files.key }
}

fn line(per_segment: &str) -> v1::Tariff {
    v1::Tariff {
        per_segment: per_segment.to_owned(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A042".to_owned(),
        billing_indicator: v1::BillingIndicator::Chargeable.into(),
        ..v1::Tariff::default()
    }
}

fn table(version: &str, valid_from_ms: i64, tariffs: Vec<v1::Tariff>) -> v1::TariffTable {
    v1::TariffTable { version: version.to_owned(), valid_from_ms, valid_to_ms: None, tariffs }
}

fn query(operator_id: &str) -> PriceQuery<'_> {
    PriceQuery {
        operator_id,
        tenant_id: Some(Uuid([7; 16])),
        charge_type: ChargeType::A2p,
        direction: Direction::Mt,
        segment_count: 3,
        event_at: Millis(NOW),
    }
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
