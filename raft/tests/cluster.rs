//! Nodes in one process, over TCP: replication, elections, snapshots, reads, failures.

use crate::common::cluster::{Cluster, eventually};
use cdr_raft::{AdminError, Leadership, Node, NodeConfig, ProposeError, ReadError, Reply, StartError};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn usual(_: &mut NodeConfig) {}

/// The time-outs that are shipped, instead of the shorter ones of other tests.
fn shipped(config: &mut NodeConfig) {
    let peers = config.peers.clone();
    let usual = NodeConfig::new(1, "shipped", "unused", config.listen, peers, config.clock.clone());
    config.heartbeat_ms = usual.heartbeat_ms;
    config.election_min_ms = usual.election_min_ms;
    config.election_max_ms = usual.election_max_ms;
}

/// A replica leads for three times as long as a lease lasts, idle, and says so of itself.
async fn leads_on(node: &Node) {
    let mut leadership = node.leadership();
    assert!(matches!(&*leadership.borrow_and_update(), Leadership::Leader { .. }), "{leadership:?}");
    assert!(
        tokio::time::timeout(Duration::from_secs(6), leadership.changed()).await.is_err(),
        "{leadership:?}"
    );
    let metrics = node.metrics();
    assert_eq!(
        (metrics.leads, metrics.leader, metrics.state.as_str()),
        (true, Some(node.node_id()), "Leader")
    );
    assert_eq!(metrics.quorum_acked_ms_ago, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_replica_alone_leads_for_good() {
    let mut cluster = Cluster::start(1, shipped).await;
    cluster.propose("one").await;
    leads_on(cluster.node(1)).await;
    cluster.node(1).propose("two".into()).await.unwrap();
    cluster.stop(1).await;
    cluster.restart(1).await.unwrap();
    cluster.leader().await;
    leads_on(cluster.node(1)).await;
    cluster.node(1).propose("three".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_voter_of_a_cluster_leads_for_good() {
    let mut cluster = Cluster::start(3, shipped).await;
    let leader = cluster.leader().await;
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.node(leader).remove(id).await.unwrap();
        cluster.stop(id).await;
    }
    leads_on(cluster.node(leader)).await;
    cluster.node(leader).propose("alone".into()).await.unwrap();
}

fn sequence(reply: &Reply) -> u64 {
    let Reply::Appended { first_sequence, .. } = reply else { panic!("{reply:?}") };
    *first_sequence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_are_replicated_in_order_and_survive_the_leader() {
    let mut cluster = Cluster::start(3, usual).await;
    for number in 0..20_u64 {
        let committed = cluster.propose(number.to_be_bytes().to_vec()).await;
        assert_eq!(sequence(&committed.reply), number);
    }
    let old = cluster.leader().await;
    let old_term = cluster.node(old).term();
    cluster.stop(old).await;

    let new = cluster.leader().await;
    assert_ne!(new, old);
    let committed = cluster.propose(20_u64.to_be_bytes().to_vec()).await;
    assert_eq!(sequence(&committed.reply), 20);
    assert!(committed.term > old_term);

    cluster.restart(old).await.unwrap();
    cluster.converge(committed.index).await;
    let commands = cluster.replicas[&old].machine.state().commands;
    let expected: Vec<Vec<u8>> = (0..=20_u64).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(commands, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_replicas_stopped_at_once_lose_nothing() {
    let mut cluster = Cluster::start(3, usual).await;
    let mut last = 0;
    for number in 0..50_u64 {
        last = cluster.propose(vec![number as u8; 3000]).await.index;
    }
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await.unwrap();
    }
    let committed = cluster.propose("after").await;
    assert_eq!(sequence(&committed.reply), 50);
    assert!(committed.index > last);
    cluster.converge(committed.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_names_the_leader_and_reads_what_the_leader_acknowledged() {
    let cluster = Cluster::start(3, usual).await;
    let leader = cluster.leader().await;
    let follower = cluster.running().map(|replica| replica.id).find(|id| *id != leader).unwrap();
    eventually("the follower knows the leader", || cluster.node(follower).leader()).await;
    let refused = cluster.node(follower).propose("no".into()).await;
    assert_eq!(
        refused,
        Err(ProposeError::NotLeader { leader: Some((leader, cluster.peers[&leader].clone())) })
    );
    let refused = cluster.node(follower).add_learner(9, "127.0.0.1:1").await;
    assert!(matches!(refused, Err(AdminError::NotLeader { .. })), "{refused:?}");

    for number in 0..50_u64 {
        let committed = cluster.propose(vec![1; 100]).await;
        for id in [follower, leader] {
            let applied = cluster.node(id).read_barrier().await.unwrap();
            assert!(applied >= committed.index);
            assert_eq!(cluster.replicas[&id].machine.len() as u64, number + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_without_a_quorum_stops_leading_and_reading() {
    let mut cluster = Cluster::start(3, |config| {
        config.read_timeout_ms = 1000;
        config.leader_wait_ms = 500;
        config.propose_timeout_ms = 1500;
    })
    .await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = cluster.running().map(|replica| replica.id).filter(|id| *id != leader).collect();
    for id in &others {
        cluster.stop(*id).await;
    }
    let leadership = cluster.node(leader).leadership();
    let follows = || matches!(&*leadership.borrow(), Leadership::Follower { .. }).then_some(());
    eventually("the lease ends", follows).await;
    let says_so = || {
        let (metrics, named) = (cluster.node(leader).metrics(), cluster.node(leader).leader());
        let nobody = !metrics.leads && metrics.leader.is_none() && named.is_none();
        (nobody && metrics.is_unconfirmed() && metrics.replication_lag.is_empty()).then_some(metrics.failure)
    };
    assert_eq!(eventually("it says so", says_so).await, None);
    let read = cluster.node(leader).read_barrier().await;
    assert!(matches!(read, Err(ReadError::Unavailable { .. })), "{read:?}");
    let refused = cluster.node(leader).propose("no quorum".into()).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");

    cluster.restart(others[0]).await.unwrap();
    cluster.propose("quorum again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_learner_catches_up_by_snapshot_and_becomes_a_voter() {
    let mut cluster = Cluster::start(3, |config| {
        config.snapshot_every_entries = 100;
        config.log_keep_entries = 5;
    })
    .await;
    for number in 0..350_u64 {
        cluster.propose(vec![number as u8; 20_000]).await;
    }
    let leader = cluster.leader().await;
    for replica in cluster.running() {
        let node = replica.node.as_ref().unwrap();
        eventually("the log is purged", || (node.metrics().purged_index > 250).then_some(())).await;
        assert!(node.metrics().log_entries < 110);
    }
    let address = cluster.start_stranger(4).await;
    cluster.node(leader).add_learner(4, &address).await.unwrap();
    let index = cluster.propose("with a learner").await.index;
    cluster.converge(index).await;
    // A log is purged some time after its snapshot is installed.
    let by_snapshot = || (cluster.node(4).metrics().purged_index > 250).then_some(());
    eventually("it came by snapshot", by_snapshot).await;
    assert_eq!(cluster.replicas[&4].machine.len(), 351);

    let leader = cluster.leader().await;
    cluster.node(leader).promote(4).await.unwrap();
    let voters = || cluster.node(leader).metrics().voters.into_keys().collect::<BTreeSet<_>>();
    eventually("four voters", || (voters() == BTreeSet::from([1, 2, 3, 4])).then_some(())).await;
    let leaving = (1..=3).find(|id| *id != leader).unwrap();
    cluster.node(leader).remove(leaving).await.unwrap();
    cluster.stop(leaving).await;
    let index = cluster.propose("without one").await.index;
    cluster.converge(index).await;

    // What a snapshot brought is still there after a restart.
    cluster.stop(4).await;
    cluster.restart(4).await.unwrap();
    cluster.converge(cluster.propose("again").await.index).await;
}

/// Snapshots in quick succession, and a short log behind them.
fn snapshots(config: &mut NodeConfig) {
    config.snapshot_every_entries = 50;
    config.log_keep_entries = 2;
}

/// Stops a follower until the others have purged what it lacks; which one.
async fn leave_behind(cluster: &mut Cluster) -> u64 {
    cluster.propose("before").await;
    let leader = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(away).await;
    for number in 0..200_u64 {
        cluster.propose(vec![number as u8; 1000]).await;
    }
    let node = cluster.node(cluster.leader().await);
    eventually("the log is purged", || (node.metrics().purged_index > 100).then_some(())).await;
    away
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, snapshots).await;
    let away = leave_behind(&mut cluster).await;
    cluster.restart(away).await.unwrap();
    cluster.converge(cluster.propose("back").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_does_not_fit_is_refused_before_anything_is_written() {
    let mut cluster = Cluster::start(3, snapshots).await;
    let away = leave_behind(&mut cluster).await;

    // No disk has so much to spare.
    cluster.adjust = |config| {
        snapshots(config);
        config.min_free_bytes = 1 << 60;
    };
    cluster.restart(away).await.unwrap();
    let refused = || {
        let counts = cluster.node(away).metrics().refused_peers;
        counts.into_iter().find(|(reason, count)| *reason == "no_space" && *count >= 2)
    };
    eventually("it is refused, and offered again", refused).await;
    let incoming = std::fs::read_dir(cluster.data_dir(away).join("snapshots")).unwrap().count();
    assert_eq!((incoming, cluster.node(away).failure()), (0, None));
    cluster.stop(away).await;
    cluster.adjust = snapshots;
    cluster.restart(away).await.unwrap();
    cluster.converge(cluster.propose("back").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start(3, usual).await;
    cluster.propose("one").await;
    let first = cluster.leader().await;
    let to = (1..=3).find(|id| *id != first).unwrap();
    cluster.node(first).transfer_leader(to).await.unwrap();
    let leads = |id: u64| matches!(&*cluster.node(id).leadership().borrow(), Leadership::Leader { .. });
    eventually("the transfer", || leads(to).then_some(())).await;
    cluster.propose("two").await;
    cluster.node(to).step_down().await.unwrap();
    eventually("it steps down", || (!leads(to)).then_some(())).await;
    cluster.propose("three").await;
    assert!(cluster.node(first).transfer_leader(99).await.is_err());
}

/// True for a node whose metrics say that it has stopped, why, and that nobody leads as far as it knows.
fn is_over(node: &Node) -> bool {
    let metrics = node.metrics();
    metrics.failure.is_some()
        && (metrics.leads, metrics.leader, metrics.state.as_str()) == (false, None, "Shutdown")
        && node.leader().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_state_machine_stops_its_node_and_only_it() {
    let cluster = Cluster::start(3, usual).await;
    cluster.propose("one").await;
    let leader = cluster.leader().await;
    cluster.replicas[&leader].machine.broken.store(true, Ordering::Relaxed);
    let failed = cluster.node(leader).propose("two".into()).await;
    assert!(matches!(failed, Err(ProposeError::Stopped { .. } | ProposeError::Unknown { .. })), "{failed:?}");
    let leadership = cluster.node(leader).leadership();
    let reason = eventually("it says so", || match &*leadership.borrow() {
        Leadership::Stopped { reason } => Some(reason.clone()),
        _ => None,
    })
    .await;
    assert!(reason.contains("broken on purpose"), "{reason}");
    assert!(matches!(cluster.node(leader).read_barrier().await, Err(ReadError::Stopped { .. })));
    eventually("its metrics say so", || is_over(cluster.node(leader)).then_some(())).await;

    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let new = eventually("another leader", || {
        let leads =
            |id: &&u64| matches!(&*cluster.node(**id).leadership().borrow(), Leadership::Leader { .. });
        others.iter().find(leads).copied()
    })
    .await;
    cluster.node(new).propose("three".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_was_shut_down_says_that_it_has_stopped() {
    let cluster = Cluster::start(1, usual).await;
    cluster.leader().await;
    cluster.node(1).shutdown().await;
    let stopped = || matches!(&*cluster.node(1).leadership().borrow(), Leadership::Stopped { .. });
    eventually("it says so", || (stopped() && is_over(cluster.node(1))).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_lost_synced_entries_does_not_come_back() {
    let mut cluster = Cluster::start(3, usual).await;
    for _ in 0..10 {
        cluster.propose(vec![7; 500]).await;
    }
    let leader = cluster.leader().await;
    let victim = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(victim).await;
    let segment = cluster.log_dir(victim).join("00000000000000000001.log");
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(2000).unwrap();
    let Err(error) = cluster.restart(victim).await else { panic!("it started") };
    assert!(matches!(error, StartError::Amnesia(_)), "{error}");
    assert!(error.to_string().contains("new node id"), "{error}");

    // It comes back as the message says: without its data, under a new id, as a learner.
    let address = cluster.start_stranger(4).await;
    cluster.node(leader).add_learner(4, &address).await.unwrap();
    cluster.node(leader).promote(4).await.unwrap();
    cluster.node(leader).remove(victim).await.unwrap();
    cluster.converge(cluster.propose("with the new one").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_log_is_gone_but_whose_state_is_not_does_not_start() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("one").await.index).await;
    cdr_raft::Machine::flush(&*cluster.replicas[&2].machine).unwrap();
    cluster.stop(2).await;
    std::fs::remove_dir_all(cluster.log_dir(2)).unwrap();
    assert!(matches!(cluster.restart(2).await, Err(StartError::Amnesia(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restricted_node_takes_no_commands_until_it_is_lifted() {
    let cluster = Cluster::start(1, usual).await;
    cluster.propose("one").await;
    let node = cluster.node(1);
    node.restrict("maintenance");
    assert!(matches!(node.propose("two".into()).await, Err(ProposeError::Restricted { .. })));
    node.unrestrict();
    node.propose("three".into()).await.unwrap();
    assert!(matches!(node.propose(vec![0; (16 << 20) + 1].into()).await, Err(ProposeError::TooLarge { .. })));
}

/// Three replicas of which node 1 leads.
async fn led_by_the_first(adjust: fn(&mut NodeConfig)) -> Cluster {
    let cluster = Cluster::start(3, adjust).await;
    let leader = cluster.leader().await;
    if leader != 1 {
        cluster.node(leader).transfer_leader(1).await.unwrap();
        eventually("the transfer", || cluster.node(1).leads().then_some(())).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_space_commands_are_refused_before_the_log_and_reads_go_on() {
    let cluster = led_by_the_first(|config| config.min_free_bytes = u64::MAX).await;
    let restricted = |id: u64| cluster.node(id).restriction();
    for id in 1..=3 {
        let reason = eventually("the restriction", || restricted(id)).await;
        assert!(
            reason.contains("too little space for more commands") && reason.contains("node-"),
            "{reason}"
        );
    }
    let last = cluster.node(1).metrics().last_log_index;
    let refused = cluster.node(1).propose("no".into()).await;
    assert!(matches!(refused, Err(ProposeError::Restricted { .. })), "{refused:?}");
    // Nobody has more space, so nobody else leads, and all of them read.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!cluster.node(1).hand_over().await.unwrap());
    for id in 1..=3 {
        assert!(cluster.node(id).read_barrier().await.unwrap() >= last);
    }
    assert!(cluster.node(1).leads());
    assert_eq!(cluster.node(1).metrics().last_log_index, last, "nothing got into the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_with_space_takes_commands_for_a_quorum_that_has_it() {
    let two_full = led_by_the_first(|config| {
        config.min_free_bytes = if config.node_id == 1 { 0 } else { u64::MAX };
    })
    .await;
    let reason = eventually("the restriction", || two_full.node(1).restriction()).await;
    assert!(reason.contains("nodes 2, 3 are short of it"), "{reason}");
    assert!(!two_full.node(1).hand_over().await.unwrap(), "to whom?");
    two_full.node(1).read_barrier().await.unwrap();

    let one_full = led_by_the_first(|config| {
        config.min_free_bytes = if config.node_id == 3 { u64::MAX } else { 0 };
    })
    .await;
    // Until it knows of somebody else with space, no command would be committed by a quorum that has it.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = one_full.node(1).propose("two of three".into()).await {
        assert!(matches!(error, ProposeError::Restricted { .. }) && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!one_full.node(1).hand_over().await.unwrap(), "it takes commands itself");
    one_full.node(1).restrict("maintenance");
    let handed = eventually("another one that takes commands is known", || {
        futures::executor::block_on(one_full.node(1).hand_over()).unwrap().then_some(())
    });
    handed.await;
    eventually("node 2 leads", || one_full.node(2).leads().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_clock_of_a_replica_that_is_ahead_is_found_out() {
    let cluster = Cluster::start(3, |config| {
        if config.node_id == 2 {
            let clock = config.clock.clone();
            config.clock = std::sync::Arc::new(move || clock() + 7_200_000);
        }
    })
    .await;
    cluster.converge(cluster.propose("members are known").await.index).await;
    for (id, ahead) in [(2, 7_200_000), (1, 0), (3, 0)] {
        // An answer that took long says little.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let offset = cluster.node(id).clock_offset_ms().await.unwrap();
            if (offset - ahead).abs() < 1_000 {
                break;
            }
            assert!(Instant::now() < deadline, "node {id}: {offset}");
        }
    }
}
