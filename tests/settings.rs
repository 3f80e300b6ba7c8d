//! Regulator-facing settings that a restart changes: each is on the bus as `cdr.config.changed.v1` and in the ledger as a
//! `config` row, with the value before and the new one, and without secrets.

use cdr_bus::{Bus, JetStream, NatsOptions};
use cdr_core::row::{Record, SystemKind};
use cdr_mediation::auth::dev::DevIssuer;
use cdr_mediation::clock::Clock;
use cdr_mediation::events::signing_key::SigningKey;
use cdr_mediation::replica::{Replica, ReplicaParts};
use cdr_storage::{RecordFilter, RowKind};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::certificates::{Authority, ClientFiles};
use testkit::nats::NatsServer;
use testkit::single::SingleReplica;

const SUBJECT: &str = "cdr.config.changed.v1";
const FINGERPRINT: &str = "SHA256:3MxkGKQVrIYyH8h6mTUQSBlUnPm8rQIW3KJvXQO5k7E";
const SECRET: &str = "s3cr3t-t0ken";

/// A change: key, the value before, the new one.
type Change = (String, Option<String>, String);

fn change(key: &str, before: Option<&str>, new: &str) -> Change {
    (key.to_owned(), before.map(str::to_owned), new.to_owned())
}

/// The changes in bodies of rows or events that leaders made of their own configuration, in order.
fn own(bodies: &[Value]) -> Vec<Change> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_config = bodies.iter().filter(|body| body["actorUserId"] == "system:config");
    let read = |body: &Value| {
        (text(&body["configKey"]).unwrap(), text(&body["previousValue"]), text(&body["newValue"]).unwrap())
    };
    of_config.map(read).collect()
}

struct Fixture {
    nats: NatsServer,
    replica: SingleReplica,
    runtime: tokio::runtime::Runtime,
    /// Changes that were looked at.
    known: usize,
}

