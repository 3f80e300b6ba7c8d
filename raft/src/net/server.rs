//! Answering the other replicas.

use super::frame::{Frame, Kind, invalid, receive, send};
use super::handshake::admit;
use super::snapshot::{Offer, receive_snapshot};
use crate::codec::{self, MAX_ENCODED_BYTES};
use crate::roster::{Introduction, Roster};
use crate::state_machine::StateMachine;
use crate::types::{Raft, TypeConfig};
use cdr_core::history::Mark;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// A connection on which nobody says anything for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// Connections at once; a cluster of a few replicas needs a dozen.
const CONNECTIONS: usize = 256;

/// Up to where a read has to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadIndexAnswer {
    /// The state has to be applied up to this index. The leader's own mark tells whether it is the same state.
    Index {
        /// The index.
        index: u64,
        /// The last command that the leader applied.
        mark: Mark,
    },
    /// Ask this one.
    NotLeader(Option<u64>),
    /// No quorum confirmed the leader.
    Unconfirmed(String),
}

/// What the port serves.
pub(crate) struct Server {
    pub cluster: String,
    pub roster: Arc<Roster>,
    pub raft: Raft,
    pub state_machine: StateMachine,
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub receiving: Mutex<()>,
    /// Who answers questions that are not Raft's own.
    pub questions: OnceLock<Answerer>,
}

/// Answers the questions that the other replicas' owners ask the leader's. What both mean is theirs alone.
pub type Answerer = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

impl Server {
    /// Serves until dropped; then every connection is closed.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        let server = Arc::clone(&self);
                        connections.spawn(async move { server.connection(stream, &address.to_string()).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream, address: &str) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, address, "no TCP_NODELAY");
        }
        let peer = match admit(&mut stream, &self.cluster, &self.roster).await {
            Ok(Ok(peer)) => peer,
            Ok(Err(refusal)) => {
                tracing::warn!(%refusal, address, "a connection to the Raft port was refused");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, address, "a connection to the Raft port was refused");
                return;
            }
        };
        let (reader, writer) = stream.into_split();
        let reader = BufReader::with_capacity(64 << 10, reader);
        if let Err(error) = self.answer_all(&peer, reader, writer).await {
            tracing::debug!(%error, peer = peer.node, address, "a connection ended");
        }
    }

    /// Answers until the connection ends, or until the peer is no longer who the membership means.
    async fn answer_all(
        &self,
        peer: &Introduction,
        mut reader: BufReader<OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let frame = match tokio::time::timeout(IDLE, receive(&mut reader, MAX_ENCODED_BYTES)).await {
                Ok(frame) => frame?,
                Err(_) => return Ok(()),
            };
            self.check(peer)?;
            match frame.kind {
                Kind::OpenStream => return self.answer_stream(peer, reader, writer).await,
                Kind::SnapshotOffer => {
                    let mut stream = tokio::io::join(&mut reader, &mut writer);
                    self.take_snapshot(&mut stream, codec::decode(&frame.body)?).await?;
                }
                _ => self.answer(&frame, &mut writer).await?,
            }
        }
    }

    /// Ends a connection whose peer is no longer who the membership means, or on which this replica has nothing more
    /// to say: the next handshake tells why.
    fn check(&self, peer: &Introduction) -> io::Result<()> {
        let refusal = self.roster.standing_objection(peer);
        refusal.map_or(Ok(()), |refusal| Err(invalid(refusal.reason)))
    }

    async fn answer(&self, frame: &Frame, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        let body = &frame.body;
        match frame.kind {
            Kind::Append => reply(writer, self.raft.append_entries(codec::decode(body)?).await).await,
            Kind::Vote => reply(writer, self.raft.vote(codec::decode(body)?).await).await,
            Kind::PreVote => reply(writer, self.raft.pre_vote(codec::decode(body)?).await).await,
            Kind::TransferLeader => {
                reply(writer, self.raft.handle_transfer_leader(codec::decode(body)?).await).await
            }
            Kind::ReadIndex => reply(writer, self.read_index().await).await,
            Kind::Ask => reply(writer, self.ask(codec::decode(body)?).await).await,
            Kind::Clock => send(writer, Kind::Answer, &(self.clock)()).await,
            kind => Err(invalid(format!("{kind:?} is not a question"))),
        }
    }

    /// What this replica's owner answers.
    pub(crate) async fn ask(&self, question: Vec<u8>) -> Result<Vec<u8>, String> {
        let answerer = self.questions.get().ok_or("this replica answers no questions yet")?;
        Ok(answerer(question).await)
    }

    /// The read index of a leader whose leadership a quorum has just confirmed.
    pub(crate) async fn read_index(&self) -> Result<ReadIndexAnswer, String> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => {
                Ok(ReadIndexAnswer::Index { index: read.index(), mark: self.state_machine.mark() })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Ok(ReadIndexAnswer::NotLeader(to.leader_id))
            }
            Err(RaftError::APIError(error)) => Ok(ReadIndexAnswer::Unconfirmed(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(error.to_string()),
        }
    }

    async fn answer_stream(
        &self,
        peer: &Introduction,
        reader: BufReader<OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
    ) -> io::Result<()> {
        let (roster, peer) = (Arc::clone(&self.roster), peer.clone());
        let requests = stream::unfold(reader, next_request).take_while(move |_| {
            let refused = roster.standing_objection(&peer).is_some();
            async move { !refused }
        });
        let requests = Box::pin(requests);
        let mut answers = Box::pin(self.raft.stream_append(requests));
        while let Some(answer) = answers.next().await {
            reply(&mut writer, answer).await?;
        }
        Ok(())
    }

    async fn take_snapshot<S>(&self, stream: &mut S, offer: Offer) -> io::Result<()>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let Ok(_one_at_a_time) = self.receiving.try_lock() else {
            return send(stream, Kind::Failed, &"another snapshot is being received".to_owned()).await;
        };
        let last = offer.meta.last_log_id;
        tracing::info!(?last, "receiving a snapshot");
        let snapshot = match receive_snapshot(stream, &offer, self.state_machine.snapshots()).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, ?last, "a snapshot was not received; what is complete is kept");
                return Err(error);
            }
        };
        let snapshot = openraft::alias::SnapshotOf::<TypeConfig, _> { meta: offer.meta, snapshot };
        let installed = self.raft.install_full_snapshot(offer.vote, snapshot).await;
        tracing::info!(?last, installed = installed.is_ok(), "a snapshot was received");
        reply(stream, installed).await
    }
}

async fn reply<W, T, E>(writer: &mut W, result: Result<T, E>) -> io::Result<()>
where
    W: tokio::io::AsyncWrite + Unpin,
    T: Serialize,
    E: std::fmt::Display,
{
    match result {
        Ok(value) => send(writer, Kind::Answer, &value).await,
        Err(error) => send(writer, Kind::Failed, &error.to_string()).await,
    }
}

async fn next_request<R: AsyncReadExt + Unpin>(
    mut reader: R,
) -> Option<(AppendEntriesRequest<TypeConfig>, R)> {
    let frame = tokio::time::timeout(IDLE, receive(&mut reader, MAX_ENCODED_BYTES)).await.ok()?.ok()?;
    if frame.kind != Kind::Append {
        tracing::warn!(kind = ?frame.kind, "not an append in a stream of appends");
        return None;
    }
    match codec::decode(&frame.body) {
        Ok(request) => Some((request, reader)),
        Err(error) => {
            tracing::warn!(%error, "an append cannot be decoded");
            None
        }
    }
}
