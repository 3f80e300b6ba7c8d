//! A whole replica that takes its prices from the billing service.

use crate::pricing::service::Service;
use crate::pricing::{Fixture, eventually, line, table};
use bytes::Bytes;
use cdr_bus::{Bus, LocalBackend, LocalOptions, Outgoing};
use cdr_core::canonical::to_jcs;
use cdr_core::command::Reply;
use cdr_core::job::{Job, JobRequest, JobState, JobStep};
use cdr_core::row::{Sms, SystemKind};
use cdr_core::tariff::verify_price;
use cdr_core::{CdrId, Hour, Millis, Uuid};
use cdr_mediation::auth::dev::DevIssuer;
use cdr_mediation::clock::Clock;
use cdr_mediation::config::{Config, Operator, PricingSource};
use cdr_mediation::proposer::Proposer;
use cdr_mediation::replica::{Replica, ReplicaParts};
use cdr_mediation::signer::{DevKey, DevRoot, Voucher};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn configuration(fixture: &Fixture, dir: &Path) -> Config {
    let peers = BTreeMap::from([(1, free_address())]);
    let mut config = Config::development("test", 1, peers, dir, &free_address());
    let operator = |id: &str| Operator { id: id.to_owned(), recording_entity: "4120101".to_owned() };
    config.operators.list = ["AWCC", "ETS"].map(operator).into();
    config.storage.dedup_filter_mb = 16;
    config.pricing.source = PricingSource::Grpc;
    config.pricing.endpoint = Some(fixture.service.endpoint());
    config.pricing.ca_file = Some(fixture.tls.ca_file.clone());
    config.pricing.cert_file = Some(fixture.tls.cert_file.clone());
    config.pricing.key_file = Some(fixture.tls.key_file.clone());
    config.pricing.refresh_ms = 200;
    config
}

/// A running replica and the bus that feeds it.
struct Node {
    replica: Replica,
    bus: Arc<dyn Bus>,
    clock: Clock,
}

impl Node {
    async fn start(config: Config, dir: &Path) -> Self {
        DevIssuer::load_or_create(dir).unwrap();
        let signer = DevKey::load_or_create(&dir.join("signer.key"), "seal").unwrap();
        let root = DevRoot::load_or_create(&dir.join("root.key")).unwrap();
        let bus: Arc<dyn Bus> =
            Arc::new(LocalBackend::open(&dir.join("bus"), LocalOptions::default()).unwrap());
        let (clock, signer) = (Clock::system(), Arc::new(signer));
        let voucher = Arc::new(Voucher::DevRoot(root));
        let parts = ReplicaParts {
            config,
            clock: clock.clone(),
            bus: bus.clone(),
            signer,
            voucher,
            event_key: None,
            allow_replay: false,
        };
        Self { replica: Replica::start(parts).await.unwrap(), bus, clock }
    }

