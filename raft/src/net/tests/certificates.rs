//! TLS between replicas: who is heard, who is refused, and why.

use super::authorities::{Authority, LONG};
use super::common::cluster::{Cluster, eventually};
use super::{commits_go_on, introduce, receive, refused};
use crate::net::tls::{Secured, Security};
use crate::net::{Credentials, CredentialsError};
use crate::node::{NodeConfig, StartError};
use crate::roster::tests::roster;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::TcpStream;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

fn secured(config: &mut NodeConfig) {
    config.credentials = Some(Arc::new(AUTHORITY.node(config.node_id)));
}

/// Connects to node `to` as who has `credentials`, and introduces itself as node `from`.
async fn knock(cluster: &Cluster, to: u64, from: u64, credentials: &Credentials) -> Result<Secured, String> {
    // The attacker's own checks of its certificate are left out: it is as if it were another node's.
    let security: &Security = Box::leak(Box::new(Security::unchecked(credentials)));
    let tcp = TcpStream::connect(cluster.node(to).local_addr()).await.unwrap();
    let mut secured = security.connect(tcp, to).await.map_err(|refused| refused.error.to_string())?;
    let met = introduce(&mut secured.wire, "test", &roster(from), to).await;
    met.map_err(|error| error.to_string())?.map_err(|declined| declined.refusal.reason)?;
    secured.wire.lift();
    Ok(secured)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_talk_over_tls_and_hear_a_member_that_they_do_not_know() {
    let mut cluster = Cluster::start(3, |config| {
        secured(config);
        config.snapshot_every_entries = 50;
        config.log_keep_entries = 5;
    })
    .await;
    for number in 0..120_u64 {
        cluster.propose(vec![number as u8; 20_000]).await;
    }
    for replica in cluster.running() {
        let node = replica.node.as_ref().unwrap();
        eventually("the log is purged", || (node.metrics().purged_index > 50).then_some(())).await;
        assert!(node.metrics().certificate_ends.is_some());
    }
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.stop(away).await;
    let address = cluster.start_stranger(4).await;
    cluster.node(leader).add_learner(4, &address).await.unwrap();
    cluster.node(leader).promote(4).await.unwrap();
    cluster.propose("with a fourth").await;
    cluster.node(leader).transfer_leader(4).await.unwrap();
    eventually("the fourth leads", || (cluster.node(4).leader()?.0 == 4).then_some(())).await;
    cluster.propose("the fourth leads").await;
    // The one that was away knows nothing of node 4, which leads it.
    cluster.restart(away).await.unwrap();
    cluster.converge(cluster.propose("all are there").await.index).await;
    assert_eq!(cluster.running().count(), 4);
    commits_go_on(&cluster, 10, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn certificates_of_others_are_refused_counted_and_told() {
    let cluster = Cluster::start(1, secured).await;
    let other = Authority::new();
    let believing = |mut credentials: Credentials| {
        credentials.authorities = vec![AUTHORITY.certificate.clone()];
        credentials
    };
    assert!(knock(&cluster, 1, 2, &AUTHORITY.node(2)).await.is_ok());
    for (credentials, reason) in [
        (believing(other.node(2)), "foreign"),
        (AUTHORITY.issue_expired("node-2.test"), "expired"),
        (AUTHORITY.issue(&["node-2.other"], LONG), "foreign"),
        (AUTHORITY.issue(&["replica-2.example.net"], LONG), "foreign"),
        (AUTHORITY.issue(&["node-2.test", "node-3.test"], LONG), "foreign"),
        (AUTHORITY.node(3), "wrong_name"),
    ] {
        let before = refused(&cluster, 1, reason);
        let knocked = knock(&cluster, 1, 2, &credentials).await;
        assert!(knocked.is_err(), "{reason}");
        eventually(reason, || (refused(&cluster, 1, reason) == before + 1).then_some(())).await;
    }
    // Neither does a replica talk to whom it does not look for.
    let wrong = Security::unchecked(&AUTHORITY.node(2));
    let tcp = TcpStream::connect(cluster.node(1).local_addr()).await.unwrap();
    assert!(wrong.connect(tcp, 3).await.unwrap_err().error.to_string().contains("node 3 was dialled"));
    let mistrusting = Security::unchecked(&Credentials {
        authorities: vec![other.certificate.clone()],
        ..AUTHORITY.node(2)
    });
    let tcp = TcpStream::connect(cluster.node(1).local_addr()).await.unwrap();
    assert_eq!(mistrusting.connect(tcp, 1).await.unwrap_err().why.as_str(), "foreign");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn plain_text_is_refused_where_certificates_are_shown() {
    let cluster = Cluster::start(1, secured).await;
    let mut tcp = TcpStream::connect(cluster.node(1).local_addr()).await.unwrap();
    assert!(introduce(&mut tcp, "test", &roster(2), 1).await.is_err());
    eventually("it is refused", || (refused(&cluster, 1, "noise") == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_ends_with_its_certificate() {
    let cluster = Cluster::start(1, secured).await;
    let credentials = AUTHORITY.issue(&["node-2.test"], Duration::from_secs(4));
    let mut connection = knock(&cluster, 1, 2, &credentials).await.unwrap();
    assert!(connection.validity.holds());
    let closed = tokio::time::timeout(Duration::from_secs(8), receive(&mut connection.wire, 100)).await;
    assert!(closed.unwrap().is_err());
    // Dates of certificates have whole seconds, of which the last one counts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(knock(&cluster, 1, 2, &credentials).await.is_err());
    eventually("it is refused", || (refused(&cluster, 1, "expired") == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_does_not_start_with_what_is_not_its_own() {
    let mut cluster = Cluster::start(1, secured).await;
    cluster.stop(1).await;
    let other = Authority::new();
    for (credentials, text) in [
        (AUTHORITY.node(2), "node-1.test: node-2.test"),
        (AUTHORITY.issue(&["node-1.other"], LONG), "node-1.test: node-1.other"),
        (AUTHORITY.issue(&[], LONG), "node-1.test: no DNS name"),
        (AUTHORITY.issue_expired("node-1.test"), "has expired"),
        (Credentials { key: other.node(1).key, ..AUTHORITY.node(1) }, "can't be used"),
        (Credentials { chain: Vec::new(), ..AUTHORITY.node(1) }, "no certificate"),
    ] {
        let error = Security::new("test".to_owned(), 1, Some(&credentials)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let plain = Security::new("test".to_owned(), 1, None).unwrap();
    assert_eq!(plain.exchange(&AUTHORITY.node(1)), Err(CredentialsError::PlainText));

    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let mut config = cluster.config(1);
    config.credentials = None;
    let machine = Arc::clone(&cluster.replicas[&1].machine);
    let started = crate::node::Node::start_on(config, machine, listener).await;
    assert!(matches!(started, Err(StartError::Config(why)) if why.contains("plain text")));
}
