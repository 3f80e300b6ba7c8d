//! What names a data directory among all that a node id ever had.
//!
//! A node id is configured, so an emptied directory or another one may come under it. What was promised in the old one,
//! votes and acknowledged entries, is then forgotten. So each directory draws an [`Incarnation`] when it is made, the
//! membership names the incarnation of every member, and a known id with another one gets no vote and no entries.
//!
//! The incarnation is in the log's directory and in the state's. If one of them lacks it, that one was emptied.

use crate::codec;
use crate::machine::{Machine, MachineError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Drawn at random when a data directory is made, and never changed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// A new one.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member of the cluster: where it is, and which data directory it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host:port`.
    pub address: String,
    /// Its data directory.
    pub incarnation: Incarnation,
}

/// What the state's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kept {
    /// The directories are being created: nothing has been sent to another replica yet.
    Making(Incarnation),
    /// Both are made.
    Made(Incarnation),
}

/// What is to be done at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Unfinished(Incarnation),
    Whole(Incarnation),
}

/// `Err` has what was lost.
fn compare(log: Option<Incarnation>, state: Option<Kept>) -> Result<Found, &'static str> {
    match (log, state) {
        (None, None) => Ok(Found::Nothing),
        (None, Some(Kept::Making(of_state))) => Ok(Found::Unfinished(of_state)),
        (None, Some(Kept::Made(_))) => Err("the state exists, but the log was removed"),
        (Some(_), None) => Err("the log exists, but the state was removed"),
        (Some(of_log), Some(Kept::Making(of_state) | Kept::Made(of_state))) if of_log == of_state => {
            Ok(Found::Whole(of_log))
        }
        (Some(_), Some(_)) => Err("log and state are of two different data directories"),
    }
}

/// Why a data directory has no incarnation.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A part of it was removed or exchanged.
    #[error("{0}")]
    Amnesia(&'static str),
    /// The state's directory can't be read or written.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// No random bytes.
    #[error("an incarnation can't be drawn: {0}")]
    Random(getrandom::Error),
}

/// Finds the incarnation of a data directory whose log says `log`, or draws one. The log is then to be opened with it,
/// and [`confirm`] to be called.
pub(crate) fn establish(
    machine: &dyn Machine,
    log: Option<Incarnation>,
) -> Result<Incarnation, IdentityError> {
    let state = machine.identity()?.map(|bytes| codec::decode(&bytes)).transpose();
    match compare(log, state.map_err(MachineError::new)?) {
        Err(reason) => Err(IdentityError::Amnesia(reason)),
        Ok(Found::Unfinished(incarnation) | Found::Whole(incarnation)) => Ok(incarnation),
        Ok(Found::Nothing) => {
            let incarnation = Incarnation::draw().map_err(IdentityError::Random)?;
            keep(machine, Kept::Making(incarnation))?;
            Ok(incarnation)
        }
    }
}

/// Records that log and state have the incarnation. Only then may other replicas learn of it.
pub(crate) fn confirm(machine: &dyn Machine, incarnation: Incarnation) -> Result<(), MachineError> {
    let made = codec::encode(&Kept::Made(incarnation)).map_err(MachineError::new)?;
    if machine.identity()?.as_deref() == Some(made.as_slice()) {
        return Ok(());
    }
    machine.keep_identity(&made)
}

fn keep(machine: &dyn Machine, kept: Kept) -> Result<(), MachineError> {
    machine.keep_identity(&codec::encode(&kept).map_err(MachineError::new)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation([1; 16]);
    const B: Incarnation = Incarnation([2; 16]);

    #[test]
    fn a_directory_is_new_or_whole_or_was_not_finished() {
        assert_eq!(compare(None, None), Ok(Found::Nothing));
        assert_eq!(compare(None, Some(Kept::Making(A))), Ok(Found::Unfinished(A)));
        assert_eq!(compare(Some(A), Some(Kept::Making(A))), Ok(Found::Whole(A)));
        assert_eq!(compare(Some(A), Some(Kept::Made(A))), Ok(Found::Whole(A)));
    }

    #[test]
    fn one_part_without_the_other_has_lost_what_was_promised() {
        for (log, state) in [
            (None, Some(Kept::Made(A))),
            (Some(A), None),
            (Some(A), Some(Kept::Made(B))),
            (Some(A), Some(Kept::Making(B))),
        ] {
            assert!(compare(log, state).is_err(), "{log:?} {state:?}");
        }
    }
}
