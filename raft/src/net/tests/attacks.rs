//! What anybody who reaches the port could try.

use super::common::cluster::{Cluster, eventually};
use super::{Kind, ask, commits_go_on, greet, refused};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Far longer than a commit takes, far shorter than an election.
const SOON: Duration = Duration::from_secs(2);

fn blanks(vote: Vote, from: u64, count: u64) -> AppendEntriesRequest<TypeConfig> {
    let term = vote.leader_id.term;
    let entry = |index| Entry { log_id: LogId::new_term_index(term, index), payload: EntryPayload::Blank };
    AppendEntriesRequest {
        vote,
        prev_log_id: from.checked_sub(1).map(|before| LogId::new_term_index(term, before)),
        entries: (from..from + count).map(entry).collect(),
        leader_commit: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_leads_to_a_term_out_of_reach() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    cluster.propose("before").await;
    for to in 1..=3 {
        let from = to % 3 + 1;
        for term in [u64::MAX, u64::MAX - 1, 1 << 40] {
            let vote = VoteRequest::<TypeConfig>::new(Vote::new(term, from), None);
            for kind in [Kind::Vote, Kind::PreVote] {
                let answer = ask(&mut greet(&cluster, to, from).await, kind, &vote).await.unwrap();
                assert_eq!(answer.kind, Kind::Failed);
            }
            let led = Vote::new_committed(term, from);
            let heartbeat = blanks(led, 0, 0);
            let transfer = TransferLeaderRequest::<TypeConfig>::new(led, to, None);
            let answer = ask(&mut greet(&cluster, to, from).await, Kind::Append, &heartbeat).await.unwrap();
            assert_eq!(answer.kind, Kind::Failed);
            let answer =
                ask(&mut greet(&cluster, to, from).await, Kind::TransferLeader, &transfer).await.unwrap();
            assert_eq!(answer.kind, Kind::Failed);
            let mut stream = greet(&cluster, to, from).await;
            super::send(&mut stream, Kind::OpenStream, &()).await.unwrap();
            let answer = ask(&mut stream, Kind::Append, &heartbeat).await.unwrap();
            assert_eq!(answer.kind, Kind::Failed);
        }
        assert_eq!(refused(&cluster, to, "out_of_bounds"), 15);
        assert!(cluster.node(to).term() < 100);
    }
    commits_go_on(&cluster, 5, SOON).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await.unwrap();
    }
    cluster.converge(cluster.propose("after").await.index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_come_from_the_leader_and_replace_nothing_that_is_committed() {
    let cluster = Cluster::start(3, |_| {}).await;
    for number in 0..40_u8 {
        cluster.propose(vec![number]).await;
    }
    cluster.converge(cluster.propose("known to all").await.index).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).term();
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let (victim, other) = (followers[0], followers[1]);
    for (from, named, reason) in
        [(other, leader, "impostor"), (leader, other, "impostor"), (other, other, "fork")]
    {
        let before = refused(&cluster, victim, reason);
        let mut stream = greet(&cluster, victim, from).await;
        super::send(&mut stream, Kind::OpenStream, &()).await.unwrap();
        // Terms of another leader, so that the entries differ from what is there.
        let forged = blanks(Vote::new_committed(term + 1, named), 0, 30);
        let answer = ask(&mut stream, Kind::Append, &forged).await.unwrap();
        assert_eq!(answer.kind, Kind::Failed, "node {from} in the name of {named}");
        assert_eq!(refused(&cluster, victim, reason), before + 1);
    }
    cluster.converge(cluster.propose("after").await.index).await;
    commits_go_on(&cluster, 5, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_copy_gets_no_vote_on_a_connection_that_stands() {
    let cluster = Cluster::start(3, |_| {}).await;
    cluster.converge(cluster.propose("before").await.index).await;
    let (leader, term) = (cluster.leader().await, cluster.node(cluster.leader().await).term());
    let (voter, candidate) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let end = cluster.node(candidate).metrics().last_log_index;
    let last = LogId::new_term_index(term, end);
    let request = VoteRequest::<TypeConfig>::new(Vote::new(term + 1, candidate), Some(last));
    let mut stands = greet(&cluster, voter, candidate).await;
    assert_eq!(ask(&mut stands, Kind::PreVote, &request).await.unwrap().kind, Kind::Answer);
    // Only now does the voter learn how much the candidate had acknowledged.
    cluster.replicas[&voter].machine.acknowledged.lock().unwrap().insert(candidate, end + 1);
    let answer = ask(&mut stands, Kind::PreVote, &request).await.unwrap();
    assert_eq!(answer.kind, Kind::Failed);
    assert_eq!((refused(&cluster, voter, "log_end"), refused(&cluster, voter, "older_copy")), (1, 0));
    assert!(ask(&mut stands, Kind::PreVote, &request).await.is_none(), "the connection ended");
    let mut again = TcpStream::connect(cluster.node(voter).local_addr()).await.unwrap();
    let roster = cluster.node(candidate).roster();
    let declined = super::introduce(&mut again, "test", roster, voter).await.unwrap().unwrap_err();
    assert!(!declined.here && declined.refusal.reason.contains("older copy"), "{}", declined.refusal);
    assert_eq!(refused(&cluster, voter, "older_copy"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn idle_connections_keep_nobody_out() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    cluster.propose("before").await;
    let (leader, term) = (cluster.leader().await, cluster.node(cluster.leader().await).term());
    let mut idle = Vec::new();
    for to in 1..=3 {
        for number in 0..300 {
            // In the name of a member, the leader's among them, and in names that nobody knows.
            let from = if number % 2 == 0 { to % 3 + 1 } else { 99 };
            idle.push(greet(&cluster, to, from).await);
            idle.push(TcpStream::connect(cluster.node(to).local_addr()).await.unwrap());
        }
    }
    commits_go_on(&cluster, 50, SOON).await;
    let away = leader % 3 + 1;
    cluster.stop(away).await;
    commits_go_on(&cluster, 5, SOON).await;
    cluster.restart(away).await.unwrap();
    cluster.converge(cluster.propose("everybody is back").await.index).await;
    assert_eq!(cluster.node(leader).term(), term, "nobody has stood for election");
    drop(idle);
}

/// Memory that this process holds, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_sent_by_halves_take_little_memory() {
    let cluster = Cluster::start(3, |_| {}).await;
    cluster.propose("before").await;
    let begun = {
        // An append of 19 MiB, of which 4 MiB come.
        let mut frame = (19_u32 << 20).to_le_bytes().to_vec();
        frame.push(Kind::Append as u8);
        frame.resize(4 << 20, 0);
        frame
    };
    let begun: &'static [u8] = begun.leak();
    let before = resident();
    let mut half = Vec::new();
    for number in 0..200 {
        let to = number % 3 + 1;
        let mut stream = greet(&cluster, to, to % 3 + 1).await;
        half.push(tokio::spawn(async move {
            super::send(&mut stream, Kind::OpenStream, &()).await?;
            // What does not fit into the connection's buffers waits until it is closed.
            stream.write_all(begun).await?;
            std::future::pending::<std::io::Result<()>>().await
        }));
        if number % 50 == 49 {
            commits_go_on(&cluster, 5, SOON).await;
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");
    commits_go_on(&cluster, 20, SOON).await;
    half.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_proves_nothing_is_let_go() {
    let cluster = Cluster::start(3, |_| {}).await;
    let address = cluster.node(1).local_addr();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut noisy = TcpStream::connect(address).await.unwrap();
    noisy.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    eventually("the noise is refused", || (refused(&cluster, 1, "noise") == 1).then_some(())).await;
    eventually("the silent one is let go", || (refused(&cluster, 1, "late") == 1).then_some(())).await;
    drop(silent);

    // A hello that is longer than any.
    let mut long = TcpStream::connect(address).await.unwrap();
    let mut hello = b"CDRRAFT\n".to_vec();
    hello.extend_from_slice(&5_000_u32.to_le_bytes());
    hello.push(Kind::Hello as u8);
    hello.resize(5_100, 0);
    let _ = long.write_all(&hello).await;
    let gone = super::receive(&mut long, 100).await;
    assert!(gone.is_err());

    // A question that is longer than such a question can be.
    let mut large = greet(&cluster, 1, 2).await;
    let mut frame = (1_u32 << 20).to_le_bytes().to_vec();
    frame.push(Kind::Vote as u8);
    large.write_all(&frame).await.unwrap();
    assert!(super::receive(&mut large, 100).await.is_err());
    commits_go_on(&cluster, 3, SOON).await;
}
