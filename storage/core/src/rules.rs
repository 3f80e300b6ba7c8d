//! Versions: the rules version of a ledger, which formats come with it, and what a build knows.
//!
//! A ledger begins under [`Rules::FIRST`]. Later rules come into force by a row ([`RULES_SETTING`]), so that every reader of
//! the rows finds it, and never go back. Until then a build writes what the build before it reads.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The setting whose `config` row raises the rules.
pub const RULES_SETTING: &str = "ledger.rules";

/// Version of the rules of a ledger: what follows from a command, and how it is written.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct Rules(pub u32);

impl Rules {
    /// Those of a new ledger.
    pub const FIRST: Self = Self(1);
    /// The highest that this build may bring into force.
    pub const RELEASED: Self = Self(1);
    /// Rules that no release has: rows may have one more field, and every format has a higher number. They show that
    /// rules can be raised, and are refused everywhere unless a replica is configured to know them ([`Build::NEXT`]).
    pub const TEST_ONLY: Self = Self(2);

    /// What is written under these rules.
    pub const fn formats(self) -> Formats {
        let later = self.0 >= Self::TEST_ONLY.0;
        Formats {
            envelope: if later { 3 } else { 2 },
            schema: if later { SchemaVersion::V3 } else { SchemaVersion::V2 },
            disk: if later { 8 } else { 7 },
            encoding: 1,
            protocol: if later { 5 } else { 4 },
        }
    }

    /// The lowest build that knows these rules; none if this one does not know them.
    pub const fn needs(self) -> Option<Version> {
        match self {
            Self::FIRST => Some(Version { major: 0, minor: 1, patch: 0 }),
            Self::TEST_ONLY => Some(Build::NEXT.version),
            _ => None,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers of the formats that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of a command in a log entry, its first byte.
    pub envelope: u8,
    /// Of the rows that are begun.
    pub schema: SchemaVersion,
    /// Of everything in the store's directory.
    pub disk: u32,
    /// Of values in the Raft log, in snapshots and between replicas, their first byte.
    pub encoding: u8,
    /// Of what replicas say to one another, and in which order.
    pub protocol: u16,
}

/// A row's `schemaVersion`: its fields and the order in which they are hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SchemaVersion {
    /// `"2"`.
    #[default]
    V2 = 2,
    /// `"3"`, of [`Rules::TEST_ONLY`]: with one more optional field.
    V3 = 3,
}

impl SchemaVersion {
    /// Every version, ascending.
    pub const ALL: [Self; 2] = [Self::V2, Self::V3];

    /// The number in a draft's encoding; the row has it as text.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The version with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// What the row has there.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "2",
            Self::V3 => "3",
        }
    }

    /// The lowest rules under which rows of this version may be written.
    pub const fn rules(self) -> Rules {
        match self {
            Self::V2 => Rules::FIRST,
            Self::V3 => Rules::TEST_ONLY,
        }
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Version of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Version {
    /// Incompatible changes.
    pub major: u16,
    /// New features.
    pub minor: u16,
    /// Fixed faults.
    pub patch: u16,
}

impl Version {
    /// Reads `1.2.3`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        let version = Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }

    const fn of_package() -> Self {
        Self {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        }
    }
}

const fn number(text: &str) -> u16 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u16;
        at += 1;
    }
    value
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What a build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Build {
    /// Its version.
    pub version: Version,
    /// The highest rules that it knows.
    pub rules: Rules,
}

impl Build {
    /// This one.
    pub const THIS: Self = Self { version: Version::of_package(), rules: Rules::RELEASED };
    /// What a test calls the next one: the same program, which also knows [`Rules::TEST_ONLY`].
    pub const NEXT: Self = Self {
        version: Version { minor: Self::THIS.version.minor + 1, patch: 0, ..Self::THIS.version },
        rules: Rules::TEST_ONLY,
    };

    /// True if this build can follow a ledger under these rules.
    pub fn knows(self, rules: Rules) -> bool {
        rules >= Rules::FIRST && rules <= self.rules
    }

    /// The lowest and the highest version of the replicas' protocol that it speaks.
    pub const fn protocols(self) -> (u16, u16) {
        (Rules::FIRST.formats().protocol, self.rules.formats().protocol)
    }

    /// Rows of this `schemaVersion`, if the build knows them.
    pub fn schema(self, number: u8) -> Option<SchemaVersion> {
        SchemaVersion::from_number(number).filter(|version| self.knows(version.rules()))
    }
}

