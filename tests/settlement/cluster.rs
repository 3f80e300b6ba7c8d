//! Everything that settles a day: three replicas with clocks that can be set, and the counterparts around them.

use crate::receipts::{lines_of_day, publish};
use cdr_core::key::Algorithm;
use cdr_core::{Hour, Millis};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::rest_receiver::RestReceiver;
use testkit::root_key::RootKey;
use testkit::softhsm::SoftHsm;
use testkit::sshd::Sshd;
use testkit::tcp_relay::TcpRelay;
use testkit::tokens::rsa_key;
use testkit::{run, tap_schemas, unix_seconds, wait_until};
use tokio::runtime::Runtime;

/// Operators, each of which has a file a day.
pub const OPERATORS: usize = 7;
/// The key that signs.
pub const KEY: &str = "cdr-export-signer-v1";
/// Receipts of a day: the largest file takes several pieces of an upload.
const RECEIPTS: u64 = 600;
const DAY: i64 = 86_400;
/// 23:20 in Kabul: the hour in which the ledger begins lies within the settlement day.
const OPENED_AT: i64 = 18 * 3_600 + 50 * 60;
/// A second after 00:30 in Kabul, when the hour of midnight is over and the files are due.
const DUE_AT: i64 = 20 * 3_600 + 1;

pub struct Settlement {
    pub cluster: Cluster,
    pub nats: NatsServer,
    pub line: TcpRelay,
    pub sshd: Sshd,
    pub receiver: RestReceiver,
    pub hsm: SoftHsm,
    pub root: RootKey,
    /// Records that the files of all days have to account for.
    pub records: u64,
    pub dir: PathBuf,
    pub runtime: Runtime,
    /// 00:00 UTC of the first settlement day, seconds.
    first_day: i64,
    clock: ClockOffset,
}

impl Settlement {
    /// Replicas that have taken in a day's receipts, before it is over.
    pub fn start(hsm: SoftHsm) -> Self {
        Self::start_edited(hsm, str::to_owned)
    }

    /// The same with configurations that `edit` has changed.
    pub fn start_edited(hsm: SoftHsm, edit: impl Fn(&str) -> String) -> Self {
        let dir = hsm.dir().join("settlement");
        std::fs::create_dir(&dir).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (nats, sshd, root) = (NatsServer::start(), Sshd::start(), RootKey::new(&dir));
        let line = TcpRelay::to(sshd.port());
        let receiver = runtime.block_on(RestReceiver::start());
        let now = unix_seconds();
        let first_day = (now - OPENED_AT + DAY).div_euclid(DAY) * DAY;
        let clock = ClockOffset(first_day + OPENED_AT - now);
        let cluster = Cluster::prepare_with_movable_clocks(&dir, &nats.url(), clock);
        let mut settlement = Self {
            cluster,
            nats,
            line,
            sshd,
            receiver,
            hsm,
            root,
            records: 0,
            dir,
            runtime,
            first_day,
            clock,
        };
        settlement.hsm.import(KEY, Algorithm::Ed25519);
        let sections = settlement.sections();
        settlement.cluster.edit_configuration(|text| {
            let text = text.replace("[events]\nenabled = false\n", "");
            edit(&(settlement.root.with_key(&settlement.hsm, &text, KEY, "Ed25519", &[]) + &sections))
        });
        settlement.vouch(KEY, Hour(((first_day + OPENED_AT) / 3_600) as u32));
        (1..=3).for_each(|id| settlement.cluster.restart(id));
        settlement.cluster.leader();
        settlement.take_in_day(0);
        settlement
    }

    /// Where files and events go.
    fn sections(&self) -> String {
        let events = self.dir.join("events.pem");
        std::fs::write(&events, rsa_key()).unwrap();
        let (sshd, client) = (&self.sshd, &self.receiver.files);
        let sections = json!({
            "events": { "signing_key_file": events, "replicas": 1 },
            "export": { "schema_dir": tap_schemas(), "schema_variant": "atra-tap-v2" },
            "delivery": {
                "kind": "regulator",
                "sftp_host": "127.0.0.1",
                "sftp_port": self.line.port(),
                "sftp_user": sshd.user(),
                "sftp_directory": sshd.directory(),
                "sftp_host_fingerprints": [sshd.fingerprint("host")],
                "sftp_key_files": [sshd.path("client")],
                "rest_url": self.receiver.url(),
                "rest_ca_file": client.ca,
                "rest_client_cert_file": client.cert,
                "rest_client_key_file": client.key,
            },
        });
        toml::to_string(&sections).unwrap()
    }

    /// Has the root key vouch for the key of the configuration, from an hour on.
    pub fn vouch(&self, key_id: &str, from: Hour) {
        self.root.vouch(&self.cluster.configuration(1), key_id, from, run);
    }

