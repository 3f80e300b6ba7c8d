//! Peers and messages that are refused: why, how often, and what is logged.

use crate::roster::Grounds;
use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::{CertificateError, Error as TlsFault};

/// The log repeats a refusal of the same kind at most this often; all are counted.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Why a peer or its message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// It proved nothing within the time.
    Late,
    /// It sent too much before it had proved who it is.
    TooMuch,
    /// It does not speak as a replica does.
    Noise,
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate has ended, or has not begun.
    Expired,
    /// Its certificate comes from another authority, or is for another cluster.
    Foreign,
    /// Its certificate is for another node than it claims to be, or than was dialled.
    WrongName,
    /// Plain text, and not from this machine.
    PlainText,
    /// Its hello is of another cluster, or for somebody else.
    Hello,
    /// Its id is spent.
    Retired,
    /// Its data directory is not the one that the membership names.
    Incarnation,
    /// Entries that it had acknowledged are missing.
    OlderCopy,
    /// It has another history.
    History,
    /// This replica had to forget committed entries and has stopped.
    LostCommits,
    /// It speaks in another node's name.
    Impostor,
    /// Its term or its log positions are out of bounds.
    OutOfBounds,
    /// Its entries contradict what is committed, or one another.
    Fork,
    /// Its snapshot is larger than the space for it.
    NoSpace,
    /// Its log ends before what it had acknowledged, as far as is known while a connection is open: it has to introduce
    /// itself again.
    LogEnd,
    /// It is of a build that is too far from this one's.
    Build,
}

impl Refusal {
    /// Every reason.
    pub(crate) const ALL: [Self; 20] = [
        Self::Late,
        Self::TooMuch,
        Self::Noise,
        Self::NoCertificate,
        Self::Expired,
        Self::Foreign,
        Self::WrongName,
        Self::PlainText,
        Self::Hello,
        Self::Retired,
        Self::Incarnation,
        Self::OlderCopy,
        Self::History,
        Self::LostCommits,
        Self::Impostor,
        Self::OutOfBounds,
        Self::Fork,
        Self::NoSpace,
        Self::LogEnd,
        Self::Build,
    ];

    /// The reason as metrics name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::TooMuch => "too_much",
            Self::Noise => "noise",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::Foreign => "foreign",
            Self::WrongName => "wrong_name",
            Self::PlainText => "plain_text",
            Self::Hello => "hello",
            Self::Retired => "retired",
            Self::Incarnation => "incarnation",
            Self::OlderCopy => "older_copy",
            Self::History => "history",
            Self::LostCommits => "lost_commits",
            Self::Impostor => "impostor",
            Self::OutOfBounds => "out_of_bounds",
            Self::Fork => "fork",
            Self::NoSpace => "no_space",
            Self::LogEnd => "log_end",
            Self::Build => "build",
        }
    }

    /// True if only a member of this cluster, or who has stolen its key, can be refused so.
    fn is_from_within(self) -> bool {
        matches!(self, Self::Impostor | Self::OutOfBounds | Self::Fork)
    }

    /// Why a connection ended before its other end had proved who it is.
    pub(super) fn of(error: &io::Error) -> Self {
        let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFault>());
        match fault {
            Some(TlsFault::NoCertificatesPresented) => Self::NoCertificate,
            Some(TlsFault::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => Self::Expired,
            Some(TlsFault::InvalidCertificate(_)) => Self::Foreign,
            _ if error.kind() == io::ErrorKind::FileTooLarge => Self::TooMuch,
            _ if error.kind() == io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Noise,
        }
    }
}

/// A peer or a message that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub why: Refusal,
    pub error: io::Error,
    /// True if committed entries of this replica would have been replaced.
    pub forgets: bool,
}

impl Refused {
    pub(super) fn new(why: Refusal, message: impl Into<String>) -> Self {
        Self { why, error: super::frame::invalid(message), forgets: false }
    }
}

impl From<Grounds> for Refusal {
    fn from(grounds: Grounds) -> Self {
        match grounds {
            Grounds::Retired => Self::Retired,
            Grounds::Incarnation => Self::Incarnation,
            Grounds::OlderCopy => Self::OlderCopy,
            Grounds::Fork => Self::History,
            Grounds::LostCommits => Self::LostCommits,
            Grounds::Misdirected => Self::Hello,
            Grounds::Build => Self::Build,
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { why: Refusal::of(&error), error, forgets: false }
    }
}

/// How often was refused, by reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
    said: Mutex<HashMap<Refusal, Instant>>,
}

impl Refusals {
    /// Counts the refusal, and logs what was refused to whom.
    pub(super) fn note(&self, why: Refusal, from: &dyn Display, error: &dyn Display) {
        let count = self.counts[why as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&why).is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        said.insert(why, Instant::now());
        let reason = why.as_str();
        if why.is_from_within() {
            tracing::error!(severity = "SEV1", %from, reason, %error, count, "a replica's message is refused");
        } else {
            tracing::warn!(%from, reason, %error, count, "a connection between replicas is refused");
        }
    }

    /// The counts, by reason.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let count = |why: Refusal| (why.as_str(), self.counts[why as usize].load(Ordering::Relaxed));
        Refusal::ALL.into_iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_name() {
        let refusals = Refusals::default();
        for (number, why) in Refusal::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| refusals.note(why, &"somebody", &"why"));
        }
        for (number, (name, count)) in refusals.counts().into_iter().enumerate() {
            assert_eq!((name, count), (Refusal::ALL[number].as_str(), number as u64 + 1));
        }
    }
}
