//! Three replicas, each with a session of its own at one HSM: seals signed, a token that goes away, a key replaced, and no
//! secret anywhere.

use crate::receipts::{lines, publish, runtime};
use cdr_core::Hour;
use cdr_core::key::Algorithm::{EcdsaP256, Ed25519};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::root_key::RootKey;
use testkit::softhsm::{ED25519_SEED, P256_SCALAR, PIN, SoftHsm};
use testkit::{unix_seconds, wait_until};

const OLD: &str = "cdr-export-signer-v1";
const NEW: &str = "cdr-export-signer-v2";

/// With which the replicas' clocks show so many seconds before an hour ends.
fn before_the_end_of(hour: Hour, seconds: i64) -> ClockOffset {
    ClockOffset::showing((i64::from(hour.0) + 1) * 3_600 - seconds)
}

/// What the test works with.
struct Fixture {
    hsm: SoftHsm,
    dir: PathBuf,
    nats: NatsServer,
    root: RootKey,
    /// Everything that commands printed.
    said: Vec<u8>,
}

impl Fixture {
    fn new(hsm: SoftHsm) -> Self {
        let dir = hsm.dir().join("cluster");
        std::fs::create_dir(&dir).unwrap();
        let root = RootKey::new(&dir);
        Self { hsm, dir, nats: NatsServer::start(), root, said: Vec::new() }
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn run(&mut self, arguments: &[&str]) -> Output {
        let output = Command::new(testkit::binary()).args(arguments).output().unwrap();
        self.said.extend_from_slice(&output.stdout);
        self.said.extend_from_slice(&output.stderr);
        output
    }

    /// Names the keys of a configuration.
    fn with_key(&self, text: &str, key_id: &str, algorithm: &str, previous: &[&str]) -> String {
        self.root.with_key(&self.hsm, text, key_id, algorithm, previous)
    }

    /// Has the root key sign the record of the configured key, as an operator does.
    fn vouch(&mut self, cluster: &Cluster, key_id: &str, from: Hour) {
        let root = self.root.clone();
        root.vouch(&cluster.configuration(1), key_id, from, |arguments| self.run(arguments));
    }

    fn publish(&self, cluster: &Cluster, seed: u64) {
        let before = cluster.sms_rows(1).unwrap_or(0);
        publish(&runtime(), &self.nats.url(), &lines(100, seed).0);
        wait_until("records", 60, || (1..=3).all(|id| cluster.sms_rows(id).unwrap_or(0) > before + 20));
    }

    /// A record of a sealed hour, proven by nothing but the root's public key.
    fn prove(&mut self, cluster: &Cluster, hour: Hour) -> Value {
        let path = format!("/v1/cdr/records?limit=1&bucketHourFrom={hour}&bucketHourTo={hour}");
        let page = cluster.get_ok(1, &path);
        let cdr_id = page["items"][0]["cdrId"].as_str().unwrap_or_else(|| panic!("{page}"));
        let proof = cluster.get_ok(1, &format!("/v1/cdr/records/{cdr_id}/proof"));
        let (file, trust) = (self.file("proof.json"), self.root.public_key_file());
        std::fs::write(&file, proof.to_string()).unwrap();
        let checked = self.run(&["verify-record", "--cluster", "test", "--trust", &trust, &file]);
        assert!(checked.status.success(), "{checked:?}");
        proof
    }
}

/// What a replica says of a sealed hour; none before it is sealed there.
fn sealed(cluster: &Cluster, id: usize, hour: Hour) -> Option<Value> {
    let path = format!("/v1/cdr/completeness?bucketHour={hour}&consistency=stale");
    let (status, body) = cluster.get(id, &path);
    (status == 200).then_some(body)
}

fn wait_until_signed(cluster: &Cluster, hour: Hour, key_id: &str) {
    let signed = |id| sealed(cluster, id, hour).is_some_and(|body| body["signature"].is_string());
    wait_until(&format!("signature of {hour}"), 90, || (1..=3).all(signed));
    assert_eq!(sealed(cluster, 1, hour).unwrap()["signerKeyId"], key_id);
}

#[test]
fn three_replicas_sign_with_keys_of_the_hsm_and_keep_its_secrets() {
    let name = "hsm::cluster::three_replicas_sign_with_keys_of_the_hsm_and_keep_its_secrets";
    let Some(hsm) = SoftHsm::for_test(name) else { return };
    hsm.import(OLD, Ed25519);
    hsm.import(NEW, EcdsaP256);
    let mut fixture = Fixture::new(hsm);
    let first = Hour((unix_seconds() / 3_600) as u32);
    let clock = before_the_end_of(first, 3_000);
    let url = fixture.nats.url();
    let mut cluster = Cluster::prepare_with_movable_clocks(&fixture.dir, &url, clock);
    cluster.edit_configuration(|text| fixture.with_key(text, OLD, "Ed25519", &[]));
    fixture.vouch(&cluster, OLD, first);
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    fixture.publish(&cluster, 1);

    // The hour ends while the token is away: sealed on time, signed once it is back, with nobody's help.
    assert!(sealed(&cluster, 1, first).is_none(), "the hour ended too early for this test");
    fixture.hsm.take_away();
    cluster.set_clocks(before_the_end_of(first, 2));
    wait_until("the seal", 90, || sealed(&cluster, 1, first).is_some());
    wait_until("a signer that is missed", 30, || {
        (1..=3).any(|id| cluster.metric(id, "cdr_signer_unavailable_seconds") > Some(0.0))
    });
    assert_eq!(sealed(&cluster, 1, first).unwrap()["signature"], Value::Null);
    fixture.hsm.bring_back();
    wait_until_signed(&cluster, first, OLD);
    let unavailable = |id| cluster.metric(id, "cdr_signer_unavailable_seconds");
    wait_until("a signer that nobody misses", 30, || (1..=3).all(|id| unavailable(id) == Some(0.0)));
    fixture.prove(&cluster, first);

    // Another key, of the other algorithm, from the hour on in which the replicas come back, two hours later.
    (1..=3).for_each(|id| cluster.kill(id));
    let (between, third) = (first.next(), first.next().next());
    cluster.set_clocks(before_the_end_of(third, 3_000));
    cluster.edit_configuration(|text| fixture.with_key(text, NEW, "ecdsa-p256", &[OLD]));
    fixture.vouch(&cluster, NEW, third);
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    fixture.publish(&cluster, 2);
    wait_until_signed(&cluster, between, OLD);
    cluster.set_clocks(before_the_end_of(third, 2));
    wait_until_signed(&cluster, third, NEW);
    let proof = fixture.prove(&cluster, third);
    assert_eq!(proof["key"]["algorithm"], "ecdsa-p256");
    let keys = cluster.get_ok(1, "/v1/cdr/keys");
    let told: Vec<Value> = ["keyId", "status", "signsBefore"]
        .map(|field| json!([keys["items"][0][field], keys["items"][1][field]]))
        .into();
    assert_eq!(told[0], json!([OLD, NEW]));
    assert_eq!(told[1], json!(["OVERLAP", "ACTIVE"]));
    assert_eq!(told[2], json!([third.to_string(), null]));
    assert_eq!(keys["items"][0]["exportsBefore"], Hour(third.0 + 720).to_string());

    let mut told = Vec::new();
    for id in 1..=3 {
        told.extend(cluster.metrics_text(id).into_bytes());
        told.extend(cluster.get(id, "/health/ready").1.to_string().into_bytes());
    }
    told.extend(keys.to_string().into_bytes());
    (1..=3).for_each(|id| cluster.kill(id));
    refuse_a_wrong_pin(&mut fixture, &cluster);
    let config = cluster.configuration(1).to_str().unwrap().to_owned();
    let printed = fixture.run(&["config", "check", &config]);
    assert!(printed.status.success() && printed.stdout.len() > 500, "{printed:?}");
    told.extend_from_slice(&fixture.said);
    let public = keys["items"][0]["publicKey"].as_str().unwrap();
    no_secret(&fixture.dir, &told, public);
}

/// A replica with a wrong PIN does not start, and does not repeat the PIN.
fn refuse_a_wrong_pin(fixture: &mut Fixture, cluster: &Cluster) {
    let wrong = fixture.hsm.dir().join("wrong-pin");
    std::fs::write(&wrong, "wrong-0Yb34").unwrap();
    let text = std::fs::read_to_string(cluster.configuration(3)).unwrap();
    let pin_file = fixture.hsm.pin_file().to_str().unwrap().to_owned();
    let config = fixture.file("wrong.toml");
    std::fs::write(&config, text.replace(&pin_file, wrong.to_str().unwrap())).unwrap();
    let refused = fixture.run(&["node", "--config", &config]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("token cdr refuses") && !said.contains("wrong-0Yb34"), "{said}");
}

/// Looks for the PIN and the private keys, in every form that somebody may have written, in everything that replicas and
/// commands wrote and said. That it would find them shows with the public key, which is in every replica's log.
fn no_secret(dir: &Path, told: &[u8], public: &str) {
    let scalar = hex::decode(P256_SCALAR).unwrap();
    let mut secrets = vec![PIN.as_bytes().to_vec(), hex::encode(PIN).into_bytes()];
    for key in [&ED25519_SEED[..], &scalar] {
        let digits = hex::encode(key);
        secrets.push(key.to_vec());
        secrets.push(digits.to_uppercase().into_bytes());
        secrets.push(digits.into_bytes());
        secrets.push(cdr_core::proof::encode_base64(key).trim_end_matches('=').as_bytes().to_vec());
    }
    let mut files = Vec::new();
    read_all(dir, &mut files);
    let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let of_nodes = (1..=3).map(|id| dir.join(format!("node-{id}")));
    for node in of_nodes {
        let mut own = files.iter().filter(|(path, _)| path.starts_with(&node));
        assert!(
            own.any(|(_, text)| holds(text, public.as_bytes())),
            "nothing is found in {}",
            node.display()
        );
    }
    files.push((PathBuf::from("what was said"), told.to_vec()));
    for (path, text) in &files {
        for secret in &secrets {
            assert!(!holds(text, secret), "{} holds a secret", path.display());
        }
    }
}

fn read_all(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, files);
        } else {
            let text = std::fs::read(&path).unwrap();
            files.push((path, text));
        }
    }
}
