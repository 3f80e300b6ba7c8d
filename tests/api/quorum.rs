//! Three replicas, of which two stop: what the third one still answers.

use crate::api::service::{Answer, Bounds, Started, agent, cdr_id, fill, read, start_replica};
use cdr_mediation::acts::{Act, ActError, Origin, Wish};
use cdr_mediation::auth::Proof;
use cdr_mediation::auth::dev::DevIssuer;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

struct Three {
    replicas: Vec<Started>,
    agent: ureq::Agent,
    token: String,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Three {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let replicas = runtime.block_on(async {
            let mut listeners = Vec::new();
            for _ in 0..3 {
                listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
            }
            let peers: BTreeMap<u64, String> = (1..)
                .zip(&listeners)
                .map(|(id, raft)| (id, raft.local_addr().unwrap().to_string()))
                .collect();
            let mut replicas = Vec::new();
            for (id, raft) in (1..).zip(listeners) {
                let own = dir.path().join(format!("node-{id}"));
                replicas.push(start_replica(&own, &issuer, id, raft, peers.clone(), Bounds::default()).await);
            }
            replicas[0].node.initialize().await.unwrap();
            replicas
        });
        let token = issuer.token("tester", &["cdr:read", "cdr:write"], 600).unwrap();
        Self { replicas, agent: agent(), token, runtime, dir }
    }

    fn post(&self, at: usize, path: &str, body: &str) -> Answer {
        let url = format!("http://{}{path}", self.replicas[at].api);
        let request = self.agent.post(&url).header("Authorization", format!("Bearer {}", self.token));
        read(request.send(body.as_bytes()))
    }

    fn get(&self, at: usize, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.replicas[at].api);
        read(self.agent.get(&url).header("Authorization", format!("Bearer {}", self.token)).call())
    }

    /// Which replica leads.
    fn leader(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let known = self.replicas.iter().find_map(|replica| replica.node.leader());
            if let Some((id, _)) = known
                && self.get(id as usize - 1, "/v1/cdr/keys").status == 200
            {
                return id as usize - 1;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A figure of `/metrics` without labels.
    fn figure(&self, at: usize, name: &str) -> Option<f64> {
        let text = self.get(at, "/metrics").text;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    fn stop(&self, at: usize) {
        self.runtime.block_on(self.replicas[at].node.shutdown());
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_a_stale_answer(answer: &Answer, node: usize) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cdr-node"], (node + 1).to_string());
    assert!(answer.headers["cdr-applied-index"].parse::<u64>().unwrap() >= 1, "{answer:?}");
}

#[test]
fn without_a_quorum_only_stale_reads_are_answered() {
    let three = Three::start();
    let leader = three.leader();
    for at in 0..3 {
        let answer = three.get(at, "/v1/cdr/keys");
        is_a_stale_answer(&answer, at);
        assert_eq!(three.get(at, "/health/ready").status, 200);
    }
    let survivor = (leader + 1) % 3;
    let other = (leader + 2) % 3;
    three.stop(other);
    until("a quorum of two", || three.get(survivor, "/v1/cdr/keys").status == 200);
    three.stop(leader);
    let answer = three.get(survivor, "/v1/cdr/keys");
    assert_eq!((answer.status, answer.code()), (503, "NOT_LEADER"), "{answer:?}");
    let details = answer.body["error"]["details"].as_object().unwrap();
    assert!(details["leader"].is_null() || details["leader"]["address"].is_string(), "{answer:?}");
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("consistency=stale"));
    assert_eq!(answer.headers["cdr-node"], (survivor + 1).to_string());
    assert!(answer.headers.contains_key("cdr-applied-index"));
    for path in ["/v1/cdr/records", "/v1/cdr/rollups", "/v1/cdr/keys"] {
        is_a_stale_answer(&three.get(survivor, &format!("{path}?consistency=stale")), survivor);
    }
    let body = json!({"type": "VOID", "voidReason": "FRAUD", "ticketId": "T"});
    let answer = three.post(survivor, &format!("/v1/cdr/{}/adjustments", cdr_id(1)), &body.to_string());
    assert_eq!((answer.status, answer.code()), (503, "NOT_LEADER"), "{answer:?}");
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("Idempotency-Key"), "{answer:?}");
    let stale = three.get(survivor, "/v1/cdr/keys?consistency=stale");
    assert_eq!(stale.body, json!({"items": [], "total": 0}));
    until("that it is not ready without a quorum", || {
        let ready = three.get(survivor, "/health/ready");
        (ready.status, &ready.body["checks"]["quorum"]["status"]) == (503, &json!("down"))
    });
    assert_eq!(three.get(survivor, "/health/live").status, 200);
}

#[test]
fn a_leader_that_lost_its_quorum_confirms_nothing() {
    let three = Three::start();
    let leader = three.leader();
    (0..3).filter(|at| *at != leader).for_each(|at| three.stop(at));
    let deadline = Instant::now() + Duration::from_secs(20);
    // Its lease may outlive the others by an election's time-out.
    loop {
        let answer = three.get(leader, "/v1/cdr/keys");
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code()), (503, "NOT_LEADER"), "{answer:?}");
            break;
        }
        assert!(Instant::now() < deadline, "it still confirms reads without a quorum");
        std::thread::sleep(Duration::from_millis(100));
    }
    is_a_stale_answer(&three.get(leader, "/v1/cdr/keys?consistency=stale"), leader);
    // It neither names itself nor counts as the leader.
    let answer = three.get(leader, "/v1/cdr/keys");
    assert_eq!(answer.body["error"]["details"]["leader"], json!(null), "{answer:?}");
    let ready = three.get(leader, "/health/ready");
    assert_eq!((ready.status, &ready.body["checks"]["quorum"]["status"]), (503, &json!("down")), "{ready:?}");
    assert_eq!((&ready.body["role"], &ready.body["leader"]), (&json!("Unconfirmed"), &json!(null)));
    assert_eq!(ready.body["openHour"], json!(null), "it has no ledger, and none of 1970");
    assert_eq!(three.figure(leader, "cdr_raft_is_leader"), Some(0.0));
    assert_eq!(three.figure(leader, "cdr_node_poisoned"), Some(0.0));
    assert_eq!(three.figure(leader, "cdr_bucket_seal_overdue"), None, "no hour is told without a ledger");
    assert_eq!(three.figure(leader, "cdr_last_recorded_at_ms"), None);
}

