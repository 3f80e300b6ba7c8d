//! What can go wrong when a file is delivered, and what follows from it.

use crate::masking;
use std::fmt;

/// The way a file takes to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelKind {
    /// The regulator's SFTP server (US-CDR-013).
    Sftp,
    /// The regulator's REST interface (US-CDR-014).
    Api,
    /// A directory of this machine, for development.
    Directory,
}

impl ChannelKind {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Sftp, Self::Api, Self::Directory];

    /// The name used in rows, events and responses; never changed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sftp => "SFTP",
            Self::Api => "API",
            Self::Directory => "DIRECTORY",
        }
    }

    /// The channel of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure an attempt ended with. [`super::policy`] decides by it alone what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The receiver can't be reached, breaks off, is too slow or reports that it can't at the moment.
    Unreachable,
    /// The receiver has no space; what was written of the file is removed again.
    Full,
    /// This replica can't read the file that is to be delivered.
    Source,
    /// Settings, keys or certificates of this side can't be used.
    Setup,
    /// One side does not accept the other's certificate.
    Certificate,
    /// The server's key is not one of the pinned ones: perhaps it is not the receiver.
    HostKeyChanged,
    /// The receiver does not let this side in, or not write.
    PermissionDenied,
    /// The receiver has another file of that name.
    DuplicateFile,
    /// What arrived, or what was to be sent, is not the file that was signed.
    IntegrityMismatch,
    /// The receiver has refused the file.
    Rejected,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Full,
        Self::Source,
        Self::Setup,
        Self::Certificate,
        Self::HostKeyChanged,
        Self::PermissionDenied,
        Self::DuplicateFile,
        Self::IntegrityMismatch,
        Self::Rejected,
    ];

    /// The name used in rows and responses; never changed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "UNREACHABLE",
            Self::Full => "FULL",
            Self::Source => "SOURCE",
            Self::Setup => "SETUP",
            Self::Certificate => "CERTIFICATE",
            Self::HostKeyChanged => "HOST_KEY_CHANGED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::DuplicateFile => "DUPLICATE_FILE",
            Self::IntegrityMismatch => "INTEGRITY_MISMATCH",
            Self::Rejected => "REJECTED",
        }
    }

    /// The class of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// True if no attempt follows by itself: a person must look first (US-CDR-013: no retry).
    pub fn stops(self) -> bool {
        matches!(
            self,
            Self::HostKeyChanged
                | Self::PermissionDenied
                | Self::DuplicateFile
                | Self::IntegrityMismatch
                | Self::Rejected
        )
    }

    /// True if the channel is to blame, so that the failure counts towards the fallback and towards exhaustion.
    pub fn blames_channel(self) -> bool {
        matches!(self, Self::Unreachable | Self::Full | Self::Setup | Self::Certificate)
    }

    /// True if it needs a person: it does not come right by itself (SEV1).
    pub fn needs_person(self) -> bool {
        self.stops() || matches!(self, Self::Setup | Self::Certificate)
    }

    /// What an operator should do about it.
    fn to_do(self) -> &'static str {
        match self {
            Self::Unreachable => "it is retried",
            Self::Full => "ask the receiver to free space; it is tried again",
            Self::Source => "see why this replica can't read it; it is retried",
            Self::Setup => "correct it; files are read again at the next attempt",
            Self::Certificate => {
                "replace the certificate in question, here or at the receiver; files are read again at the next attempt"
            }
            Self::HostKeyChanged => {
                "nothing was sent. Ask the receiver by telephone: if the key was changed there, put its fingerprint \
                 into delivery.sftp_host_fingerprints, then redrop the file"
            }
            Self::PermissionDenied => "it is not retried. Have the receiver grant it, then redrop the file",
            Self::DuplicateFile => {
                "nothing was overwritten. Find out with the receiver which of the two is right, then redrop the file"
            }
            Self::IntegrityMismatch => {
                "it is not retried. Compare the file with its recorded SHA-256 on every replica and at the \
                 receiver, then redrop it"
            }
            Self::Rejected => {
                "it is not retried. The response says why; redrop the file once that is corrected"
            }
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the receiver's REST interface answered in place of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as it came, its first 16 KiB.
    pub body: String,
    /// The receiver's number for it, where the body has one.
    pub receipt_id: Option<String>,
    /// Why it refuses the file; none if it refuses something else, or only for now.
    pub reason: Option<Reason>,
}

impl Answer {
    /// The body without subscribers' numbers, for logs and rows.
    pub fn words(&self) -> String {
        masking::text(&self.body).into_owned()
    }
}

/// Why a receiver refuses a file: the codes of `cdr.export.rejected.v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It can't be read, or does not hold what it should.
    SchemaMismatch,
    /// What arrived is not what its hash says.
    IntegrityMismatch,
    /// The signature is not good.
    SignatureInvalid,
    /// It is not the file that is expected next.
    SequenceOutOfOrder,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::SchemaMismatch, Self::IntegrityMismatch, Self::SignatureInvalid, Self::SequenceOutOfOrder];

    /// The code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
            Self::IntegrityMismatch => "INTEGRITY_MISMATCH",
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::SequenceOutOfOrder => "SEQUENCE_OUT_OF_ORDER",
        }
    }
}

/// Why an attempt to deliver failed: what happened, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {}", class.to_do())]
pub struct DeliveryError {
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// The channel that was tried.
    pub channel: ChannelKind,
    /// The receiver, such as `sftp://cdr@drop.example.net:2222/in`.
    pub place: String,
    /// What happened, and to which file.
    pub what: String,
    /// The receiver's own words, if it had any.
    pub answer: Option<Answer>,
}

/// Makes the errors of one channel to one receiver.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) channel: ChannelKind,
    pub(super) name: String,
}

impl Place {
    pub(super) fn error(&self, class: ErrorClass, what: impl Into<String>) -> DeliveryError {
        let (channel, place) = (self.channel, self.name.clone());
        DeliveryError { class, channel, place, what: what.into(), answer: None }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_told_apart() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
            assert!(!(class.stops() && class.blames_channel()), "{class} both stops and is tried again");
        }
        for kind in ChannelKind::ALL {
            assert_eq!(ChannelKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!((ErrorClass::parse("unreachable"), ChannelKind::parse("")), (None, None));
    }

    #[test]
    fn an_error_says_where_what_and_what_to_do() {
        let place = Place { channel: ChannelKind::Sftp, name: "sftp://cdr@drop:2222/in".to_owned() };
        let error = place.error(ErrorClass::Full, "TAP_1.tap can't be written: no space");
        assert_eq!(
            error.to_string(),
            "sftp://cdr@drop:2222/in: TAP_1.tap can't be written: no space; ask the receiver to free space; it is tried \
             again"
        );
    }
}
