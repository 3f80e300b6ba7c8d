//! How many connections there may be, so that no flood takes the place of another's: an election or a heartbeat goes
//! through any other kind of request, and a connection without proof of identity keeps none out.
//!
//! Where all slots are taken, the oldest connection is closed on which nothing was received yet; otherwise the one that
//! has been silent for longest. A connection that is in use is never the one, and so a newcomer always gets in.

use super::frame::Kind;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What a connection is for, as its first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Votes, heartbeats, transfers of leadership.
    Elections,
    /// Read indexes and clocks.
    Reads,
    /// Questions of the owners' own.
    Questions,
    /// Entries of a leader.
    Entries,
    /// Files of a snapshot.
    Snapshots,
}

impl Lane {
    pub(super) fn of(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Append | Kind::Vote | Kind::PreVote | Kind::TransferLeader => Self::Elections,
            Kind::ReadIndex | Kind::Clock | Kind::Condition => Self::Reads,
            Kind::Ask => Self::Questions,
            Kind::OpenStream => Self::Entries,
            Kind::SnapshotOffer => Self::Snapshots,
            _ => return None,
        })
    }

    /// Connections of one peer.
    fn places(self) -> usize {
        match self {
            Self::Elections => 8,
            Self::Reads | Self::Questions => 2 * super::peers::CALLS,
            Self::Entries | Self::Snapshots => 2,
        }
    }
}

/// Connections whose other ends have not proved who they are.
const UNPROVED: usize = 64;

/// Connections of one peer on which nothing was received yet.
const SILENT: usize = 8;

/// Whose a connection is. Nodes that this replica does not know share the places of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Unproved(IpAddr),
    Peer(Option<u64>, Option<Lane>),
}

struct Place {
    holder: Holder,
    /// When something was received last, as a number that grows with every message; 0 for nothing.
    heard: Arc<AtomicU64>,
    opened: u64,
    gives_way: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    places: HashMap<u64, Place>,
    opened: u64,
}

/// All places.
#[derive(Clone, Default)]
pub(super) struct Places {
    inner: Arc<Mutex<Inner>>,
    turn: Arc<AtomicU64>,
}

/// One connection's place; free again when this is dropped.
pub(super) struct Seat {
    places: Places,
    id: u64,
    heard: Arc<AtomicU64>,
    gives_way: Arc<Notify>,
}

impl Places {
    /// A slot for an incoming connection.
    pub(super) fn enter(&self, from: IpAddr) -> Seat {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (heard, gives_way) = (Arc::default(), Arc::default());
        if inner.unproved().count() >= UNPROVED {
            inner.push_out_unproved();
        }
        inner.opened += 1;
        let id = inner.opened;
        let holder = Holder::Unproved(from);
        let place =
            Place { holder, heard: Arc::clone(&heard), opened: id, gives_way: Arc::clone(&gives_way) };
        inner.places.insert(id, place);
        drop(inner);
        Seat { places: self.clone(), id, heard, gives_way }
    }
}

impl Inner {
    fn unproved(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.places.iter().filter_map(|(id, place)| match place.holder {
            Holder::Unproved(from) => Some((from, *id)),
            Holder::Peer(..) => None,
        })
    }

    /// The oldest connection of the address that has most of them is closed first.
    fn push_out_unproved(&mut self) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        self.unproved().for_each(|(from, _)| *counts.entry(from).or_default() += 1);
        let oldest = self.unproved().max_by_key(|(from, id)| (counts.get(from).copied(), Reverse(*id)));
        self.push_out(oldest.map(|(_, id)| id));
    }

    fn push_out(&mut self, id: Option<u64>) {
        if let Some(place) = id.and_then(|id| self.places.remove(&id)) {
            place.gives_way.notify_one();
        }
    }

    /// Moves a connection to another slot, and closes another one if there are too many.
    fn pass_on(&mut self, id: u64, to: Holder, most: usize) {
        let others = || self.places.iter().filter(|(other, place)| place.holder == to && **other != id);
        if others().count() >= most {
            let by_silence =
                |(_, place): &(&u64, &Place)| (place.heard.load(Ordering::Relaxed), place.opened);
            let silent = others().min_by_key(by_silence).map(|(other, _)| *other);
            self.push_out(silent);
        }
        if let Some(place) = self.places.get_mut(&id) {
            place.holder = to;
        }
    }
}

impl Seat {
    /// The other end is `peer`; none for a node that this replica does not know.
    pub(super) fn proved(&self, peer: Option<u64>) {
        self.pass_on(Holder::Peer(peer, None), SILENT);
    }

    /// The connection is for `lane` from now on.
    pub(super) fn choose(&self, peer: Option<u64>, lane: Lane) {
        self.pass_on(Holder::Peer(peer, Some(lane)), lane.places());
    }

    fn pass_on(&self, to: Holder, most: usize) {
        self.places.inner.lock().unwrap_or_else(PoisonError::into_inner).pass_on(self.id, to, most);
    }

    /// Something came that was good.
    pub(super) fn heard(&self) {
        let turn = self.places.turn.fetch_add(1, Ordering::Relaxed) + 1;
        self.heard.store(turn, Ordering::Relaxed);
    }

    /// Returns when the connection has to be closed for another.
    pub(super) async fn given_away(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.inner.lock().unwrap_or_else(PoisonError::into_inner).places.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn stands(seat: &Seat) -> bool {
        seat.given_away().now_or_never().is_none()
    }

    #[test]
    fn a_flood_of_strangers_pushes_out_its_own() {
        let places = Places::default();
        let member = places.enter(address(1));
        let flood: Vec<Seat> = (0..10 * UNPROVED).map(|_| places.enter(address(2))).collect();
        assert!(stands(&member));
        assert_eq!(flood.iter().filter(|seat| stands(seat)).count(), UNPROVED - 1);
        assert!(flood.last().is_some_and(stands), "whoever comes gets in");
        drop(flood);
        assert_eq!(places.inner.lock().map(|inner| inner.places.len()).ok(), Some(1));
    }

    #[test]
    fn silent_connections_never_push_out_those_in_use() {
        let places = Places::default();
        let proved = |peer| {
            let seat = places.enter(address(1));
            seat.proved(peer);
            seat
        };
        let heartbeats = proved(Some(2));
        heartbeats.choose(Some(2), Lane::Elections);
        heartbeats.heard();
        let silent: Vec<Seat> = (0..300).map(|_| proved(Some(2))).collect();
        assert_eq!(silent.iter().filter(|seat| stands(seat)).count(), SILENT);
        let flood: Vec<Seat> = (0..300)
            .map(|_| {
                let seat = proved(Some(2));
                seat.choose(Some(2), Lane::Elections);
                seat
            })
            .collect();
        assert!(stands(&heartbeats), "it was heard, the others were not");
        assert_eq!(flood.iter().filter(|seat| stands(seat)).count(), Lane::Elections.places() - 1);
        let stranger = proved(None);
        assert!(stands(&stranger));
    }

    #[test]
    fn of_those_in_use_the_one_that_is_silent_for_longest_gives_way() {
        let places = Places::default();
        let seats: Vec<Seat> = (0..3)
            .map(|_| {
                let seat = places.enter(address(1));
                seat.choose(Some(2), Lane::Entries);
                seat.heard();
                seat
            })
            .collect();
        assert_eq!(seats.iter().map(stands).collect::<Vec<_>>(), [false, true, true]);
    }
}