#[test]
fn a_stopped_leader_says_that_it_has_stopped() {
    let three = Three::start();
    let leader = three.leader();
    let leads = || three.figure(leader, "cdr_raft_is_leader");
    until("it leads", || leads() == Some(1.0));
    three.stop(leader);
    assert_eq!((leads(), three.figure(leader, "cdr_node_poisoned")), (Some(0.0), Some(1.0)));
    let ready = three.get(leader, "/health/ready");
    assert_eq!(
        (ready.status, &ready.body["role"], &ready.body["leader"]),
        (503, &json!("Shutdown"), &json!(null))
    );
    assert_eq!(ready.body["checks"]["storage"]["status"], "down", "{ready:?}");
    let others = || (0..3).filter(|at| *at != leader).filter_map(|at| three.figure(at, "cdr_raft_is_leader"));
    until("another one leads", || others().any(|leads| leads > 0.0));
}

#[test]
fn replicas_are_of_one_mind_about_cursors_and_bodies() {
    let three = Three::start();
    let leader = &three.replicas[three.leader()];
    three.runtime.block_on(fill(&leader.node, &leader.store, three.dir.path()));
    let first = three.get(0, "/v1/cdr/records?limit=5");
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let pages: Vec<_> =
        (0..3).map(|at| three.get(at, &format!("/v1/cdr/records?limit=5&cursor={cursor}"))).collect();
    let behind = first.items()[4]["cdrSequence"].as_u64().unwrap() + 1;
    assert_eq!((pages[0].items().len(), pages[0].items()[0]["cdrSequence"].as_u64()), (5, Some(behind)));
    assert!(pages.iter().all(|page| page.items() == pages[0].items()), "{pages:?}");
    let path = format!("/v1/cdr/{}/adjustments", cdr_id(1));
    for depth in [32, 125] {
        let fields = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!(
            r#"{{"type":"CORRECTION","reason":"x","ticketId":"T","correctedFields":{{"imsi":{fields}}}}}"#
        );
        for at in 0..3 {
            let answer = three.post(at, &path, &body);
            assert_eq!((answer.status, answer.field()), (400, "body"), "{depth} at {at}: {answer:?}");
        }
    }
}

#[test]
fn what_is_handed_to_the_leader_must_prove_its_origin() {
    let three = Three::start();
    let leader = three.leader();
    let open = three.runtime.block_on(three.replicas[leader].open_desk());
    let follower = &three.replicas[(leader + 1) % 3].node;
    let ask = |origin: Origin| {
        let act = Act {
            wish: Wish::Void { cdr_id: cdr_id(1), void_reason: "FRAUD".to_owned() },
            actor: "tester".to_owned(),
            approver: None,
            reason: None,
            ticket_id: Some("T".to_owned()),
            trace_id: "t".to_owned(),
            key: [1; 32],
            body: [2; 32],
            origin,
        };
        let question = serde_json::to_vec(&act).unwrap();
        let answer = three.runtime.block_on(follower.ask_leader(question, Duration::from_secs(10))).unwrap();
        serde_json::from_slice::<Result<String, ActError>>(&answer).unwrap().unwrap_err()
    };
    let by = |authorization: &str| {
        Origin::Caller(Proof { authorization: Some(authorization.to_owned()), ..Proof::default() })
    };
    for invented in [Origin::Replica, Origin::Caller(Proof::default()), by("Bearer invented")] {
        let refused = ask(invented.clone());
        assert!(matches!(refused, ActError::Unauthenticated(_)), "{invented:?}: {refused:?}");
    }
    let believed = ask(by(&format!("Bearer {}", three.token)));
    assert!(matches!(believed, ActError::NotFound { .. }), "{believed:?}");
    drop(open);
}
