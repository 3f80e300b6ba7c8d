//! Answering the other replicas.

use super::claims::{self, Append, Here};
use super::frame::{FRAME_WITHIN, Frame, Kind, invalid, receive_append, receive_as, send};
use super::handshake::{Declined, PATIENCE, admit};
use super::peers::Peers;
use super::places::{Lane, Places, Seat};
use super::refusals::{Refusal, Refusals, Refused};
use super::snapshot::{Offer, receive_snapshot, with_space};
use super::tls::{Secured, Security, Validity};
use super::wire::Wire;
use crate::codec;
use crate::restriction::Restrictions;
use crate::roster::{Introduction, Roster};
use crate::state_machine::StateMachine;
use crate::types::{Raft, TypeConfig};
use cdr_core::history::Mark;
use cdr_core::rules::Build;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// A connection on which nothing is received for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// A connection on which nothing is received after the hello is closed after this long.
const SILENT: Duration = Duration::from_secs(10);

/// Up to where a read has to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadIndexAnswer {
    /// The state has to be applied up to this index. The leader's own mark shows whether it is the same state.
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

/// What a replica reports to a leader about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// It would take commands if it led.
    pub takes_commands: bool,
    /// Its disk has space for more of them.
    pub has_room: bool,
    /// Its build.
    pub build: Build,
}

/// What the port serves.
pub(crate) struct Server {
    pub cluster: String,
    pub roster: Arc<Roster>,
    pub raft: Raft,
    pub state_machine: StateMachine,
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub peers: Arc<Peers>,
    pub security: Arc<Security>,
    pub refusals: Arc<Refusals>,
    pub restrictions: Restrictions,
    /// Space on the disk that no snapshot may take, in bytes.
    pub min_free_bytes: u64,
    pub receiving: Mutex<()>,
    /// Who answers questions that are not Raft's own.
    pub questions: OnceLock<Answerer>,
}

/// Answers the questions that the other replicas' owners ask the leader's. What both mean is theirs alone.
pub type Answerer = Arc<dyn Fn(Asker, Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

/// The replica that forwards a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The replica.
    pub node: u64,
    /// True if it has presented a certificate, or is this replica; otherwise it is only claimed.
    pub proved: bool,
}

/// Who is at the other end of a connection.
struct Peer {
    asker: Asker,
    /// What it reports about itself.
    introduction: Introduction,
    /// Whose places the connection takes: none for those of unknown nodes.
    place: Option<u64>,
    /// The news that it was shown.
    news: u64,
}

impl Peer {
    /// Closes a connection whose peer is no longer the one that the membership names, or on which this replica has nothing more
    /// to say, or has something to show first: the next handshake does.
    fn check(&self, roster: &Roster) -> io::Result<()> {
        if let Some(refusal) = roster.standing_objection(&self.introduction) {
            return Err(invalid(refusal.reason));
        }
        if roster.news() == self.news { Ok(()) } else { Err(invalid("a report has to be exchanged first")) }
    }
}

impl Server {
    /// Serves until dropped; then every connection is closed.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let places = Places::default();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, address)) => {
                        let server = Arc::clone(&self);
                        let seat = places.enter(address.ip().to_canonical());
                        connections.spawn(async move { server.connection(tcp, address, seat).await });
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

