//! Operators enter the replicated registry by rows, once.

use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::wait_until;

/// System rows that workers have appended: operators, keys, streams, price lists.
fn internal_rows(cluster: &Cluster, node: usize) -> Option<f64> {
    cluster.metric(node, "cdr_stream_position{stream=\"internal\"}")
}

#[test]
fn an_operator_added_to_the_configuration_joins_once() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    let all_have = |cluster: &Cluster, rows: f64| (1..=3).all(|id| internal_rows(cluster, id) == Some(rows));
    // Seven operators, a key and its name, a stream, a price list.
    wait_until("the first rows", 30, || all_have(&cluster, 11.0));
    cluster.add_configuration("[[operators.list]]\nid = \"NEWCO\"\nrecording_entity = \"4127701\"\n");
    for round in 0..2 {
        (1..=3).for_each(|id| cluster.kill(id));
        (1..=3).for_each(|id| cluster.restart(id));
        cluster.leader();
        wait_until(&format!("one more row, round {round}"), 30, || all_have(&cluster, 12.0));
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(all_have(&cluster, 12.0), "the operator joined twice");
}
