//! Who talks to whom.

use super::frame::{Kind, invalid, receive, send};
use crate::codec;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of the protocol. Replicas of different versions refuse each other.
const PROTOCOL: u16 = 1;

/// First bytes of every connection.
const MAGIC: &[u8; 8] = b"CDRRAFT\n";

/// A hello or its answer is never longer, in bytes.
const HELLO_BYTES: usize = 4096;

/// A peer that does not introduce itself within this time is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u16,
    cluster: String,
    from: u64,
    to: u64,
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no introduction in time");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

/// Introduces this node to node `to`.
pub(super) async fn introduce<S>(stream: &mut S, cluster: &str, from: u64, to: u64) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = Hello { protocol: PROTOCOL, cluster: cluster.to_owned(), from, to };
    in_time(async {
        stream.write_all(MAGIC).await?;
        send(stream, Kind::Hello, &hello).await?;
        let answer = receive(stream, HELLO_BYTES).await?;
        match answer.kind {
            Kind::Welcome => Ok(()),
            Kind::Failed => Err(invalid(format!("refused: {}", codec::decode::<String>(&answer.body)?))),
            kind => Err(invalid(format!("{kind:?} instead of a welcome"))),
        }
    })
    .await
}

/// Lets a peer of `cluster` in that wants node `own`, and says which it is.
pub(super) async fn admit<S>(stream: &mut S, cluster: &str, own: u64) -> io::Result<u64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
        if let Some(reason) = objection(&hello, cluster, own) {
            send(stream, Kind::Failed, &reason).await?;
            return Err(invalid(reason));
        }
        send(stream, Kind::Welcome, &own).await?;
        Ok(hello.from)
    })
    .await
}

fn objection(hello: &Hello, cluster: &str, own: u64) -> Option<String> {
    if hello.protocol != PROTOCOL {
        return Some(format!("node {} speaks protocol {}, this node {PROTOCOL}", hello.from, hello.protocol));
    }
    if hello.cluster != cluster {
        return Some(format!(
            "node {} is of cluster {:?}, this node of {cluster:?}",
            hello.from, hello.cluster
        ));
    }
    if hello.to != own {
        return Some(format!("node {} looks for node {}, this is node {own}", hello.from, hello.to));
    }
    if hello.from == own {
        return Some(format!("a second node {own} is running"));
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn meet(cluster: &str, from: u64, to: u64) -> (io::Result<()>, io::Result<u64>) {
        let (mut here, mut there) = tokio::io::duplex(1 << 16);
        tokio::join!(introduce(&mut here, cluster, from, to), admit(&mut there, "c", 2))
    }

    #[tokio::test]
    async fn the_right_peer_is_let_in() {
        let (here, there) = meet("c", 1, 2).await;
        here.unwrap();
        assert_eq!(there.unwrap(), 1);
    }

    #[tokio::test]
    async fn wrong_peers_are_refused_with_a_reason_on_both_sides() {
        for (cluster, from, to, reason) in
            [("d", 1, 2, "of cluster"), ("c", 1, 3, "looks for node 3"), ("c", 2, 2, "a second node 2")]
        {
            let (here, there) = meet(cluster, from, to).await;
            assert!(here.unwrap_err().to_string().contains(reason), "{reason}");
            assert!(there.unwrap_err().to_string().contains(reason), "{reason}");
        }
    }

    #[tokio::test]
    async fn noise_is_refused() {
        let (mut here, mut there) = tokio::io::duplex(1 << 16);
        here.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(admit(&mut there, "c", 2).await.is_err());
    }
}
