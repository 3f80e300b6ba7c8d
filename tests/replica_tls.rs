//! Three processes over TLS, with certificates made as docs/replica-tls.md says: what a follower is asked reaches the
//! leader, others are refused, and certificates are exchanged by SIGHUP.

use cdr_mediation::tls;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use testkit::certificates::{Authority, ClientFiles};
use testkit::cluster::Cluster;
use testkit::nats::NatsServer;
use testkit::{free_ports, wait_until};

/// The commands of the page, as they stand there.
fn commands() -> String {
    let page = include_str!("../docs/replica-tls.md");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    block.replace("CLUSTER=national", "CLUSTER=test")
}

/// Makes an authority and the certificates of three nodes in `dir`.
fn make_certificates(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let made = Command::new("bash").args(["-euc", &commands()]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// `text`, with certificates of its node in `dir`.
fn with_tls(text: &str, dir: &Path) -> String {
    let id = text.split("node_id = ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let keys = format!(
        "tls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
        file("cluster-ca.pem"),
        file(&format!("cluster-{id}.pem")),
        file(&format!("cluster-{id}.key"))
    );
    text.replacen("[cluster]\n", &format!("[cluster]\n{keys}"), 1)
}

/// The second door of a node's API, for a service called `inspector`.
struct Door {
    servers: Authority,
    clients: Authority,
    ports: Vec<u16>,
}

impl Door {
    fn new() -> Self {
        Self { servers: Authority::new("servers"), clients: Authority::new("clients"), ports: free_ports(3) }
    }

    /// `text`, with the door of its node.
    fn with(&self, text: &str, dir: &Path) -> String {
        let id: usize =
            text.split("node_id = ").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
        let own = dir.join(format!("door-{id}"));
        std::fs::create_dir_all(&own).unwrap();
        let files = ClientFiles::write(&own, &self.clients, &self.servers.issue("cdr-mediation"));
        let keys = format!(
            "[api]\nmtls_listen = \"127.0.0.1:{}\"\nmtls_cert_file = \"{}\"\nmtls_key_file = \"{}\"\n\
             mtls_client_ca_file = \"{}\"\n",
            self.ports[id - 1],
            files.cert.display(),
            files.key.display(),
            files.ca.display()
        );
        let client = "[[api.clients]]\nname = \"inspector\"\nscopes = [\"cdr:write\"]\n";
        format!("{}{client}", text.replacen("[api]\n", &keys, 1))
    }

    /// Asks a node for a re-rating by certificate alone; the status of the answer.
    fn rerate(&self, id: usize, dir: &Path) -> u16 {
        let files = ClientFiles::write(dir, &self.servers, &self.clients.issue("inspector"));
        let builder = tls::client(tls::roots(&files.ca).unwrap()).unwrap();
        let shown = (tls::certificates(&files.cert).unwrap(), tls::private_key(&files.key).unwrap());
        let config = builder.with_client_auth_cert(shown.0, shown.1).unwrap();
        let client = reqwest::blocking::Client::builder().tls_backend_preconfigured(config).build().unwrap();
        let url = format!("https://localhost:{}/v1/cdr/adjustments/rerate", self.ports[id - 1]);
        client.post(url).body(rerating().to_string()).send().unwrap().status().as_u16()
    }
}

/// A re-rating of no record.
fn rerating() -> serde_json::Value {
    json!({
        "filter": { "bucketHourFrom": "2020-01-01T00:00:00Z", "bucketHourTo": "2020-01-01T01:00:00Z" },
        "newPricingTableId": "test-1", "ticketId": "T-1", "reason": "try",
    })
}

fn raft_port(cluster: &Cluster, id: usize) -> u16 {
    let text = std::fs::read_to_string(cluster.configuration(id)).unwrap();
    let listen = text.split("listen = \"127.0.0.1:").nth(1).unwrap();
    listen.split('"').next().unwrap().parse().unwrap()
}

fn hang_up(cluster: &Cluster, id: usize) {
    let id = cluster.process_id(id).to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

/// A follower takes a request, which the leader performs under the caller's token.
fn note_through(cluster: &Cluster, follower: usize) {
    let (status, answer) = cluster.post(follower, "/v1/cdr/adjustments/rerate", &rerating());
    assert_eq!(status, 202, "{answer}");
}

#[test]
fn replicas_talk_over_tls_with_certificates_that_are_exchanged_at_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    make_certificates(&tls);
    let bus = NatsServer::start();
    let door = Door::new();
    let edit = |text: &str| door.with(&with_tls(text, &tls), dir.path());
    let cluster = Cluster::start_edited(dir.path(), &bus.url(), edit);
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    note_through(&cluster, follower);

    // Who shows a certificate alone is vouched for by the replica that saw it.
    assert_eq!(door.rerate(follower, dir.path()), 202);
    let (status, audit) = cluster.get(follower, "/v1/cdr/audit");
    assert_eq!(status, 200, "{audit}");
    let told = |who: &str| -> Vec<String> {
        let rows = audit["items"].as_array().unwrap().iter().map(|row| row.to_string().replace('\\', ""));
        rows.filter(|row| row.contains("ADJUSTMENT_ISSUED") && row.contains(who)).collect()
    };
    let vouched = format!("\"vouchedByNode\":{follower}");
    assert!(told("inspector").iter().any(|row| row.contains(&vouched)), "{audit}");
    assert!(told("dev-operator").iter().all(|row| !row.contains("vouchedByNode")), "{audit}");
    for id in 1..=3 {
        assert!(cluster.metric(id, "cdr_raft_certificate_expires_at_seconds") > Some(1.0e9));
    }
    let refused = |id: usize, reason: &str| {
        cluster.metric(id, &format!("cdr_raft_refused_total{{reason=\"{reason}\"}}")).unwrap_or(-1.0)
    };
    let refused = |id: usize, reason: &str| refused(id, reason) as i64;
    assert_eq!(refused(leader, "noise"), 0);
    let mut stranger = TcpStream::connect(("127.0.0.1", raft_port(&cluster, leader))).unwrap();
    stranger.write_all(b"CDRRAFT\n and so on, in plain text").unwrap();
    wait_until("it is refused", 10, || refused(leader, "noise") == 1);

    // New certificates of another authority: first everybody believes both, then shows the new ones.
    let other = dir.path().join("other");
    make_certificates(&other);
    let authorities = ["tls", "other"]
        .map(|of| std::fs::read_to_string(dir.path().join(of).join("cluster-ca.pem")).unwrap());
    std::fs::write(tls.join("cluster-ca.pem"), authorities.concat()).unwrap();
    let recorded = |id: usize| cluster.log(id).matches("the ledger has the changed setting").count();
    (1..=3).for_each(|id| hang_up(&cluster, id));
    for id in 1..=3 {
        for kind in ["pem", "key"] {
            let name = format!("cluster-{id}.{kind}");
            std::fs::copy(other.join(&name), tls.join(&name)).unwrap();
        }
        hang_up(&cluster, id);
        wait_until("the exchange is recorded", 30, || recorded(id) == 1);
        note_through(&cluster, follower);
    }
    // Files that can't be used change nothing.
    std::fs::write(tls.join("cluster-1.pem"), "nothing").unwrap();
    hang_up(&cluster, 1);
    wait_until("the complaint", 10, || {
        cluster.log(1).contains("the certificates between replicas can't be used; those in use stay")
    });
    note_through(&cluster, follower);
}
