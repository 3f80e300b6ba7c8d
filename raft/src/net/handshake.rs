//! Who talks to whom.

use super::frame::{Kind, invalid, receive, send};
use crate::codec;
use crate::roster::{Grounds, Introduction, Refusal, Roster};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of the protocol. Replicas of different versions refuse each other.
const PROTOCOL: u16 = 3;

/// First bytes of every connection.
const MAGIC: &[u8; 8] = b"CDRRAFT\n";

/// A hello or its answer is never longer, in bytes.
const HELLO_BYTES: usize = 4096;

/// A peer that has not proved who it is and introduced itself within this time is dropped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u16,
    cluster: String,
    to: u64,
    from: Introduction,
}

/// What came of an introduction.
pub(super) type Met = Result<Introduction, Declined>;

/// An introduction that was refused.
#[derive(Debug)]
pub(super) struct Declined {
    pub refusal: Refusal,
    /// True if this replica refused, false if the other one did.
    pub here: bool,
}

fn declined(refusal: Refusal, here: bool) -> Met {
    Err(Declined { refusal, here })
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no introduction in time");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

/// Introduces this node to node `to`. The inner error is a refusal, by the other side or by this one.
pub(super) async fn introduce<S>(stream: &mut S, cluster: &str, roster: &Roster, to: u64) -> io::Result<Met>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from, acknowledged) = (roster.introduction(to), roster.acknowledged());
    let hello = Hello { protocol: PROTOCOL, cluster: cluster.to_owned(), to, from };
    in_time(async {
        stream.write_all(MAGIC).await?;
        send(stream, Kind::Hello, &hello).await?;
        let answer = receive(stream, HELLO_BYTES).await?;
        match answer.kind {
            Kind::Welcome => {
                let other: Introduction = codec::decode(&answer.body)?;
                if other.node != to {
                    return Err(invalid(format!("node {} answers in place of node {to}", other.node)));
                }
                if let Some(refusal) = roster.objection(&other, &acknowledged) {
                    return Ok(declined(refusal, true));
                }
                roster.met(to);
                Ok(Ok(other))
            }
            Kind::Refused => {
                let refusal: Refusal = codec::decode(&answer.body)?;
                roster.refused(to, &refusal);
                Ok(declined(refusal, false))
            }
            kind => Err(invalid(format!("{kind:?} instead of a welcome"))),
        }
    })
    .await
}

/// Lets a peer of `cluster` in that wants this node, and says which it is. Where it has shown a certificate, `proved` is
/// the node that it is for.
pub(super) async fn admit<S>(
    stream: &mut S,
    cluster: &str,
    roster: &Roster,
    proved: Option<u64>,
) -> io::Result<Met>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let acknowledged = roster.acknowledged();
    in_time(async {
        let mut magic = [0; MAGIC.len()];
        stream.read_exact(&mut magic).await?;
        if &magic != MAGIC {
            return Err(invalid("not a replica of this software"));
        }
        let frame = receive(stream, HELLO_BYTES).await?;
        if frame.kind != Kind::Hello {
            return Err(invalid(format!("{:?} instead of a hello", frame.kind)));
        }
        let hello: Hello = codec::decode(&frame.body)?;
        let own = roster.introduction(hello.from.node);
        let misdirected =
            wrong_name(hello.from.node, proved).or_else(|| misdirected(&hello, cluster, own.node));
        if let Some(refusal) = misdirected.or_else(|| roster.objection(&hello.from, &acknowledged)) {
            send(stream, Kind::Refused, &refusal).await?;
            return Ok(declined(refusal, true));
        }
        send(stream, Kind::Welcome, &own).await?;
        roster.met(hello.from.node);
        Ok(Ok(hello.from))
    })
    .await
}

fn wrong_name(from: u64, proved: Option<u64>) -> Option<Refusal> {
    let proved = proved.filter(|proved| *proved != from)?;
    let reason = format!("node {from} shows the certificate of node {proved}");
    Some(Refusal { node: from, grounds: Grounds::Misdirected, reason })
}

fn misdirected(hello: &Hello, cluster: &str, own: u64) -> Option<Refusal> {
    let from = hello.from.node;
    let reason = if hello.protocol != PROTOCOL {
        format!("node {from} speaks protocol {}, this node {PROTOCOL}", hello.protocol)
    } else if hello.cluster != cluster {
        format!("node {from} is of cluster {:?}, this node of {cluster:?}", hello.cluster)
    } else if hello.to != own {
        format!("node {from} looks for node {}, this is node {own}", hello.to)
    } else if from == own {
        format!("a second node {own} is running")
    } else {
        return None;
    };
    Some(Refusal { node: from, grounds: Grounds::Misdirected, reason })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::roster::tests::roster;

    async fn meet(cluster: &str, from: u64, to: u64) -> (io::Result<Met>, io::Result<Met>) {
        let (here, there) = (roster(from), roster(2));
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        tokio::join!(introduce(&mut near, cluster, &here, to), admit(&mut far, "c", &there, None))
    }

    #[tokio::test]
    async fn the_right_peer_is_let_in() {
        let (here, there) = meet("c", 1, 2).await;
        assert_eq!((here.unwrap().unwrap().node, there.unwrap().unwrap().node), (2, 1));
    }

    #[tokio::test]
    async fn wrong_peers_are_refused_with_a_reason_on_both_sides() {
        for (cluster, from, to, reason) in
            [("d", 1, 2, "of cluster"), ("c", 1, 3, "looks for node 3"), ("c", 2, 2, "a second node 2")]
        {
            let (here, there) = meet(cluster, from, to).await;
            for met in [here, there] {
                let refusal = met.unwrap().unwrap_err().refusal;
                assert!(refusal.reason.contains(reason), "{refusal}");
            }
        }
    }

    #[tokio::test]
    async fn a_certificate_is_for_the_node_that_shows_it() {
        let (here, there) = (roster(1), roster(2));
        for (proved, let_in) in [(Some(1), true), (Some(3), false)] {
            let (mut near, mut far) = tokio::io::duplex(1 << 16);
            let meeting =
                tokio::join!(introduce(&mut near, "c", &here, 2), admit(&mut far, "c", &there, proved));
            assert_eq!(meeting.1.unwrap().is_ok(), let_in);
            assert_eq!(meeting.0.unwrap().is_ok(), let_in);
        }
    }

    #[tokio::test]
    async fn noise_is_refused() {
        let (mut here, mut there) = tokio::io::duplex(1 << 16);
        here.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(admit(&mut there, "c", &roster(2), None).await.is_err());
    }
}
