//! A command as it travels: who proposes it, when, under which rules.
//!
//! The bytes of a log entry begin with a prefix that no build ever changes, so that every build can tell whether it knows
//! what follows (integers little-endian):
//!
//! | bytes | |
//! |---|---|
//! | 1 | format of what follows the prefix |
//! | 4 | rules that the command needs |
//! | 2, 2, 2 | the lowest build that knows them: major, minor, patch |
//!
//! Behind it, in formats 2 and 3: term, time, progress and command in bincode 2.

use super::Command;
use crate::codec::{self, CodecError};
use crate::history::Mark;
use crate::rules::{Build, NeedsBuild, Rules, Version};
use crate::time::Millis;
use bincode::{BorrowDecode, Decode, Encode};

/// Bytes before the body.
const PREFIX_BYTES: usize = 11;

/// A command with the term in whose name it is proposed and the proposer's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    /// Rules that whoever applies it has to know: those in force where it was proposed, or those that it brings into
    /// force.
    pub rules: Rules,
    /// Fencing term: commands of any other term than the last [`Command::Fence`]'s are refused.
    pub term: u64,
    /// The proposer's clock.
    pub now: Millis,
    /// How far the proposer and its voters were.
    pub progress: Progress,
    /// What is requested.
    pub command: Command<'a>,
}

/// How far the proposer and its voters were when a command was encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Progress {
    /// The last command that the proposer had applied. With batches in flight it does not know the state right before
    /// its own; every replica that applies the command has applied this one too, and compares.
    pub applied: Mark,
    /// The voters, as the proposer knows them.
    pub acknowledged: Vec<Acknowledged>,
}

/// Committed entries that a voter has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Acknowledged {
    /// The voter.
    pub node: u64,
    /// Index of the last one.
    pub index: u64,
}

impl Acknowledged {
    /// Index of the last committed entry that the node is known to have on disk; 0 if none is.
    pub fn by(known: &[Self], node: u64) -> u64 {
        known.iter().find(|voter| voter.node == node).map_or(0, |voter| voter.index)
    }
}

/// What follows the prefix.
#[derive(Encode)]
struct Body<'e, 'a> {
    term: u64,
    now: Millis,
    progress: &'e Progress,
    command: &'e Command<'a>,
}

#[derive(BorrowDecode)]
struct ReadBody<'a> {
    term: u64,
    now: Millis,
    progress: Progress,
    command: Command<'a>,
}

impl<'a> Envelope<'a> {
    /// A command under the first rules, whose proposer says nothing of how far it is.
    pub fn new(term: u64, now: Millis, command: Command<'a>) -> Self {
        Self { rules: Rules::FIRST, term, now, progress: Progress::default(), command }
    }

    /// Reads the bytes of a log entry, as `build` does.
    ///
    /// # Errors
    /// [`CodecError::NeedsBuild`] if they are of rules or a format that the build does not know, [`CodecError::Damaged`]
    /// if they are cut or do not decode.
    pub fn decode(bytes: &'a [u8], build: Build) -> Result<Self, CodecError> {
        let Some((prefix, body)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            let why = format!("{} bytes are no whole prefix", bytes.len());
            return Err(CodecError::Damaged { what: "command", why });
        };
        let prefix = Prefix::read(prefix);
        let unknown = |what: String| {
            CodecError::NeedsBuild(NeedsBuild { what, needs: Some(prefix.build), this: build.version })
        };
        if !build.knows(prefix.rules) {
            return Err(unknown(format!("the command is of rules version {}", prefix.rules)));
        }
        if prefix.format != prefix.rules.formats().envelope {
            return Err(unknown(format!("the command is of format {}", prefix.format)));
        }
        let ReadBody { term, now, progress, command } =
            codec::decode_bare("command", body).map_err(|error| match error {
                CodecError::Variant { .. } => {
                    unknown("the command is of a kind that is not known".to_owned())
                }
                error => error,
            })?;
        Ok(Self { rules: prefix.rules, term, now, progress, command })
    }
}

