//! The port between replicas, under attack and with certificates.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;

mod attacks;
mod authorities;
mod certificates;
mod handover;

use super::frame::{Frame, Kind, receive, send};
use super::handshake::introduce;
use crate::roster::Roster;
use crate::roster::tests::roster;
use common::cluster::Cluster;
use serde::Serialize;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Opens a connection to node `to` in plain text, and says to be node `from`.
async fn greet(cluster: &Cluster, to: u64, from: u64) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.node(to).local_addr()).await.unwrap();
    let roster = match cluster.replicas.get(&from) {
        Some(replica) => Arc::clone(replica.node.as_ref().unwrap().roster()),
        None => Arc::clone(&STRANGER),
    };
    introduce(&mut stream, "test", &roster, to).await.unwrap().unwrap();
    stream
}

/// A node that nobody knows.
static STRANGER: LazyLock<Arc<Roster>> = LazyLock::new(|| Arc::new(roster(99)));

/// What is answered to a message; none if the connection is closed.
async fn ask<T: Serialize>(stream: &mut TcpStream, kind: Kind, message: &T) -> Option<Frame> {
    send(stream, kind, message).await.ok()?;
    receive(stream, 1 << 20).await.ok()
}

fn refused(cluster: &Cluster, node: u64, reason: &str) -> u64 {
    let counts = cluster.node(node).metrics().refused_peers;
    counts.into_iter().find(|(name, _)| *name == reason).unwrap().1
}

/// Commits go on, each within `within`, under the leader that there is.
async fn commits_go_on(cluster: &Cluster, count: usize, within: Duration) {
    let leader = cluster.leader().await;
    for _ in 0..count {
        let begun = Instant::now();
        cluster.node(leader).propose("goes on".into()).await.unwrap();
        assert!(begun.elapsed() < within, "a commit took {:?}", begun.elapsed());
    }
}