impl Fixture {
    fn new(dir: &Path) -> Self {
        let (nats, issuer) = (NatsServer::start(), DevIssuer::load_or_create(dir).unwrap());
        let replica = SingleReplica::new(dir, issuer.jwks_path());
        let events = dir.join("events.pem");
        SigningKey::load_or_create(&events).unwrap();
        replica.edit(|text| {
            let bus = format!("nats_urls = [\"{}\"]", nats.url());
            let events = format!("signing_key_file = \"{}\"\nreplicas = 1", events.display());
            text.replace("bus = \"local\"", &bus).replace("enabled = false", &events)
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { nats, replica, runtime, known: 0 }
    }

    /// Starts the replica with these sections behind the configuration; the changes that follow are on the bus.
    fn starts_with(&mut self, sections: &str, expected: &[Change]) {
        let begin = std::fs::read_to_string(self.replica.configuration()).unwrap();
        std::fs::write(self.replica.configuration(), format!("{begin}{sections}")).unwrap();
        self.replica.start();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut told = own(&self.told()).split_off(self.known);
            if told.len() >= expected.len() {
                // Each leader records what differs by name, then what is gone.
                told.sort();
                assert_eq!(told, expected);
                break;
            }
            assert!(self.replica.runs() && Instant::now() < deadline, "{told:#?}\n{}", self.replica.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.known += expected.len();
        self.replica.stop();
        std::fs::write(self.replica.configuration(), begin).unwrap();
    }

    /// Every event of a changed setting on the bus.
    fn told(&self) -> Vec<Value> {
        self.runtime.block_on(async {
            let bus = JetStream::connect(NatsOptions::new(self.nats.url())).await.unwrap();
            let last = bus.stream_info("CDR_AUDIT").await.map_or(0, |info| info.last_sequence);
            let mut events = Vec::new();
            for sequence in 1..=last {
                let Some(message) = bus.message("CDR_AUDIT", sequence).await.unwrap() else { continue };
                if message.subject == SUBJECT {
                    assert_eq!(testkit::event_schemas::faults(SUBJECT, &message.payload), [""; 0]);
                    events.push(serde_json::from_slice(&message.payload).unwrap());
                }
            }
            events
        })
    }

    /// The bodies of the ledger's `config` rows, read by a replica in this process.
    fn rows(&self) -> Vec<Value> {
        let file = self.replica.configuration();
        self.runtime.block_on(async {
            let mut config = cdr_mediation::config::load(&file).unwrap();
            config.events.enabled = false;
            let (signer, voucher) = cdr_mediation::commands::signer::open(&config).await.unwrap();
            let bus = Arc::new(JetStream::connect(NatsOptions::new(self.nats.url())).await.unwrap());
            let (clock, event_key, allow_replay) = (Clock::system(), None, false);
            let parts = ReplicaParts { config, clock, bus, signer, voucher, event_key, allow_replay };
            let replica = Replica::start(parts).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while replica.node().read_barrier().await.is_err() {
                assert!(Instant::now() < deadline, "it does not lead");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let of_kind = Some(RowKind::System(SystemKind::Config));
            let filter = RecordFilter { of_kind, ..RecordFilter::default() };
            let page = replica.store().query(&filter, None, 500).unwrap();
            let bodies = page.rows.iter().map(|stored| {
                let Record::System(system) = stored.row().unwrap().record else { panic!("not a system row") };
                system.read().unwrap()
            });
            let bodies = bodies.collect();
            replica.stop().await;
            bodies
        })
    }
}

/// `[delivery]` to the regulator, with a secret behind the URL's path and files of keys.
fn to_regulator(dir: &Path) -> String {
    let key = dir.join("sftp.key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let authority = Authority::new("authority");
    let files = ClientFiles::write(dir, &authority, &authority.issue("cdr-mediation"));
    format!(
        "[delivery]\nkind = \"regulator\"\nsftp_host = \"127.0.0.1\"\nsftp_port = 2022\nsftp_user = \"cdr\"\n\
         sftp_directory = \"in\"\nsftp_host_fingerprints = [\"{FINGERPRINT}\"]\nsftp_key_files = [\"{}\"]\n\
         rest_url = \"https://localhost:1/upload?token={SECRET}\"\nrest_ca_file = \"{}\"\n\
         rest_client_cert_file = \"{}\"\nrest_client_key_file = \"{}\"\n",
        key.display(),
        files.ca.display(),
        files.cert.display(),
        files.key.display(),
    )
}

#[test]
fn a_restart_with_another_configuration_is_on_the_bus_and_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(dir.path());
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas");
    let export =
        format!("[export]\nschema_dir = \"{}\"\nschema_variant = \"atra-tap-v2\"\n", schemas.display());
    let drop =
        format!("[delivery]\nkind = \"directory\"\ndirectory_path = \"{}/drop\"\n", dir.path().display());

    let first = [
        change("delivery.kind", None, "directory"),
        change("export.exchange_rates", None, "USD=70.25"),
        change("export.unpriced_wait_hours", None, "24"),
        change("settlement.rap_cut_off", None, "02:30"),
        change("settlement.tap_deadline", None, "02:00"),
        change("settlement.tap_start", None, "00:30"),
    ];
    fixture.starts_with(&format!("{export}exchange_rates = {{ USD = \"70.25\" }}\n{drop}"), &first);

    let second = [
        change("delivery.kind", Some("directory"), "regulator"),
        change("delivery.rest_url", None, "https://localhost:1/upload"),
        change("delivery.sftp_directory", None, "in"),
        change("delivery.sftp_host", None, "127.0.0.1"),
        change("delivery.sftp_host_fingerprints", None, FINGERPRINT),
        change("delivery.sftp_port", None, "2022"),
        change("delivery.sftp_user", None, "cdr"),
        change("export.additional_variants", None, "tap-3-12-standard"),
        change("export.exchange_rates", Some("USD=70.25"), "EUR=80, USD=71.5"),
        change("export.unpriced_wait_hours", Some("24"), "48"),
        change("settlement.rap_cut_off", Some("02:30"), "03:00"),
        change("settlement.tap_deadline", Some("02:00"), "02:15"),
        change("settlement.tap_start", Some("00:30"), "00:45"),
    ];
    let settlement =
        "[settlement]\ntap_start = \"00:45\"\ntap_deadline = \"02:15\"\nrap_cut_off = \"03:00\"\n";
    let further = "additional_variants = [\"tap-3-12-standard\"]\nunpriced_wait_hours = 48\n\
         exchange_rates = { USD = \"71.5\", EUR = \"80\" }\n";
    let regulator = to_regulator(dir.path());
    fixture.starts_with(&format!("{export}{further}{settlement}{regulator}"), &second);

    // What is taken out of the file is told, too, with the value that it had; what stays is not.
    let third = [
        change("delivery.kind", Some("regulator"), "none"),
        change("delivery.rest_url", Some("https://localhost:1/upload"), ""),
        change("delivery.sftp_directory", Some("in"), ""),
        change("delivery.sftp_host", Some("127.0.0.1"), ""),
        change("delivery.sftp_host_fingerprints", Some(FINGERPRINT), ""),
        change("delivery.sftp_port", Some("2022"), ""),
        change("delivery.sftp_user", Some("cdr"), ""),
        change("export.additional_variants", Some("tap-3-12-standard"), ""),
        change("export.exchange_rates", Some("EUR=80, USD=71.5"), ""),
        change("export.unpriced_wait_hours", Some("48"), "24"),
    ];
    fixture.starts_with(&format!("{export}{settlement}"), &third);

    // The same file for the replica that reads the rows: it records nothing more.
    fixture.replica.edit(|text| format!("{text}{export}{settlement}"));
    let (told, rows) = (fixture.told(), fixture.rows());
    assert_eq!(own(&rows), own(&told), "each row is told, in order");
    assert_eq!(own(&rows).len(), first.len() + second.len() + third.len());
    for body in told.iter().chain(&rows) {
        let text = body.to_string();
        assert!(
            ![SECRET, "sftp.key", "client.key", "PRIVATE KEY"].iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}