impl Envelope<'_> {
    /// The bytes of a log entry.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let Self { rules, term, now, progress, command } = self;
        let mut out = Prefix::of(*rules)?.bytes().to_vec();
        let body = Body { term: *term, now: *now, progress, command };
        codec::encode_bare("command", &body, &mut out)?;
        Ok(out)
    }
}

#[derive(Clone, Copy)]
struct Prefix {
    format: u8,
    rules: Rules,
    build: Version,
}

impl Prefix {
    fn of(rules: Rules) -> Result<Self, CodecError> {
        let build = rules.needs().ok_or_else(|| CodecError::Encode {
            what: "command",
            why: format!("rules version {rules} is not known"),
        })?;
        Ok(Self { format: rules.formats().envelope, rules, build })
    }

    fn bytes(self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[0] = self.format;
        bytes[1..5].copy_from_slice(&self.rules.0.to_le_bytes());
        bytes[5..7].copy_from_slice(&self.build.major.to_le_bytes());
        bytes[7..9].copy_from_slice(&self.build.minor.to_le_bytes());
        bytes[9..11].copy_from_slice(&self.build.patch.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; PREFIX_BYTES]) -> Self {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            format: bytes[0],
            rules: Rules(u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]])),
            build: Version { major: short(5), minor: short(7), patch: short(9) },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seal(rules: Rules) -> Vec<u8> {
        Envelope { rules, ..Envelope::new(3, Millis(7), Command::Seal) }.encode().unwrap()
    }

    fn needs(bytes: &[u8], build: Build) -> NeedsBuild {
        match Envelope::decode(bytes, build) {
            Err(CodecError::NeedsBuild(needs)) => needs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_prefix_has_these_bytes() {
        // format, rules, lowest build; term, time, index and history of the mark, no voters, kind of command
        let mut bytes = vec![2, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 14, 0];
        bytes.extend([0; 32]);
        bytes.extend([0, 4]);
        assert_eq!(seal(Rules::FIRST), bytes);
        assert_eq!(seal(Rules::TEST_ONLY)[..11], [3, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn what_was_encoded_is_decoded_by_builds_that_know_its_rules() {
        for (rules, build) in
            [(Rules::FIRST, Build::THIS), (Rules::FIRST, Build::NEXT), (Rules::TEST_ONLY, Build::NEXT)]
        {
            let bytes = seal(rules);
            let envelope = Envelope::decode(&bytes, build).unwrap();
            assert_eq!((envelope.rules, envelope.term, envelope.command), (rules, 3, Command::Seal));
        }
    }

    #[test]
    fn what_is_not_known_names_the_build_that_knows_it() {
        let met = needs(&seal(Rules::TEST_ONLY), Build::THIS);
        assert_eq!(met.needs, Some(Build::NEXT.version));
        let mut bytes = seal(Rules::FIRST);
        bytes[1..11].copy_from_slice(&[9, 0, 0, 0, 7, 0, 8, 0, 9, 0]);
        let text = needs(&bytes, Build::NEXT).to_string();
        assert!(text.contains("rules version 9, which needs build 7.8.9"), "{text}");
        let mut bytes = seal(Rules::FIRST);
        bytes[0] = 77;
        assert!(needs(&bytes, Build::THIS).to_string().contains("format 77"));
        let mut bytes = seal(Rules::FIRST);
        *bytes.last_mut().unwrap() = 200;
        assert!(needs(&bytes, Build::THIS).to_string().contains("of a kind that is not known"));
    }

    #[test]
    fn a_cut_command_is_damaged() {
        let bytes = seal(Rules::FIRST);
        for len in 0..bytes.len() {
            let error = Envelope::decode(&bytes[..len], Build::THIS).unwrap_err();
            assert!(matches!(error, CodecError::Damaged { .. }), "{len}: {error}");
        }
        assert!(matches!(
            Envelope { rules: Rules(9), ..Envelope::new(1, Millis(0), Command::Seal) }.encode(),
            Err(CodecError::Encode { .. })
        ));
    }
}