impl Default for Build {
    fn default() -> Self {
        Self::THIS
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

/// What a replica has to know to follow another one, or to take over a copy of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Rules in force.
    pub rules: Rules,
    /// Format of the store's directory.
    pub disk: u32,
    /// Format of values in the Raft log and in snapshots.
    pub encoding: u8,
    /// The lowest build that knows all of it, where that is known.
    pub build: Option<Version>,
}

impl Needs {
    /// Of a store in disk format `disk` under `rules`.
    pub fn of(rules: Rules, disk: u32) -> Self {
        Self { rules, disk, encoding: rules.formats().encoding, build: rules.needs() }
    }

    /// What of it a build does not know.
    pub fn unknown_to(&self, build: Build) -> Option<NeedsBuild> {
        let formats = build.rules.formats();
        let what = if !build.knows(self.rules) {
            format!("rules version {}", self.rules)
        } else if self.disk > formats.disk || self.disk < Rules::FIRST.formats().disk {
            format!("disk format {}", self.disk)
        } else if self.encoding > formats.encoding {
            format!("encoding {}", self.encoding)
        } else {
            return None;
        };
        Some(NeedsBuild { what, needs: self.build, this: build.version })
    }
}

/// Something that another build wrote and this one does not know. It is not damaged, and nothing of it is skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, which needs build {}: this is build {this}; install that build or a later one, the data is whole", needed(.needs.as_ref()))]
pub struct NeedsBuild {
    /// What it is.
    pub what: String,
    /// The lowest build that knows it, where that is recorded.
    pub needs: Option<Version>,
    /// The build that met it.
    pub this: Version,
}

fn needed(version: Option<&Version>) -> String {
    version.map_or_else(|| "of a later version".to_owned(), Version::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_knows_all_rules_up_to_its_own() {
        assert!(Build::THIS.knows(Rules::FIRST) && !Build::THIS.knows(Rules(0)));
        assert!(!Build::THIS.knows(Rules::TEST_ONLY) && Build::NEXT.knows(Rules::TEST_ONLY));
        assert!(Build::NEXT.version > Build::THIS.version);
        assert_eq!((Build::THIS.schema(2), Build::THIS.schema(3)), (Some(SchemaVersion::V2), None));
        assert_eq!((Build::NEXT.schema(3), Build::NEXT.schema(4)), (Some(SchemaVersion::V3), None));
    }

    #[test]
    fn later_rules_never_have_a_lower_number_of_a_format() {
        let (first, next) = (Rules::FIRST.formats(), Rules::TEST_ONLY.formats());
        assert!(first.envelope < next.envelope && first.schema < next.schema && first.disk < next.disk);
        assert!(first.encoding <= next.encoding && first.protocol < next.protocol);
        for version in SchemaVersion::ALL {
            assert_eq!(SchemaVersion::from_number(version.number()), Some(version));
            assert_eq!(version.rules().formats().schema, version);
            assert_eq!(version.to_string(), version.number().to_string());
        }
    }

    #[test]
    fn what_a_build_does_not_know_is_named() {
        let next = Needs::of(Rules::TEST_ONLY, 8);
        assert_eq!(next.unknown_to(Build::NEXT), None);
        assert_eq!(Needs::of(Rules::FIRST, 7).unknown_to(Build::THIS), None);
        for (needs, what) in [
            (next, "rules version 2"),
            (Needs::of(Rules::FIRST, 8), "disk format 8"),
            (Needs::of(Rules::FIRST, 6), "disk format 6"),
            (Needs { encoding: 9, ..Needs::of(Rules::FIRST, 7) }, "encoding 9"),
        ] {
            assert_eq!(needs.unknown_to(Build::THIS).map(|unknown| unknown.what).as_deref(), Some(what));
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(Version::parse("1.20.3"), Some(Version { major: 1, minor: 20, patch: 3 }));
        for wrong in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1..3", "1.2.70000"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_needs_another_build_says_which() {
        let met = |needs| NeedsBuild { what: "rules 9".to_owned(), needs, this: Build::THIS.version };
        let known = met(Some(Version { major: 2, minor: 3, patch: 4 })).to_string();
        assert!(known.contains("needs build 2.3.4: this is build 0.1.0"), "{known}");
        assert!(met(None).to_string().contains("a later version"));
    }
}
