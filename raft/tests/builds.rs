//! Replicas of different builds: who may join, what holds rules back, and which snapshots are refused.

use crate::common::cluster::{Cluster, eventually};
use cdr_core::rules::{Build, Rules};
use cdr_raft::NodeConfig;

/// Snapshots in quick succession, and a short log behind them.
fn snapshots(config: &mut NodeConfig) {
    config.snapshot_every_entries = 50;
    config.log_keep_entries = 2;
}

fn set(cluster: &Cluster, id: u64, build: Build, rules: Rules) {
    *cluster.replicas[&id].machine.versions.lock().unwrap() = (build, rules);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_of_later_rules_stops_a_build_that_does_not_know_them_and_replaces_nothing() {
    let mut cluster = Cluster::start(3, snapshots).await;
    cluster.propose("before").await;
    let leader = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(away).await;
    (1..=3).filter(|id| *id != away).for_each(|id| set(&cluster, id, Build::NEXT, Rules::TEST_ONLY));
    for number in 0..200_u64 {
        cluster.propose(vec![number as u8; 1000]).await;
    }
    let node = cluster.node(cluster.leader().await);
    eventually("the log is purged", || (node.metrics().purged_index > 100).then_some(())).await;

    cluster.restart(away).await.unwrap();
    let reason = eventually("it stops", || cluster.node(away).failure()).await;
    assert!(reason.contains("rules version 2, which needs build 0.2.0: this is build 0.1.0"), "{reason}");
    assert!(cluster.replicas[&away].machine.len() <= 1, "nothing is replaced");
    let counts = cluster.node(away).metrics().refused_peers;
    assert!(counts.iter().any(|(reason, count)| *reason == "build" && *count > 0), "{counts:?}");

    // The named build goes on from the same files.
    cluster.stop(away).await;
    set(&cluster, away, Build::NEXT, Rules::FIRST);
    cluster.restart(away).await.unwrap();
    cluster.converge(cluster.propose("back").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_wait_for_every_member_and_who_does_not_know_them_does_not_join() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    (1..=3).for_each(|id| set(&cluster, id, Build::NEXT, Rules::FIRST));
    cluster.propose("begin").await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader).clone();
    eventually("all have said so", || node.rules_obstacles(Rules::TEST_ONLY).is_empty().then_some(())).await;
    drop(node.keep_membership_for(Rules::TEST_ONLY).await.unwrap());

    let address = cluster.start_stranger(4).await;
    cluster.node(leader).add_learner(4, &address).await.unwrap();
    let held = "node 4 is build 0.1.0, which knows rules up to version 1, not 2";
    let told = || node.rules_obstacles(Rules::TEST_ONLY).contains(&held.to_owned()).then_some(());
    eventually("a learner that does not know them holds them back", told).await;
    let refused = node.keep_membership_for(Rules::TEST_ONLY).await.unwrap_err();
    assert!(refused.to_string().contains(held), "{refused}");

    // As if they had come into force nevertheless.
    (1..=3).for_each(|id| set(&cluster, id, Build::NEXT, Rules::TEST_ONLY));
    let refused = node.promote(4).await.unwrap_err().to_string();
    assert!(refused.contains(held), "{refused}");
    let address = cluster.start_stranger(5).await;
    let refused = node.add_learner(5, &address).await.unwrap_err().to_string();
    assert!(refused.contains("node 5 can't follow: rules version 2, which needs build 0.2.0"), "{refused}");
    set(&cluster, 5, Build::NEXT, Rules::FIRST);
    node.add_learner(5, &address).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_is_given_away_before_an_orderly_stop() {
    let cluster = Cluster::start(3, |_| ()).await;
    cluster.propose("begin").await;
    let leader = cluster.leader().await;
    cluster.node(leader).leave_leadership(crate::common::cluster::PATIENCE).await;
    assert_ne!(cluster.node(leader).metrics().leader, Some(leader));
    cluster.propose("goes on").await;
}