    /// Publishes a receipt and gives its record to `look` once it is in the log.
    async fn record<T>(&self, number: u8, look: impl Fn(&str, &Sms<'_>) -> T) -> T {
        self.record_of("AWCC", number, look).await
    }

    /// The same, of an operator.
    async fn record_of<T>(&self, operator: &str, number: u8, look: impl Fn(&str, &Sms<'_>) -> T) -> T {
        let message_id = Uuid([number; 16]);
        let receipt = json!({
            "schemaVersion": "1", "messageId": message_id.to_string(), "tenantId": null, "operatorId": operator,
            "status": "DELIVERED", "direction": "MT", "chargeType": "A2P", "from": "BANK", "to": "+93771234567",
            "originalServedSubscriberId": null, "imsi": null, "serviceCenterAddress": "+93770011111",
            "messageReference": "1", "segmentCount": 2, "encoding": "GSM7", "submittedAt": null,
            "finalAt": self.clock.now().to_string(), "failureCode": null, "traceId": "t",
        });
        let message = Outgoing {
            subject: "sms.dlr.inbound".to_owned(),
            headers: Vec::default(),
            payload: Bytes::from(receipt.to_string()),
            message_id: None,
            behind_id: None,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.bus.publish(message.clone()).await.is_err() {
            assert!(Instant::now() < deadline, "the inbound stream is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        loop {
            if let Some(found) = self.find(message_id, &look) {
                return found;
            }
            assert!(Instant::now() < deadline, "no record within 60 s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The record of a message, if it is in the open hour or the one before.
    fn find<T>(&self, message_id: Uuid, look: impl Fn(&str, &Sms<'_>) -> T) -> Option<T> {
        let open = self.replica.store().state().head.open_hour;
        for hour in [open, Hour(open.0 - 1)] {
            for sequence in 1.. {
                let Some(stored) = self.replica.store().row_at(hour, sequence).unwrap() else { break };
                let row = stored.row().unwrap();
                if let Some(sms) = row.sms().filter(|sms| sms.message_id == message_id) {
                    return Some(look(row.frame.operator_id, sms));
                }
            }
        }
        None
    }

    /// The version that priced a new receipt; its record is proved against the table.
    async fn version(&self, number: u8) -> Option<String> {
        let book = self.replica.pricing().book();
        self.record(number, |operator, sms| {
            let version = sms.tariff_version?;
            let book =
                if book.table(version).is_some() { book.clone() } else { self.replica.pricing().book() };
            assert_eq!(verify_price(book.table(version).unwrap(), operator, sms), Ok(()));
            Some(version.to_owned())
        })
        .await
    }

    /// Asks for a bulk job; its id.
    async fn rerate(&self, operator: &str, version: &str) -> CdrId {
        let (node, store) = (self.replica.node().clone(), self.replica.store().clone());
        let term = node.term();
        let proposer = Proposer::new(node, store, self.clock.clone(), term, 1_000);
        let request = JobRequest {
            operator_id: Some(operator.to_owned()),
            new_pricing_table_id: version.to_owned(),
            ..JobRequest::default()
        };
        let asked = (SystemKind::Job, to_jcs(&JobStep::Requested(request)));
        let reply = proposer.append_rows("test", vec![asked]).await.unwrap();
        let Reply::Appended { bucket_hour, first_sequence } = reply else { panic!("{reply:?}") };
        let stored = self.replica.store().row_at(Hour(bucket_hour), first_sequence).unwrap().unwrap();
        stored.row().unwrap().frame.cdr_id
    }

    fn job(&self, id: CdrId) -> Job {
        self.replica.store().state().jobs.get(id).unwrap().clone()
    }

    async fn until_priced_by(&self, version: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.replica.pricing().book().table(version).is_none() {
            assert!(Instant::now() < deadline, "{version} did not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_records_with_the_prices_that_it_has() {
    let fixture = Fixture::new().await;
    fixture.shared.script().fails = Some(tonic::Status::unavailable("not yet"));
    let dir = tempfile::TempDir::new().unwrap();
    let node = Node::start(configuration(&fixture, dir.path()), dir.path()).await;

    // Without prices, ingest goes on without them.
    assert_eq!(node.version(1).await, None);
    let yesterday = Millis(node.clock.now().0 - 86_400_000).0;
    fixture.offer("e1", vec![table("v1", yesterday, vec![line("0.384")])]);
    fixture.shared.script().fails = None;
    node.until_priced_by("v1").await;
    assert_eq!(node.version(2).await.as_deref(), Some("v1"));
    let v2 = table("v2", yesterday + 1, vec![line("0.4")]);
    fixture.offer("e2", vec![table("v1", yesterday, vec![line("0.384")]), v2]);
    node.until_priced_by("v2").await;
    assert_eq!(node.version(3).await.as_deref(), Some("v2"));

    // Without the service, the last prices stay.
    fixture.service.stop().await;
    assert_eq!(node.version(4).await.as_deref(), Some("v2"));
    node.replica.stop().await;
}

/// A job by a price list that only the service has can't go on while the service is away. Others pass it, unless they
/// would rate the same records; then it is come back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_its_price_list_holds_up_no_other() {
    let fixture = Fixture::new().await;
    let dir = tempfile::TempDir::new().unwrap();
    let mut config = configuration(&fixture, dir.path());
    config.pricing.breaker_open_ms = 200;
    let yesterday = Millis(Clock::system().now().0 - 86_400_000).0;
    let v1 = table("v1", yesterday, vec![line("0.384")]);
    let v2 = table("v2", yesterday + 1, vec![line("0.4")]);
    fixture.offer("e1", vec![v1, v2]);
    fixture.shared.script().named.insert("v9".to_owned(), table("v9", yesterday, vec![line("0.9")]));
    let node = Node::start(config, dir.path()).await;
    node.until_priced_by("v2").await;
    for (number, operator) in [(1, "AWCC"), (2, "ETS")] {
        assert!(node.record_of(operator, number, |_, sms| sms.tariff_version == Some("v2")).await);
    }

    let Fixture { authority, own, shared, service, .. } = fixture;
    let port = service.stop().await;
    let stuck = node.rerate("AWCC", "v9").await;
    let behind = node.rerate("AWCC", "v1").await;
    let passing = node.rerate("ETS", "v1").await;
    eventually("the job that passes", || !node.job(passing).is_open()).await;
    let passed = node.job(passing);
    assert_eq!((&passed.state, passed.counts.adjusted), (&JobState::Finished, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(node.job(stuck).is_open() && node.job(stuck).cursor.is_none());
    assert!(node.job(behind).is_open() && node.job(behind).cursor.is_none(), "it would be rated over");

    let _service = Service::start(port, &shared, &own, &authority).await;
    eventually("both jobs", || !node.job(stuck).is_open() && !node.job(behind).is_open()).await;
    for id in [stuck, behind] {
        let job = node.job(id);
        assert_eq!((&job.state, job.counts.adjusted), (&JobState::Finished, 1));
    }
    let version = |number: u8| {
        let rows = node.replica.store().rows_of_message(Uuid([number; 16])).unwrap();
        let row = rows.last().unwrap().row().unwrap();
        row.sms().unwrap().tariff_version.map(str::to_owned)
    };
    assert_eq!(
        (version(1).as_deref(), version(2).as_deref()),
        (Some("v1"), Some("v1")),
        "the last one counts"
    );
    node.replica.stop().await;
}
