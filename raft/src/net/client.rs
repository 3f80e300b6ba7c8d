//! openraft's way to the other replicas.

use super::frame::{Kind, receive, send};
use super::peers::{CallError, Peers};
use super::snapshot;
use crate::codec::{self, MAX_ENCODED_BYTES};
use crate::identity::{Incarnation, Member};
use crate::snapshot::SnapshotDir;
use crate::types::{TypeConfig, Vote};
use futures::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, stream_append_sequential, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;

/// Pause after a stream to a peer could not be opened.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long entries may be on their way before the connection is given up.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

type AppendAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Makes clients for openraft.
#[derive(Clone, Debug)]
pub(crate) struct Network(pub(crate) Arc<Peers>);

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Replication,
    Heartbeats,
}

/// The way to one replica.
#[derive(Debug)]
pub(crate) struct Client {
    peers: Arc<Peers>,
    node: u64,
    address: String,
    purpose: Purpose,
}

impl Network {
    fn client(&self, node: u64, in_membership: &Member, purpose: Purpose) -> Client {
        let address = self.0.address(node, &in_membership.address);
        Client { peers: Arc::clone(&self.0), node, address, purpose }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Purpose::Heartbeats)
    }
}

impl From<CallError> for RPCError<TypeConfig> {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Broken { .. } => Self::Network(NetworkError::new(&error)),
            _ => Self::Unreachable(Unreachable::new(&error)),
        }
    }
}

impl From<CallError> for StreamingError<TypeConfig> {
    fn from(error: CallError) -> Self {
        RPCError::from(error).into()
    }
}

impl Client {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        question: &Q,
        option: &RPCOption,
    ) -> Result<A, RPCError<TypeConfig>> {
        Ok(self.peers.call(self.node, &self.address, kind, question, option.hard_ttl()).await?)
    }

    /// Sends requests as they come and gives back the answers in the same order.
    async fn pipeline<S>(&self, requests: S) -> Result<BoxStream<'static, AppendAnswer>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let connecting = self.peers.connect(self.node, &self.address);
        let connected = tokio::time::timeout(STREAM_PATIENCE, connecting).await;
        let late = |_| CallError::Broken { node: self.node, source: io::ErrorKind::TimedOut.into() };
        let connection = connected.map_err(late)??;
        let incarnation = connection.other.incarnation;
        let (reader, writer) = connection.stream.into_split();
        let under_way = Arc::new(AtomicU64::new(0));
        let sending = tokio::spawn(send_requests(requests, writer, Arc::clone(&under_way)));
        let answers = Answers {
            node: self.node,
            peers: Arc::clone(&self.peers),
            incarnation,
            reader: BufReader::new(reader),
            under_way,
            _sending: AbortOnDrop(sending),
        };
        Ok(Box::pin(stream::unfold(Some(answers), next_answer)))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<io::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send_requests<S>(
    mut requests: S,
    mut writer: tokio::net::tcp::OwnedWriteHalf,
    under_way: Arc<AtomicU64>,
) -> io::Result<()>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    send(&mut writer, Kind::OpenStream, &()).await?;
    while let Some(request) = requests.next().await {
        under_way.fetch_add(1, Ordering::AcqRel);
        send(&mut writer, Kind::Append, &request).await?;
    }
    writer.shutdown().await
}

struct Answers {
    node: u64,
    peers: Arc<Peers>,
    incarnation: Incarnation,
    reader: BufReader<OwnedReadHalf>,
    under_way: Arc<AtomicU64>,
    _sending: AbortOnDrop,
}

impl Answers {
    /// Waits for the next answer: without limit while nothing is asked, then `STREAM_PATIENCE`.
    async fn receive(&mut self) -> io::Result<super::frame::Frame> {
        let under_way = Arc::clone(&self.under_way);
        let receiving = receive(&mut self.reader, MAX_ENCODED_BYTES);
        tokio::pin!(receiving);
        let mut asked_before = false;
        loop {
            match tokio::time::timeout(STREAM_PATIENCE, &mut receiving).await {
                Ok(frame) => {
                    under_way.fetch_sub(1, Ordering::AcqRel);
                    return frame;
                }
                Err(_) if asked_before => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => asked_before = under_way.load(Ordering::Acquire) > 0,
            }
        }
    }
}

async fn next_answer(answers: Option<Answers>) -> Option<(AppendAnswer, Option<Answers>)> {
    let mut answers = answers?;
    let node = answers.node;
    let broken = |source: io::Error| -> AppendAnswer { Err(CallError::Broken { node, source }.into()) };
    let frame = match answers.receive().await {
        Ok(frame) => frame,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
        Err(error) => return Some((broken(error), None)),
    };
    if frame.kind == Kind::Failed {
        let reason = codec::decode(&frame.body).unwrap_or_else(|error| error.to_string());
        return Some((Err(CallError::Failed { node, reason }.into()), None));
    }
    // Of somebody else by now: not counted.
    if let Some(refusal) = answers.peers.roster().no_member(node, answers.incarnation) {
        return Some((Err(CallError::Refused { refusal }.into()), None));
    }
    match codec::decode::<StreamAppendResult<TypeConfig>>(&frame.body) {
        Ok(accepted @ Ok(_)) => Some((Ok(accepted), Some(answers))),
        Ok(refused) => Some((Ok(refused), None)),
        Err(error) => Some((broken(error.into()), None)),
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::Append, &request, &option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        match self.purpose {
            Purpose::Heartbeats => stream_append_sequential(self, requests, option),
            Purpose::Replication => Box::pin(async move {
                let answers = self.pipeline(requests).await;
                if answers.is_err() {
                    // openraft tries again at once until enough failures have added up.
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                let answers: BoxStream<'s, AppendAnswer> = answers?;
                Ok(answers)
            }),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::PreVote, &request, &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::TransferLeader, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let node = self.node;
        let sending = async {
            let mut connection = self.peers.connect(node, &self.address).await?;
            match snapshot::send_snapshot(&mut connection.stream, vote, &snapshot).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(reason)) => Err(CallError::Failed { node, reason }),
                Err(source) => Err(CallError::Broken { node, source }),
            }
        };
        tokio::select! {
            sent = sending => Ok(sent?),
            closed = cancel => Err(closed.into()),
        }
    }
}
