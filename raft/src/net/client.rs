//! openraft's way to the other replicas.

use super::claims::{check_accepted, check_answer, complete};
use super::frame::{Kind, receive, send};
use super::peers::{CallError, Connection, Peers};
use super::snapshot;
use super::tls::Validity;
use super::wire::Wire;
use crate::codec;
use crate::identity::{Incarnation, Member};
use crate::snapshot::SnapshotDir;
use crate::types::{LogId, TypeConfig, Vote};
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
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};

/// Pause after a stream to a peer could not be opened.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// An answer to an append is never longer, in bytes.
const ANSWER_BYTES: usize = 4 << 10;

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

    /// Refuses an answer that leads to a term out of reach.
    fn believe(&self, told: &Vote, asked: &Vote) -> Result<(), CallError> {
        self.peers.believed(self.node, check_answer(told, asked.leader_id.term))
    }

    /// Does not count the vote of a replica whose log ends before what it had acknowledged.
    async fn ask_for_vote(
        &self,
        kind: Kind,
        request: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let acknowledged = self.peers.roster().acknowledged_by(self.node);
        let answer: VoteResponse<TypeConfig> = self.call(kind, &request, option).await?;
        self.believe(&answer.vote, &request.vote)?;
        let checked = complete(answer.last_log_id.as_ref(), self.node, acknowledged);
        if checked.is_err() {
            self.peers.meet_anew(self.node);
        }
        self.peers.believed(self.node, checked)?;
        Ok(answer)
    }

    /// Sends requests as they come and gives back the answers in the same order.
    async fn pipeline<S>(&self, requests: S) -> Result<BoxStream<'static, AppendAnswer>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let connecting = self.peers.connect(self.node, &self.address);
        let connected = tokio::time::timeout(STREAM_PATIENCE, connecting).await;
        let late = |_| CallError::Broken { node: self.node, source: io::ErrorKind::TimedOut.into() };
        let Connection { wire, validity, other } = connected.map_err(late)??;
        let (reader, writer) = tokio::io::split(wire);
        let sent = Sent { end: AtomicU64::new(other.log_end), ..Sent::default() };
        let receiver = Receiver { node: self.node, peers: Arc::clone(&self.peers), sent };
        let receiver = Arc::new(receiver);
        let sending = tokio::spawn(send_requests(requests, writer, Arc::clone(&receiver)));
        let answers = Answers {
            receiver,
            incarnation: other.incarnation,
            reader: BufReader::new(reader),
            validity,
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

async fn send_requests<S>(mut requests: S, mut writer: WriteHalf<Wire>, to: Arc<Receiver>) -> io::Result<()>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    send(&mut writer, Kind::OpenStream, &()).await?;
    while let Some(request) = requests.next().await {
        if to.check().is_err() {
            break;
        }
        to.sent.note(&request);
        send(&mut writer, Kind::Append, &request).await?;
    }
    writer.shutdown().await
}

/// What was sent on a stream.
#[derive(Default)]
struct Sent {
    /// Requests without an answer yet.
    under_way: AtomicU64,
    term: AtomicU64,
    /// Index of the last entry.
    last: AtomicU64,
    /// The other one's log goes at least as far: so it introduced itself, and so far it has accepted what was sent.
    end: AtomicU64,
}

/// A replica that is sent entries.
struct Receiver {
    node: u64,
    peers: Arc<Peers>,
    sent: Sent,
}

impl Receiver {
    /// Neither sends entries to a replica that is known by now to have acknowledged more than it has, nor counts its
    /// answers. What it acknowledges on this stream is recorded here before any other part knows of it.
    fn check(&self) -> Result<(), CallError> {
        let acknowledged = self.peers.roster().acknowledged_by(self.node);
        let end = LogId::new_term_index(0, self.sent.end.load(Ordering::Acquire));
        self.peers.believed(self.node, complete(Some(&end), self.node, acknowledged))
    }
}

impl Sent {
    fn note(&self, request: &AppendEntriesRequest<TypeConfig>) {
        let before = request.prev_log_id.as_ref().map_or(0, LogId::index);
        let last = request.entries.last().map_or(before, |entry| entry.log_id.index());
        self.last.fetch_max(last, Ordering::AcqRel);
        self.term.store(request.vote.leader_id.term, Ordering::Release);
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }
}

struct Answers {
    receiver: Arc<Receiver>,
    incarnation: Incarnation,
    reader: BufReader<ReadHalf<Wire>>,
    validity: Validity,
    _sending: AbortOnDrop,
}

impl Answers {
    /// Waits for the next answer: without limit while nothing is pending, then `STREAM_PATIENCE`.
    async fn receive(&mut self) -> io::Result<super::frame::Frame> {
        let under_way = &self.receiver.sent.under_way;
        let receiving = receive(&mut self.reader, ANSWER_BYTES);
        let ended = self.validity.ended();
        tokio::pin!(receiving, ended);
        let mut asked_before = false;
        loop {
            let waiting = tokio::time::timeout(STREAM_PATIENCE, &mut receiving);
            let received = tokio::select! {
                received = waiting => received,
                () = &mut ended => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            match received {
                Ok(frame) => {
                    under_way.fetch_sub(1, Ordering::AcqRel);
                    return frame;
                }
                Err(_) if asked_before => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => asked_before = under_way.load(Ordering::Acquire) > 0,
            }
        }
    }

    /// Refuses an answer that says more than it can know, or that is not to be counted.
    fn check(&self, answer: &StreamAppendResult<TypeConfig>) -> Result<(), CallError> {
        let Receiver { node, peers, sent } = &*self.receiver;
        let (term, last) = (sent.term.load(Ordering::Acquire), sent.last.load(Ordering::Acquire));
        peers.believed(*node, check_accepted(answer, term, last))?;
        self.receiver.check()?;
        if let Ok(Some(accepted)) = answer {
            sent.end.fetch_max(accepted.index(), Ordering::AcqRel);
        }
        Ok(())
    }
}

async fn next_answer(answers: Option<Answers>) -> Option<(AppendAnswer, Option<Answers>)> {
    let mut answers = answers?;
    let node = answers.receiver.node;
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
    // Of another replica by now: not counted.
    if let Some(refusal) = answers.receiver.peers.roster().no_member(node, answers.incarnation) {
        return Some((Err(CallError::Refused { refusal }.into()), None));
    }
    let answer = codec::decode::<StreamAppendResult<TypeConfig>>(&frame.body);
    if let Ok(answer) = &answer
        && let Err(error) = answers.check(answer)
    {
        return Some((Err(error.into()), None));
    }
    match answer {
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
        let answer = self.call(Kind::Append, &request, &option).await?;
        if let AppendEntriesResponse::HigherVote(vote) = &answer {
            self.believe(vote, &request.vote)?;
        }
        Ok(answer)
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
        self.ask_for_vote(Kind::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(Kind::PreVote, request, &option).await
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
            let Connection { mut wire, validity, .. } = self.peers.connect(node, &self.address).await?;
            let sent = tokio::select! {
                sent = snapshot::send_snapshot(&mut wire, vote, &snapshot) => sent,
                () = validity.ended() => Err(io::ErrorKind::ConnectionAborted.into()),
            };
            match sent {
                Ok(Ok(response)) => {
                    let checked = check_answer(&response.vote, vote.leader_id.term);
                    self.peers.believed(node, checked).map(|()| response)
                }
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
