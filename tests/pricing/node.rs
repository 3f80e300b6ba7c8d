//! A whole replica that takes its prices from the billing service.

use crate::{House, line, table};
use bytes::Bytes;
use cdr_core::row::Sms;
use cdr_core::tariff::verify_price;
use cdr_core::{Hour, Millis, Uuid};
use cdr_mediation::auth::dev::DevIssuer;
use cdr_mediation::bus::{Bus, LocalBackend, LocalOptions, Outgoing};
use cdr_mediation::clock::Clock;
use cdr_mediation::config::{Config, Operator, PricingSource};
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

fn configuration(house: &House, dir: &Path) -> Config {
    let peers = BTreeMap::from([(1, free_address())]);
    let mut config = Config::development("test", 1, peers, dir, &free_address());
    config.operators.list = vec![Operator { id: "AWCC".to_owned(), recording_entity: "4120101".to_owned() }];
    config.storage.dedup_filter_mb = 16;
    config.pricing.source = PricingSource::Grpc;
    config.pricing.endpoint = Some(house.service.endpoint());
    config.pricing.ca_file = Some(house.tls.ca_file.clone());
    config.pricing.cert_file = Some(house.tls.cert_file.clone());
    config.pricing.key_file = Some(house.tls.key_file.clone());
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
        let message_id = Uuid([number; 16]);
        let receipt = json!({
            "schemaVersion": "1", "messageId": message_id.to_string(), "tenantId": null, "operatorId": "AWCC",
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
    let house = House::new().await;
    house.shared.script().fails = Some(tonic::Status::unavailable("not yet"));
    let dir = tempfile::TempDir::new().unwrap();
    let node = Node::start(configuration(&house, dir.path()), dir.path()).await;

    // Without prices, ingest goes on without them.
    assert_eq!(node.version(1).await, None);
    let yesterday = Millis(node.clock.now().0 - 86_400_000).0;
    house.offer("e1", vec![table("v1", yesterday, vec![line("0.384")])]);
    house.shared.script().fails = None;
    node.until_priced_by("v1").await;
    assert_eq!(node.version(2).await.as_deref(), Some("v1"));
    let v2 = table("v2", yesterday + 1, vec![line("0.4")]);
    house.offer("e2", vec![table("v1", yesterday, vec![line("0.384")]), v2]);
    node.until_priced_by("v2").await;
    assert_eq!(node.version(3).await.as_deref(), Some("v2"));

    // Without the service, the last prices stay.
    house.service.stop().await;
    assert_eq!(node.version(4).await.as_deref(), Some("v2"));
    node.replica.stop().await;
}
