//! SIGHUP: a running replica reads its log filter, `[delivery]` and the key set of bearer tokens again, and the ledger
//! records what came into force.

use cdr_mediation::auth::dev::DevIssuer;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;
use testkit::single::SingleReplica;
use testkit::wait_until;

/// The changes of settings that the replica tells from now on, handed over as they come.
fn config_changes(replica: &SingleReplica, token: &str) -> std::sync::mpsc::Receiver<Value> {
    let url = replica.url("/v1/cdr/events/stream?subjects=cdr.config.changed.v1");
    let answer = ureq::get(&url).header("Authorization", format!("Bearer {token}")).call().unwrap();
    let (told, changes) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        for line in lines.map_while(Result::ok) {
            let event = line.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
            if event.is_some_and(|event: Value| told.send(event).is_err()) {
                return;
            }
        }
    });
    changes
}

/// Three changes came into force at one signal; the ledger has each, with neither hosts nor paths nor keys.
fn recorded(changes: &std::sync::mpsc::Receiver<Value>, jwks: &Path, drop: &Path) {
    let change = || changes.recv_timeout(Duration::from_secs(20)).unwrap();
    let (level, delivery, keys) = (change(), change(), change());
    for (event, key) in [
        (&level, "node.1.observability.log_level"),
        (&delivery, "node.1.delivery"),
        (&keys, "node.1.auth.jwks_file"),
    ] {
        assert_eq!((&event["configKey"], &event["actorUserId"]), (&key.into(), &"system:reload".into()));
        assert_eq!(event["previousValue"], Value::Null, "the ledger had none");
        assert!(event["reason"].as_str().unwrap().contains("node 1"), "{event}");
        let text = event.to_string();
        assert!(![jwks, drop].iter().any(|path| text.contains(path.to_str().unwrap())), "{text}");
    }
    assert_eq!(level["newValue"], "warn");
    assert_eq!(delivery["newValue"].as_str().unwrap().len(), 64);
    let hash = cdr_core::hash::sha256(&std::fs::read(jwks).unwrap());
    assert_eq!(keys["newValue"], cdr_core::hash::to_hex(&hash));
}

#[test]
fn one_replica_as_shipped_still_takes_what_it_is_told_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
    let mut replica = SingleReplica::as_shipped(dir.path(), issuer.jwks_path());
    replica.start();
    wait_until("it leads a ledger", 60, || replica.figure("cdr_rows").is_some_and(|rows| rows > 0.0));
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let ready = || {
        let answer = agent.get(&replica.url("/health/ready")).call().unwrap();
        let body: Value = serde_json::from_reader(answer.into_body().into_reader()).unwrap();
        (body["status"].clone(), body["role"].clone(), replica.figure("cdr_raft_is_leader"))
    };
    let leads = ("ready".into(), "Leader".into(), Some(1.0));
    wait_until("it is ready", 60, || ready() == leads);
    // Nobody renews its lease, which would have ended after two seconds.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(ready(), leads);
    let rows = replica.figure("cdr_rows").unwrap();
    replica.edit(|text| text + "\n[observability]\nlog_level = \"warn\"\n");
    replica.hang_up();
    wait_until("the row of what changed", 10, || replica.figure("cdr_rows").is_some_and(|now| now > rows));
    assert_eq!(ready(), leads);
}

