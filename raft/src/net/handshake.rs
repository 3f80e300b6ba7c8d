//! Who talks to whom, and in which version of the protocol.
//!
//! The first bytes of a connection are the same in every version: `CDRRAFT\n`, then the lowest and the highest version
//! that this side speaks, and its build (major, minor, patch), all as little-endian 16-bit numbers. The other side answers
//! with the version that it chose, the highest that both speak or 0, and the same of itself. Hello and welcome follow in
//! that version.

use super::frame::{Kind, invalid, receive, send};
use crate::codec;
use crate::roster::{Grounds, Introduction, Refusal, Roster};
use cdr_core::rules::{Build, Version};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of every connection.
pub(super) const MAGIC: &[u8; 8] = b"CDRRAFT\n";

/// A hello or its answer is never longer, in bytes.
const HELLO_BYTES: usize = 4096;

/// A peer that has not proved who it is and introduced itself within this time is dropped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes behind the magic ones: versions and build.
const RANGE_BYTES: usize = 10;

/// What a side says before it is known in which version it may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    lowest: u16,
    highest: u16,
    build: Version,
}

impl Range {
    pub(super) fn of(build: Build) -> Self {
        let (lowest, highest) = build.protocols();
        Self { lowest, highest, build: build.version }
    }

    pub(super) fn bytes(self) -> [u8; RANGE_BYTES] {
        let numbers = [self.lowest, self.highest, self.build.major, self.build.minor, self.build.patch];
        let mut bytes = [0; RANGE_BYTES];
        for (place, number) in bytes.chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn read(bytes: &[u8; RANGE_BYTES]) -> Self {
        let number = |at: usize| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        let build = Version { major: number(2), minor: number(3), patch: number(4) };
        Self { lowest: number(0), highest: number(1), build }
    }

    /// The highest version that both speak.
    pub(super) fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }

    /// Why node `node` can't be talked to.
    fn apart(self, node: u64, other: Self) -> Refusal {
        let (from, to) = (other.lowest, other.highest);
        let reason = format!(
            "node {node} is build {} and speaks versions {from} to {to} of the replicas' protocol, this is build {} with \
             {} to {}: there is no common one; upgrade through the builds between them",
            other.build, self.build, self.lowest, self.highest
        );
        Refusal { node, grounds: Grounds::Build, reason }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub cluster: String,
    pub to: u64,
    pub from: Introduction,
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
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no introduction arrived in time");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

/// Introduces this node to node `to`. The inner error is a refusal, by the other side or by this one.
pub(super) async fn introduce<S>(stream: &mut S, cluster: &str, roster: &Roster, to: u64) -> io::Result<Met>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from, acknowledged) = (roster.introduction(to), roster.acknowledged());
    let hello = Hello { cluster: cluster.to_owned(), to, from };
    let own = Range::of(roster.build());
    in_time(async {
        stream.write_all(&[MAGIC.as_slice(), &own.bytes()].concat()).await?;
        stream.flush().await?;
        let mut answer = [0; 2 + RANGE_BYTES];
        stream.read_exact(&mut answer).await?;
        let (chosen, other) = split(&answer);
        if Some(chosen) != own.common(other) {
            let refusal = own.apart(to, other);
            roster.refused_build(to, &refusal);
            return Ok(declined(refusal, true));
        }
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

/// Admits a peer of `cluster` that dialled this node, and returns which it is. If it presented a certificate, `proved` is
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
        let mut range = [0; RANGE_BYTES];
        stream.read_exact(&mut range).await?;
        let (here, other) = (Range::of(roster.build()), Range::read(&range));
        let chosen = here.common(other);
        stream.write_all(&[chosen.unwrap_or(0).to_le_bytes().as_slice(), &here.bytes()].concat()).await?;
        stream.flush().await?;
        if chosen.is_none() {
            // Who it is nobody knows yet, unless it has shown a certificate.
            return Ok(declined(here.apart(proved.unwrap_or(0), other), true));
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

fn split(answer: &[u8; 2 + RANGE_BYTES]) -> (u16, Range) {
    let mut range = [0; RANGE_BYTES];
    range.copy_from_slice(&answer[2..]);
    (u16::from_le_bytes([answer[0], answer[1]]), Range::read(&range))
}

fn wrong_name(from: u64, proved: Option<u64>) -> Option<Refusal> {
    let proved = proved.filter(|proved| *proved != from)?;
    let reason = format!("node {from} presents the certificate of node {proved}");
    Some(Refusal { node: from, grounds: Grounds::Misdirected, reason })
}

fn misdirected(hello: &Hello, cluster: &str, own: u64) -> Option<Refusal> {
    let from = hello.from.node;
    let reason = if hello.cluster != cluster {
        format!("node {from} belongs to cluster {:?}, this node to {cluster:?}", hello.cluster)
    } else if hello.to != own {
        format!("node {from} dialled node {}, this is node {own}", hello.to)
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
            [("d", 1, 2, "to cluster"), ("c", 1, 3, "dialled node 3"), ("c", 2, 2, "a second node 2")]
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

    fn range(lowest: u16, highest: u16) -> Range {
        Range { lowest, highest, build: Build::THIS.version }
    }

    #[test]
    fn the_highest_version_that_both_speak_is_chosen() {
        for (here, other, chosen) in [
            (range(4, 4), range(4, 4), Some(4)),
            (range(4, 4), range(4, 5), Some(4)),
            (range(4, 5), range(5, 6), Some(5)),
            (range(4, 4), range(5, 6), None),
            (range(6, 7), range(4, 5), None),
        ] {
            assert_eq!((here.common(other), other.common(here)), (chosen, chosen), "{here:?} {other:?}");
        }
        let range = Range { build: Version { major: 1, minor: 2, patch: 3 }, ..range(4, 5) };
        assert_eq!(range.bytes(), [4, 0, 5, 0, 1, 0, 2, 0, 3, 0]);
        assert_eq!(Range::read(&range.bytes()), range);
    }

    #[tokio::test]
    async fn a_build_without_a_common_version_is_refused_by_name() {
        let there = roster(2);
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let other = Range { lowest: 90, highest: 91, build: Version { major: 9, minor: 8, patch: 7 } };
        let hello = async {
            near.write_all(&[MAGIC.as_slice(), &other.bytes()].concat()).await.unwrap();
            let mut answer = [0; 2 + RANGE_BYTES];
            near.read_exact(&mut answer).await.unwrap();
            split(&answer)
        };
        let ((chosen, here), met) = tokio::join!(hello, admit(&mut far, "c", &there, None));
        assert_eq!((chosen, here), (0, Range::of(Build::THIS)));
        let refusal = met.unwrap().unwrap_err().refusal;
        assert_eq!(refusal.grounds, Grounds::Build);
        assert!(refusal.reason.contains("build 9.8.7 and speaks versions 90 to 91"), "{refusal}");
    }

    #[tokio::test]
    async fn noise_is_refused() {
        let (mut here, mut there) = tokio::io::duplex(1 << 16);
        here.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(admit(&mut there, "c", &roster(2), None).await.is_err());
    }
}