    /// Publishes the receipts of the day before a settlement day, and waits until every replica has their records.
    pub fn take_in_day(&mut self, day: i64) {
        let before = Millis((self.first_day + (day - 1) * DAY) * 1_000).to_string()[..10].to_owned();
        let (text, messages, _) = lines_of_day(&before, RECEIPTS, day as u64 + 1);
        self.records += messages.len() as u64;
        publish(&self.runtime, &self.nats.url(), &text);
        let wanted = Some(self.records);
        wait_until("the day's records", 60, || (1..=3).all(|id| self.cluster.sms_rows(id) == wanted));
    }

    /// Sets all clocks to shortly after the files of a settlement day are due.
    pub fn end_day(&mut self, day: i64) {
        self.set_clocks(self.first_day + day * DAY + DUE_AT - unix_seconds());
    }

    /// The hour of a settlement day in which its receipts are taken in.
    pub fn hour_of_day(&self, day: i64) -> Hour {
        Hour(((self.first_day + day * DAY + OPENED_AT) / 3_600) as u32)
    }

    /// Sets all clocks to when the receipts of a settlement day are taken in.
    pub fn begin_day(&mut self, day: i64) {
        self.set_clocks(self.first_day + day * DAY + OPENED_AT - unix_seconds());
    }

    /// Lets so many seconds pass on all clocks.
    pub fn pass(&mut self, seconds: i64) {
        self.set_clocks(self.clock.0 + seconds);
    }

    fn set_clocks(&mut self, offset: i64) {
        self.clock = ClockOffset(offset);
        self.cluster.set_clocks(self.clock);
    }

    /// Kills the leader alone; `mend` is done before another one is waited for, whose clock is `later` seconds ahead of
    /// the first one's. In the end all three run.
    pub fn fail_over(&mut self, later: i64, mend: impl FnOnce(&mut Self)) {
        let dead = self.cluster.leader();
        self.cluster.kill(dead);
        mend(self);
        self.set_clocks(self.clock.0 + later);
        self.cluster.leader();
        self.bring_back(dead);
    }

    /// Starts a replica that was killed, and waits until it has what the others have.
    pub fn bring_back(&mut self, id: usize) {
        let rows = |id| self.cluster.metric(id, "cdr_rows");
        let others = (1..=3).filter_map(rows).fold(0.0, f64::max);
        self.cluster.restart(id);
        wait_until("a replica that was killed", 60, || {
            self.cluster.metric(id, "cdr_rows").is_some_and(|rows| rows >= others)
        });
    }

    /// Settlement files, as a replica that answers knows them.
    pub fn files(&self) -> Vec<Value> {
        let answering = (1..=3).filter(|id| self.cluster.metric(*id, "cdr_rows").is_some());
        let mut answers = answering.map(|id| self.cluster.get(id, "/v1/cdr/exports?limit=500"));
        let list = answers.find(|(status, _)| *status == 200).map(|(_, body)| body);
        list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
    }

    /// Waits until the files of so many days are all there, and each of them is as `holds` says.
    pub fn wait_for_files(&self, what: &str, days: usize, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let files = self.files();
            if files.len() == days * OPERATORS && files.iter().all(&holds) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not within a minute: {files:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until every file was tried so often, the last time with this error.
    pub fn wait_for_failures(&self, count: u64, error: &str) {
        self.wait_for_files(&format!("{count} failures, {error}"), 1, |file| {
            file["retryCount"].as_u64() >= Some(count) && file["lastError"]["error"] == error
        });
    }

    /// Waits until the files of so many days are delivered over a channel.
    pub fn wait_until_delivered(&self, days: usize, channel: &str) {
        let status = format!("DELIVERED_{channel}");
        self.wait_for_files(&status, days, |file| file["deliveryStatus"] == *status);
    }

    /// Waits until an upload has come to stand still for the so manieth time; gives the file's name.
    pub fn wait_for_half_a_file(&self, count: usize) -> String {
        wait_until("an upload that stands still", 60, || self.line.stalled() == count);
        let temporary = || self.sshd.names().into_iter().find(|name| is_temporary(name));
        let size = |name: &str| std::fs::metadata(self.sshd.drop().join(name)).map_or(0, |found| found.len());
        wait_until("half a file", 30, || temporary().is_some_and(|name| size(&name) > 0));
        let name = temporary().unwrap();
        let whole = name.trim_end_matches(".tmp").to_owned();
        let files = self.files();
        let file = files.iter().find(|file| file["filename"] == *whole).unwrap();
        let (part, bytes) = (size(&name), file["byteSize"].as_u64().unwrap());
        assert!(part < bytes, "{name} has {part} of {bytes} bytes");
        assert!(!self.sshd.names().contains(&whole), "half a file has its final name");
        whole
    }

    /// Puts a file up for delivery again, as an operator does.
    pub fn redrop(&self, file: &Value) {
        let id = file["exportId"].as_str().unwrap();
        let body = json!({ "reason": "the cause is mended", "ticketId": "T-1" });
        let path = format!("/v1/cdr/exports/{id}/redrop");
        let key = [("Idempotency-Key", id)];
        let (status, _, answer) = self.cluster.post_with(self.cluster.leader(), &path, &body, &key);
        assert_eq!(status, 202, "{answer}");
    }
}

fn is_temporary(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|end| end == "tmp")
}
