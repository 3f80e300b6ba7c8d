//! Data directories that are not the ones that the cluster knows: emptied, exchanged, older, of another history.

use crate::common::cluster::{Cluster, eventually};
use cdr_raft::{AdminError, Alarm, Grounds, Leadership, Machine, NodeConfig, ProposeError, StartError};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn usual(_: &mut NodeConfig) {}

/// Ten of the longest election time-outs of these clusters.
const ELECTIONS: Duration = Duration::from_secs(6);

fn leads(cluster: &Cluster, id: u64) -> bool {
    matches!(&*cluster.node(id).leadership().borrow(), Leadership::Leader { .. })
}

async fn alarm(cluster: &Cluster, at: u64, about: u64, grounds: Grounds) -> Alarm {
    let what = format!("node {at} has an alarm about node {about}: {grounds:?}");
    eventually(&what, || {
        cluster.node(at).alarms().into_iter().find(|alarm| alarm.node == about && alarm.grounds == grounds)
    })
    .await
}

fn report(cluster: &Cluster, id: u64) -> PathBuf {
    cluster.data_dir(id).join("LOST-COMMITS")
}

async fn stands_still(cluster: &Cluster, id: u64) {
    let why = || cluster.node(id).restriction().filter(|why| why.contains("LOST-COMMITS"));
    eventually("it takes no commands", why).await;
    assert!(report(cluster, id).exists());
    let refused = cluster.node(id).propose("no".into()).await;
    assert!(matches!(refused, Err(ProposeError::Restricted { .. })), "{refused:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wiped_replica_never_votes() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("all have this").await.index).await;
    cluster.stop(2).await;
    for number in 0..20_u64 {
        cluster.propose(number.to_be_bytes().to_vec()).await;
    }
    cluster.stop(1).await;
    cluster.stop(3).await;
    cluster.wipe(3);
    cluster.restart(2).await.unwrap();
    cluster.restart(3).await.unwrap();

    // Two of three are up, but the second never promised anything.
    for at in [2, 3] {
        let alarm = alarm(&cluster, at, 3, Grounds::Incarnation).await;
        assert!(alarm.reason.contains("under an id that was never used"), "{}", alarm.reason);
    }
    tokio::time::sleep(ELECTIONS).await;
    assert!(!leads(&cluster, 2) && !leads(&cluster, 3), "nobody leads");
    assert!(cluster.node(3).leader().is_none() && cluster.node(3).metrics().last_log_index == 0);

    // With the one that has them, everything acknowledged is there.
    cluster.restart(1).await.unwrap();
    let index = cluster.propose("after").await.index;
    for id in [1, 2] {
        let applies = || (cluster.node(id).applied_index() >= index).then_some(());
        eventually("it catches up", applies).await;
        assert_eq!(cluster.replicas[&id].machine.len(), 22);
    }
    assert_eq!(cluster.node(3).metrics().last_log_index, 0, "no entries either");
    alarm(&cluster, cluster.leader().await, 3, Grounds::Incarnation).await;

    // It comes back as the alarm says; the spent id does not.
    let address = cluster.start_stranger(4).await;
    let leader = cluster.leader().await;
    cluster.node(leader).add_learner(4, &address).await.unwrap();
    cluster.node(leader).promote(4).await.unwrap();
    cluster.node(leader).remove(3).await.unwrap();
    let spent = cluster.node(leader).add_learner(3, &cluster.peers[&3]).await;
    assert!(matches!(&spent, Err(AdminError::Refused(why)) if why.contains("never reused")), "{spent:?}");
    cluster.stop(3).await;
    cluster.converge(cluster.propose("with the new one").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_wiped_under_a_running_leader_is_told_so() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("one").await.index).await;
    let leader = cluster.leader().await;
    let wiped = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(wiped).await;
    cluster.wipe(wiped);
    cluster.restart(wiped).await.unwrap();
    cluster.propose("two").await;
    for at in [leader, wiped] {
        alarm(&cluster, at, wiped, Grounds::Incarnation).await;
    }
    assert_eq!(cluster.replicas[&wiped].machine.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_part_of_a_data_directory_without_the_other_is_amnesia() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("one").await.index).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    std::fs::remove_dir_all(cluster.log_dir(1)).unwrap();
    cluster.replicas[&2].machine.remove();
    std::fs::remove_dir_all(cluster.log_dir(3)).unwrap();
    copy(&cluster.log_dir(2), &cluster.log_dir(3));
    for (id, says) in
        [(1, "log was removed"), (2, "state was removed"), (3, "two different data directories")]
    {
        let Err(error) = cluster.restart(id).await else { panic!("node {id} started") };
        assert!(matches!(error, StartError::Amnesia(_)) && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_is_formed_by_one_replica_and_by_none_that_is_too_late() {
    let mut cluster = Cluster::start(1, usual).await;
    let stranger = cluster.start_stranger(2).await;
    let (one, two) = (cluster.peers[&1].clone(), stranger);
    cluster.peers = [(1, one), (2, two)].into();
    cluster.stop(2).await;
    cluster.restart(2).await.unwrap();
    let refused = cluster.node(2).initialize().await;
    assert!(
        matches!(&refused, Err(AdminError::Refused(why)) if why.contains("part of a cluster already")),
        "{refused:?}"
    );
    assert!(!cluster.node(1).initialize().await.unwrap(), "it began one before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_that_would_form_one_cluster_both_refuse() {
    let mut cluster = Cluster::start_unformed(2, usual).await;
    let waiting = {
        let node = cluster.node(1).clone();
        cluster.stop(2).await;
        tokio::spawn(async move { node.initialize().await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "it waits until all answer");
    let (start, second) = (cluster.restart(2).await, cluster.node(2).initialize());
    start.unwrap();
    let (first, second) = tokio::join!(waiting, second);
    let refused = |result: &Result<bool, AdminError>| matches!(result, Err(AdminError::Refused(_)));
    // Whoever asks first may not know of the other one; never do both begin it.
    assert!(refused(&first.unwrap()) || refused(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_copy_gets_no_vote_and_no_entries() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("in the copy").await.index).await;
    let leader = cluster.leader().await;
    let older = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(older).await;
    let kept = cluster.dir.path().join("kept");
    copy(&cluster.data_dir(older), &kept);
    let state = cluster.replicas[&older].machine.state();
    cluster.restart(older).await.unwrap();
    let index = cluster.propose("behind the copy").await.index;
    cluster.converge(index).await;
    cluster.stop(older).await;
    std::fs::remove_dir_all(cluster.data_dir(older)).unwrap();
    copy(&kept, &cluster.data_dir(older));
    cluster.replicas[&older].machine.restore(state);
    for id in (1..=3).filter(|id| *id != older) {
        cluster.replicas[&id].machine.acknowledged.lock().unwrap().insert(older, index);
    }
    cluster.restart(older).await.unwrap();
    for at in [leader, older] {
        alarm(&cluster, at, older, Grounds::OlderCopy).await;
    }
    assert!(cluster.node(older).applied_index() < index);

    // Where its own state knows, it does not even start.
    cluster.stop(older).await;
    cluster.replicas[&older].machine.acknowledged.lock().unwrap().insert(older, index);
    let Err(error) = cluster.restart(older).await else { panic!("it started") };
    assert!(matches!(&error, StartError::Amnesia(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_copy_that_is_found_while_it_follows_gets_no_more_entries() {
    let cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("all have this").await.index).await;
    let leader = cluster.leader().await;
    let older = (1..=3).find(|id| *id != leader).unwrap();
    let end = cluster.node(older).metrics().last_log_index;
    cluster.replicas[&leader].machine.acknowledged.lock().unwrap().insert(older, end + 100);
    for number in 0..5_u64 {
        cluster.propose(number.to_be_bytes().to_vec()).await;
    }
    alarm(&cluster, leader, older, Grounds::OlderCopy).await;
    assert_eq!(cluster.node(older).metrics().last_log_index, end, "not one entry after it was known");
    let counts = cluster.node(leader).metrics().refused_peers;
    assert!(counts.iter().any(|(reason, count)| *reason == "older_copy" && *count > 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_vote_of_an_older_copy_does_not_count_on_a_connection_that_stands() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("all have this").await.index).await;
    let first = cluster.leader().await;
    let (second, older) = (first % 3 + 1, (first + 1) % 3 + 1);
    cluster.node(older).allow_election(false);
    // The second leads for a while: its connections to the other two stand.
    cluster.node(first).transfer_leader(second).await.unwrap();
    eventually("the second leads", || leads(&cluster, second).then_some(())).await;
    let index = cluster.propose("under the second").await.index;
    cluster.converge(index).await;
    cluster.node(second).transfer_leader(first).await.unwrap();
    eventually("the first leads again", || leads(&cluster, first).then_some(())).await;
    cluster.replicas[&second].machine.acknowledged.lock().unwrap().insert(older, index + 100);
    cluster.stop(first).await;
    alarm(&cluster, second, older, Grounds::OlderCopy).await;
    tokio::time::sleep(ELECTIONS).await;
    assert!(!leads(&cluster, second), "it has one vote, its own");
    let term = cluster.node(second).term();

    // Somebody else's is enough.
    cluster.restart(first).await.unwrap();
    cluster.propose("with a quorum").await;
    assert!(cluster.node(second).term() >= term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn committed_entries_are_not_truncated_and_no_leader_goes_on() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("all have this").await.index).await;
    cluster.stop(3).await;
    let kept = cluster.dir.path().join("kept");
    copy(&cluster.data_dir(3), &kept);
    let state = cluster.replicas[&3].machine.state();
    for number in 0..20_u64 {
        cluster.propose(number.to_be_bytes().to_vec()).await;
    }
    // The only other replica that had them is replaced by an older copy, and nobody left knows better.
    for id in [1, 2] {
        Machine::flush(&*cluster.replicas[&id].machine).unwrap();
        cluster.stop(id).await;
    }
    let identity = Machine::identity(&*cluster.replicas[&2].machine).unwrap().unwrap();
    let old_log = cluster.log_dir(2);
    let own = std::fs::read(old_log.join("identity")).unwrap();
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    copy(&kept, &cluster.data_dir(2));
    std::fs::write(old_log.join("identity"), own).unwrap();
    cluster.replicas[&2].machine.restore(state);
    Machine::keep_identity(&*cluster.replicas[&2].machine, &identity).unwrap();
    cluster.restart(2).await.unwrap();
    cluster.restart(3).await.unwrap();
    for number in 0..5_u64 {
        cluster.propose(vec![number as u8; 50]).await;
    }

    cluster.restart(1).await.unwrap();
    let failure = eventually("it does not forget them", || cluster.node(1).failure()).await;
    assert!(failure.contains("SEV1 fork"), "{failure}");
    assert_eq!(cluster.replicas[&1].machine.len(), 21, "it has what was acknowledged");
    let leader = cluster.leader().await;
    let third = 5 - leader;
    alarm(&cluster, leader, 1, Grounds::LostCommits).await;
    stands_still(&cluster, leader).await;

    // It may stop: the report goes along with leadership, and nothing is committed between.
    cluster.stop(1).await;
    let before = cluster.replicas[&third].machine.len();
    cluster.node(leader).transfer_leader(third).await.unwrap();
    eventually("the third leads", || leads(&cluster, third).then_some(())).await;
    let refused = cluster.node(third).propose("no".into()).await;
    assert!(matches!(refused, Err(ProposeError::Restricted { .. })), "{refused:?}");
    alarm(&cluster, third, 1, Grounds::LostCommits).await;

    // No restart forgets it, and the one that refused says so again, whoever asks.
    for id in [leader, third] {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await.unwrap();
    }
    let failure = cluster.node(1).failure().unwrap();
    assert!(failure.contains("SEV1 fork"), "{failure}");
    for id in [leader, third] {
        stands_still(&cluster, id).await;
    }
    // As long as it runs, its report comes back to whoever leads.
    let leading = cluster.leader().await;
    std::fs::remove_file(report(&cluster, leading)).unwrap();
    eventually("it comes back", || report(&cluster, leading).exists().then_some(())).await;
    stands_still(&cluster, leading).await;

    // A person's decision ends it: those entries are given up, and node 1 with them.
    cluster.stop(1).await;
    for id in [leader, third] {
        let _ = std::fs::remove_file(report(&cluster, id));
    }
    for id in [leader, third] {
        let lifted = || cluster.node(id).restriction().is_none().then_some(());
        eventually("takes commands again", lifted).await;
    }
    cluster.converge(cluster.propose("goes on").await.index).await;
    assert_eq!(cluster.replicas[&third].machine.len(), before + 1);
    assert!(!report(&cluster, leader).exists() && !report(&cluster, third).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_with_another_history_stops_alone() {
    let mut cluster = Cluster::start(3, usual).await;
    cluster.converge(cluster.propose("one").await.index).await;
    let leader = cluster.leader().await;
    let odd = (1..=3).find(|id| *id != leader).unwrap();
    Machine::flush(&*cluster.replicas[&odd].machine).unwrap();
    cluster.stop(odd).await;
    cluster.replicas[&odd].machine.corrupt();
    cluster.restart(odd).await.unwrap();
    let reason = eventually("it stops", || cluster.node(odd).failure()).await;
    assert!(reason.contains("different histories"), "{reason}");
    cluster.propose("the others go on").await;
    assert!(!leads(&cluster, odd));
    for id in (1..=3).filter(|id| *id != odd) {
        assert_eq!(cluster.node(id).failure(), None, "node {id} stops, too");
    }
}