    async fn connection(&self, tcp: TcpStream, address: SocketAddr, seat: Seat) {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, %address, "no TCP_NODELAY");
        }
        let seat = Arc::new(seat);
        let served = async {
            let late = |_| Refused::new(Refusal::Late, "it has not proved its identity in time");
            let admitted = tokio::time::timeout(PATIENCE, self.admit(tcp)).await.map_err(late).flatten();
            match admitted {
                Ok((wire, peer, validity)) => self.serve_peer(wire, peer, validity, &seat).await,
                Err(refused) => self.refusals.note(refused.why, &address, &refused.error),
            }
        };
        tokio::select! {
            () = served => {}
            () = seat.given_away() => tracing::debug!(%address, "a connection was closed to make room for another"),
        }
    }

    async fn admit(&self, tcp: TcpStream) -> Result<(Wire, Peer, Validity), Refused> {
        let Secured { mut wire, node: proved, validity } = self.security.accept(tcp).await?;
        let news = self.roster.news();
        let met = admit(&mut wire, &self.cluster, &self.roster, proved).await?;
        let introduction = met.map_err(|Declined { refusal, .. }| {
            let is_other = proved.is_some_and(|proved| proved != refusal.node);
            let why = if is_other { Refusal::WrongName } else { refusal.grounds.into() };
            Refused::new(why, refusal.reason)
        })?;
        wire.lift();
        let node = introduction.node;
        let asker = Asker { node, proved: proved.is_some() };
        let place = Some(node).filter(|node| self.knows(*node));
        Ok((wire, Peer { asker, introduction, place, news }, validity))
    }

    /// True if the configuration or the membership names the node.
    fn knows(&self, node: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.peers.names(node) || metrics.membership_config.membership().get_node(&node).is_some()
    }

    async fn serve_peer(&self, wire: Wire, peer: Peer, validity: Validity, seat: &Arc<Seat>) {
        let (node, peer) = (peer.asker.node, Arc::new(peer));
        seat.proved(peer.place);
        tokio::select! {
            ended = self.answer_all(wire, &peer, seat) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, node, "a connection ended");
                }
            }
            () = validity.ended() => tracing::debug!(node, "a connection was closed because its certificate expired"),
        }
    }

    async fn answer_all(&self, wire: Wire, peer: &Arc<Peer>, seat: &Arc<Seat>) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(wire);
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        let Some(mut frame) = next_frame(&mut reader, SILENT).await? else { return Ok(()) };
        let lane = Lane::of(frame.kind);
        let lane = lane.ok_or_else(|| invalid(format!("{:?} is not a question", frame.kind)))?;
        seat.choose(peer.place, lane);
        peer.check(&self.roster)?;
        match lane {
            Lane::Entries => return self.answer_stream(reader, writer, peer, seat).await,
            Lane::Snapshots => {
                let mut stream = tokio::io::join(&mut reader, &mut writer);
                return self.take_snapshot(&mut stream, codec::decode(&frame.body)?, peer, seat).await;
            }
            Lane::Elections | Lane::Reads | Lane::Questions => {}
        }
        loop {
            self.answer(&frame, &mut writer, peer, seat).await?;
            let Some(next) = next_frame(&mut reader, IDLE).await? else { return Ok(()) };
            if Lane::of(next.kind) != Some(lane) {
                return Err(invalid(format!("{:?} on a connection for {lane:?}", next.kind)));
            }
            peer.check(&self.roster)?;
            frame = next;
        }
    }

    /// Answers a request, unless it is not allowed to be made: then the connection is closed.
    async fn answer(
        &self,
        frame: &Frame,
        writer: &mut WriteHalf<Wire>,
        peer: &Peer,
        seat: &Seat,
    ) -> io::Result<()> {
        let (body, node) = (&frame.body, peer.asker.node);
        match frame.kind {
            Kind::Append => {
                let append: Append = self
                    .checked(writer, body, node, |append, here| claims::check_append(append, node, here))
                    .await?;
                seat.heard();
                reply(writer, self.raft.append_entries(append.into()).await).await
            }
            Kind::Vote | Kind::PreVote => {
                let request: VoteRequest<TypeConfig> = self
                    .checked(writer, body, node, |request, here| claims::check_vote(request, node, here))
                    .await?;
                seat.heard();
                match frame.kind {
                    Kind::Vote => reply(writer, self.raft.vote(request).await).await,
                    _ => reply(writer, self.raft.pre_vote(request).await).await,
                }
            }
            Kind::TransferLeader => {
                let request: TransferLeaderRequest<TypeConfig> = self
                    .checked(writer, body, node, |request, here| claims::check_transfer(request, node, here))
                    .await?;
                seat.heard();
                reply(writer, self.raft.handle_transfer_leader(request).await).await
            }
            kind => {
                seat.heard();
                match kind {
                    Kind::ReadIndex => reply(writer, self.read_index().await).await,
                    Kind::Ask => reply(writer, self.ask(peer.asker, codec::decode(body)?).await).await,
                    Kind::Clock => reply(writer, Ok::<_, io::Error>((self.clock)())).await,
                    Kind::Condition => {
                        let condition = self.restrictions.condition(self.state_machine.build());
                        reply(writer, Ok::<_, io::Error>(condition)).await
                    }
                    kind => Err(invalid(format!("{kind:?} is not a request"))),
                }
            }
        }
    }

    /// Decodes a message to Raft, and refuses it if `check` does.
    async fn checked<W: AsyncWrite + Unpin, T: DeserializeOwned>(
        &self,
        writer: &mut W,
        body: &[u8],
        node: u64,
        check: impl FnOnce(&T, &Here) -> Result<(), Refused>,
    ) -> io::Result<T> {
        let message = codec::decode(body)?;
        let here = here(&self.raft, self.roster.acknowledged_by(node));
        match check(&message, &here) {
            Ok(()) => Ok(message),
            Err(refused) => {
                self.refuse(node, &refused);
                reply(writer, Err::<(), _>(&refused.error)).await?;
                Err(refused.error)
            }
        }
    }

    fn refuse(&self, node: u64, refused: &Refused) {
        refuse(&self.roster, &self.refusals, node, refused);
    }

    /// What this replica's owner answers.
    pub(crate) async fn ask(&self, asker: Asker, question: Vec<u8>) -> Result<Vec<u8>, String> {
        let answerer = self.questions.get().ok_or("this replica serves no forwarded requests yet")?;
        Ok(answerer(asker, question).await)
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
        reader: BufReader<ReadHalf<Wire>>,
        mut writer: WriteHalf<Wire>,
        peer: &Arc<Peer>,
        seat: &Arc<Seat>,
    ) -> io::Result<()> {
        let refused = Arc::new(OnceLock::new());
        // Raft reads in a task of its own, which must not outlive the connection.
        let (_connection, gone) = watch::channel(());
        let appends = Appends {
            reader,
            raft: self.raft.clone(),
            roster: Arc::clone(&self.roster),
            refusals: Arc::clone(&self.refusals),
            peer: Arc::clone(peer),
            seat: Arc::clone(seat),
            refused: Arc::clone(&refused),
            gone,
        };
        let mut answers = Box::pin(self.raft.stream_append(stream::unfold(appends, Appends::next)));
        while let Some(answer) = answers.next().await {
            reply(&mut writer, answer).await?;
        }
        match refused.get() {
            Some(reason) => reply(&mut writer, Err::<(), _>(reason)).await,
            None => Ok(()),
        }
    }

    async fn take_snapshot<S>(&self, stream: &mut S, offer: Offer, peer: &Peer, seat: &Seat) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let node = peer.asker.node;
        if let Err(refused) = claims::check_snapshot(&offer.vote, &offer.meta, node, &here(&self.raft, 0)) {
            self.refuse(node, &refused);
            return reply(stream, Err::<(), _>(refused.error)).await;
        }
        seat.heard();
        if let Some(needs) = offer.needs.unknown_to(self.state_machine.build()) {
            let refused = Refused::new(Refusal::Build, format!("the snapshot is of {needs}"));
            self.refuse(node, &refused);
            self.roster.needs_build(node, &refused.error.to_string());
            return reply(stream, Err::<(), _>(refused.error)).await;
        }
        let Ok(_one_at_a_time) = self.receiving.try_lock() else {
            return send(stream, Kind::Failed, &"another snapshot is being received".to_owned()).await;
        };
        let store = self.state_machine.snapshots();
        let lacking = match with_space(&offer, store, self.min_free_bytes) {
            Ok(lacking) => lacking,
            Err(refused) => {
                self.refuse(node, &refused);
                return reply(stream, Err::<(), _>(refused.error)).await;
            }
        };
        let last = offer.meta.last_log_id;
        tracing::info!(?last, "receiving a snapshot");
        let snapshot = match receive_snapshot(stream, &offer, &lacking, store).await {
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

/// Counts a refused message of `node`. A leader that would make this replica discard committed entries stops it.
fn refuse(roster: &Roster, refusals: &Refusals, node: u64, refused: &Refused) {
    if refused.forgets {
        roster.refuse_to_forget(node, &refused.error.to_string());
    }
    refusals.note(refused.why, &format_args!("node {node}"), &refused.error);
}

/// How far this replica is, and what the peer is known to have `acknowledged`.
fn here(raft: &Raft, acknowledged: u64) -> Here {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let (term, committed) = (metrics.current_term, metrics.local_committed);
    Here { term, is_empty: term == 0 && metrics.last_log_index.is_none(), committed, acknowledged }
}

/// The next request; none if none arrives for `idle`.
async fn next_frame<R: AsyncRead + Unpin>(reader: &mut R, idle: Duration) -> io::Result<Option<Frame>> {
    match tokio::time::timeout(idle, receive_as(reader, Kind::limit)).await {
        Ok(frame) => frame.map(Some),
        Err(_) => Ok(None),
    }
}

async fn reply<W, T, E>(writer: &mut W, result: Result<T, E>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
    E: std::fmt::Display,
{
    let sending = async {
        match result {
            Ok(value) => send(writer, Kind::Answer, &value).await,
            Err(error) => send(writer, Kind::Failed, &error.to_string()).await,
        }
    };
    tokio::time::timeout(FRAME_WITHIN, sending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The appends of a stream.
struct Appends {
    reader: BufReader<ReadHalf<Wire>>,
    raft: Raft,
    roster: Arc<Roster>,
    refusals: Arc<Refusals>,
    peer: Arc<Peer>,
    seat: Arc<Seat>,
    /// Why the last one was refused.
    refused: Arc<OnceLock<String>>,
    /// Closed when the connection is.
    gone: watch::Receiver<()>,
}

impl Appends {
    async fn next(mut self) -> Option<(AppendEntriesRequest<TypeConfig>, Self)> {
        let frame = tokio::select! {
            frame = tokio::time::timeout(IDLE, receive_append(&mut self.reader)) => frame.ok()?.ok()?,
            _ = self.gone.changed() => return None,
        };
        let node = self.peer.asker.node;
        let append: Append = match codec::decode(&frame.body) {
            Ok(append) => append,
            Err(error) => {
                tracing::warn!(%error, node, "an append cannot be decoded");
                return None;
            }
        };
        if let Err(refused) = claims::check_append(&append, node, &here(&self.raft, 0)) {
            refuse(&self.roster, &self.refusals, node, &refused);
            let _ = self.refused.set(refused.error.to_string());
            return None;
        }
        self.peer.check(&self.roster).ok()?;
        self.seat.heard();
        Some((append.into(), self))
    }
}
