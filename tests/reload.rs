//! SIGHUP: a running replica reads its log filter and the key set of bearer tokens again.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use cdr_mediation::auth::dev::DevIssuer;
use common::cluster::{free_ports, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(dir: &Path, jwks: &Path, ports: &[u16], log_level: &str) -> String {
    let dir = dir.display();
    format!(
        "[cluster]\nid = \"test\"\nnode_id = 1\nlisten = \"127.0.0.1:{0}\"\ninitialize = true\n\
         [cluster.peers]\n1 = \"127.0.0.1:{0}\"\n\
         [storage]\ndata_dir = \"{dir}/node\"\ndedup_filter_mb = 8\n\
         [ingest]\nbus = \"local\"\nreplicas = 1\n\
         [events]\nenabled = false\n\
         [signer]\nkey_file = \"{dir}/signer.key\"\nallow_dev = true\n\
         [api]\nlisten = \"127.0.0.1:{1}\"\n\
         [auth]\njwks_file = \"{2}\"\n\
         [observability]\nlog_level = \"{log_level}\"\n",
        ports[0],
        ports[1],
        jwks.display(),
    )
}

#[test]
fn sighup_reads_token_keys_and_the_log_filter_again() {
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let (issuer, other) = (
        DevIssuer::load_or_create(dir.path()).unwrap(),
        DevIssuer::load_or_create(other_dir.path()).unwrap(),
    );
    let (ports, file) = (free_ports(2), dir.path().join("node.toml"));
    let jwks = dir.path().join("in-use.json");
    std::fs::copy(issuer.jwks_path(), &jwks).unwrap();
    std::fs::write(&file, configuration(dir.path(), &jwks, &ports, "info")).unwrap();
    let log_file = dir.path().join("log");
    let log = || std::fs::read_to_string(&log_file).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_cdr-mediation"))
        .args(["node", "--config"])
        .arg(&file)
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log_file).unwrap())
        .spawn()
        .unwrap();
    let mut replica = Replica(child);
    let id = replica.0.id().to_string();
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let url = format!("http://127.0.0.1:{}/v1/cdr/keys?consistency=stale", ports[1]);
    let status = |issuer: &DevIssuer| {
        let token = issuer.token("tester", &["cdr:read"], 600).unwrap();
        let answer = agent.get(&url).header("Authorization", format!("Bearer {token}")).call();
        answer.map_or(0, |answer| answer.status().as_u16())
    };
    wait_until("the API", 60, || status(&issuer) == 200);
    assert_eq!(status(&other), 401);

    // The file's time stays, so that only the signal can make the difference.
    let modified = std::fs::metadata(&jwks).unwrap().modified().unwrap();
    std::fs::copy(other.jwks_path(), &jwks).unwrap();
    std::fs::File::options().write(true).open(&jwks).unwrap().set_modified(modified).unwrap();
    let changed = configuration(dir.path(), &jwks, &ports, "warn")
        .replace("dedup_filter_mb = 8", "dedup_filter_mb = 9");
    std::fs::write(&file, changed).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((status(&issuer), status(&other)), (200, 401), "the file alone changes nothing");
    hang_up();
    wait_until("the new keys", 10, || (status(&issuer), status(&other)) == (401, 200));
    wait_until("the report", 10, || log().contains("changes in these sections need a restart"));
    let text = log();
    assert!(text.contains("observability.log_level is in force"), "{text}");
    let report = text.lines().find(|line| line.contains("need a restart")).unwrap();
    assert!(report.contains("storage") && !report.contains("observability"), "{report}");
    assert!(
        !text.contains("key set of bearer tokens is read again"),
        "information is not logged any more: {text}"
    );

    // A configuration and a key set that can't be used change nothing and end nothing.
    std::fs::write(&file, "[cluster]\nid = 3\n").unwrap();
    std::fs::write(&jwks, "{\"keys\": []}").unwrap();
    hang_up();
    wait_until("both complaints", 10, || {
        let text = log();
        text.contains("the configuration can't be used") && text.contains("bearer tokens can't be used")
    });
    assert_eq!(status(&other), 200);
    assert!(replica.0.try_wait().unwrap().is_none());
}