#[test]
fn sighup_reads_token_keys_and_the_log_filter_again() {
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let (issuer, other) = (
        DevIssuer::load_or_create(dir.path()).unwrap(),
        DevIssuer::load_or_create(other_dir.path()).unwrap(),
    );
    let jwks = dir.path().join("in-use.json");
    std::fs::copy(issuer.jwks_path(), &jwks).unwrap();
    let mut replica = SingleReplica::new(dir.path(), &jwks);
    replica.start();
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let url = replica.url("/v1/cdr/keys?consistency=stale");
    let status = |issuer: &DevIssuer| {
        let token = issuer.token("tester", &["cdr:read"], 600).unwrap();
        let answer = agent.get(&url).header("Authorization", format!("Bearer {token}")).call();
        answer.map_or(0, |answer| answer.status().as_u16())
    };
    wait_until("the API", 60, || status(&issuer) == 200);
    assert_eq!(status(&other), 401);
    // The feed begins behind what a leader confirms.
    let token = issuer.token("tester", &["cdr:read"], 600).unwrap();
    wait_until("a leader", 60, || {
        let url = replica.url("/v1/cdr/keys");
        let answer = agent.get(&url).header("Authorization", format!("Bearer {token}")).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    });
    let log = replica.log();
    let began = log.lines().find(|line| line.contains("replica started")).unwrap();
    assert!(
        began.contains(env!("CARGO_PKG_VERSION")) && began.contains(&replica.url("")["http://".len()..]),
        "{began}"
    );
    assert!(!log.contains('\u{1b}'), "colour codes in a file: {log}");
    wait_until("the ledger", 30, || replica.figure("cdr_rows").is_some_and(|rows| rows > 0.0));
    let changes = config_changes(&replica, &issuer.token("tester", &["cdr:read"], 600).unwrap());

    // The file's time stays, so that only the signal can make the difference.
    let modified = std::fs::metadata(&jwks).unwrap().modified().unwrap();
    std::fs::copy(other.jwks_path(), &jwks).unwrap();
    std::fs::File::options().write(true).open(&jwks).unwrap().set_modified(modified).unwrap();
    let changed = std::fs::read_to_string(replica.configuration())
        .unwrap()
        .replace("log_level = \"info\"", "log_level = \"warn\"")
        .replace("dedup_filter_mb = 8", "dedup_filter_mb = 9")
        .replace("signer.key", "another.key")
        .replace("[events]\n", "[export]\nunpriced_wait_hours = 25\n[events]\nbatch = 100\n");
    let drop = dir.path().join("drop-of-the-regulator");
    let to = |section: &str| format!("{changed}[delivery]\n{section}\n");
    let changed = to(&format!("kind = \"directory\"\ndirectory_path = \"{}\"", drop.display()));
    std::fs::write(replica.configuration(), &changed).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((status(&issuer), status(&other)), (200, 401), "the file alone changes nothing");
    replica.hang_up();
    wait_until("the new keys", 10, || (status(&issuer), status(&other)) == (401, 200));
    wait_until("the report", 10, || replica.log().contains("changes in these sections need a restart"));
    let text = replica.log();
    assert!(text.contains("observability.log_level is in force"), "{text}");
    let report = text.lines().find(|line| line.contains("need a restart")).unwrap();
    assert!(report.contains("\"storage, events, signer, export\""), "{report}");
    assert!(text.contains("[delivery] is in force"), "{text}");
    recorded(&changes, &jwks, &drop);
    assert!(
        !text.contains("key set of bearer tokens is read again"),
        "information is not logged any more: {text}"
    );

    // Channels that can't be opened are not put in force, and nothing is recorded of them.
    let regulator = "kind = \"regulator\"\nsftp_host = \"drop.example.net\"\nsftp_user = \"cdr\"\n\
        sftp_host_fingerprints = [\"SHA256:3MxkGKQVrIYyH8h6mTUQSBlUnPm8rQIW3KJvXQO5k7E\"]\n\
        sftp_key_files = [\"/nowhere/client.key\"]";
    std::fs::write(replica.configuration(), to(regulator)).unwrap();
    replica.hang_up();
    wait_until("the complaint, and the report behind it", 10, || {
        let log = replica.log();
        let report = log.lines().rfind(|line| line.contains("need a restart")).unwrap();
        log.contains("[delivery] can't be used; the one in force stays")
            && report.contains("export, delivery")
    });
    assert!(changes.recv_timeout(Duration::from_secs(1)).is_err());

    // A configuration and a key set that can't be used change nothing and end nothing.
    std::fs::write(replica.configuration(), "[cluster]\nid = 3\n").unwrap();
    std::fs::write(&jwks, "{\"keys\": []}").unwrap();
    replica.hang_up();
    wait_until("both complaints", 10, || {
        let text = replica.log();
        text.contains("the configuration can't be used") && text.contains("bearer tokens can't be used")
    });
    assert_eq!(status(&other), 200);
    assert!(replica.runs());
}

/// The price list of the test, at this price for a segment.
fn price_list(per_segment: &str) -> String {
    format!(
        "[[pricing.tables]]\nversion = \"2026-1\"\nvalid_from = \"2026-01-01T00:00:00Z\"\n\
         [[pricing.tables.tariffs]]\nper_segment = \"{per_segment}\"\ncurrency = \"AFN\"\ntap_tariff_class = \"A040\"\n"
    )
}

#[test]
fn a_node_whose_configuration_contradicts_the_ledger_stops() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
    let mut replica = SingleReplica::new(dir.path(), issuer.jwks_path());
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas");
    replica.edit(|text| {
        let export =
            format!("[export]\nschema_dir = \"{}\"\nschema_variant = \"atra-tap-v2\"\n", schemas.display());
        format!("{text}{export}{}", price_list("0.5"))
    });
    replica.start();
    let kept = dir.path().join("node/schema-variant");
    wait_until("the variant in force", 60, || kept.exists());
    wait_until("the price list in the ledger", 30, || {
        replica.log().contains("a price list is in the ledger")
    });
    wait_until("the settings in the ledger", 30, || {
        replica.log().contains("the ledger has the settings in force")
    });
    replica.stop();
    let good = std::fs::read_to_string(replica.configuration()).unwrap();

    for (from, to, why) in [
        (
            "\"atra-tap-v2\"",
            "\"atra-tap-v9\"",
            "schema variant atra-tap-v9, which export.schema_variant names",
        ),
        (
            "\"atra-tap-v2\"",
            "\"atra-tap-v1\"",
            "export.schema_variant is atra-tap-v1, but atra-tap-v2 is in force",
        ),
        (
            "schema_variant = \"atra-tap-v2\"",
            "",
            "export.schema_variant is not set, but atra-tap-v2 is in force",
        ),
        ("\"0.5\"", "\"0.6\"", "the ledger has price list 2026-1 with another content"),
        ("replicas = 1", "replicas = 1\ndedup_horizon_hours = 24", "the ledger's horizon is 168 h"),
    ] {
        std::fs::write(replica.configuration(), good.replace(from, to)).unwrap();
        replica.start();
        wait_until(why, 60, || !replica.runs());
        assert!(replica.log().contains(why), "{why}: {}", replica.log());
    }
    std::fs::write(replica.configuration(), &good).unwrap();
    replica.start();
    std::thread::sleep(Duration::from_secs(5));
    assert!(replica.runs(), "{}", replica.log());
}
