//! Which fields a row has and in which order they are hashed: by its own `schemaVersion`.
//!
//! A row stays what it was hashed as. A version has all fields of the one before it, and more; everybody who treats
//! rows of several versions asks here what belongs to which.

mod draft;
mod field;
pub(crate) mod member;
pub(crate) mod sms;

pub use field::{Field, Group, Kind};
pub use member::Value;

use crate::personal::SALT;
use crate::row::SystemKind;
use crate::rules::{Build, NeedsBuild, SchemaVersion};
use crate::state::LedgerState;
use serde_json::{Map, Value as Json};
use sms::sms_members;

/// How a member enters the hashes of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It is a member of the row, whose bytes are hashed.
    Open,
    /// It is hashed with the salt.
    Personal,
    /// It is not hashed.
    Beside,
}

macro_rules! class {
    (open) => {
        Class::Open
    };
    (personal) => {
        Class::Personal
    };
    (beside) => {
        Class::Beside
    };
}

macro_rules! members {
    (
        ()
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $adjustment_name:literal $adjustment:ident $adjustment_class:ident)?
            $(local $local_name:literal)?
            $(field $name:literal $field:ident $variant:ident $since:ident $class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {
        /// The members of CDRs, in canonical order.
        const MEMBERS: &[(&str, SchemaVersion, Class)] = &[$(
            $(($frame_name, SchemaVersion::V2, class!($frame_class)),)?
            $(($adjustment_name, SchemaVersion::V2, class!($adjustment_class)),)?
            $(($local_name, SchemaVersion::V2, Class::Open),)?
            $(($name, SchemaVersion::$since, class!($class)),)?
        )+];

        /// What the rows of the system's own have of them, with their `body`.
        const FRAMING: &[&str] = &["body", $($($frame_name,)?)+];
    };
}

sms_members!(members);

const _: () = assert!(is_ascending(), "RFC 8785 asks for members in ascending order");
const _: () = assert!(salt_is_last(), "the canonicaliser writes the salt behind the other personal members");

const fn is_ascending() -> bool {
    let mut at = 1;
    while at < MEMBERS.len() {
        if !is_before(MEMBERS[at - 1].0.as_bytes(), MEMBERS[at].0.as_bytes()) {
            return false;
        }
        at += 1;
    }
    true
}

const fn salt_is_last() -> bool {
    let mut at = 0;
    while at < MEMBERS.len() {
        let (name, _, class) = MEMBERS[at];
        if matches!(class, Class::Personal) && !is_before(name.as_bytes(), SALT.as_bytes()) {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_before(first: &[u8], second: &[u8]) -> bool {
    let mut at = 0;
    while at < first.len() && at < second.len() {
        if first[at] != second[at] {
            return first[at] < second[at];
        }
        at += 1;
    }
    first.len() < second.len()
}

/// What is wrong with the JSON of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A later build wrote it.
    #[error(transparent)]
    Version(#[from] NeedsBuild),
    /// A member is missing or can't be read.
    #[error("field {field} is missing, or is not what a row has there")]
    Field {
        /// The member.
        field: &'static str,
    },
    /// A member that rows of its version do not have.
    #[error("rows of schemaVersion {version} have no member {member}")]
    Unknown {
        /// The member.
        member: String,
        /// The version that the row names.
        version: SchemaVersion,
    },
}

impl LedgerState {
    /// The version of the rows that are begun under the rules in force.
    pub fn schema(&self) -> SchemaVersion {
        self.head.rules.formats().schema
    }
}

/// Rows of a version that `build` does not know.
pub fn unknown(number: impl std::fmt::Display, build: Build) -> NeedsBuild {
    let number = number.to_string();
    let version = number.parse().ok().and_then(SchemaVersion::from_number);
    let needs = version.and_then(|version| version.rules().needs());
    NeedsBuild { what: format!("a row of schemaVersion {number}"), needs, this: build.version }
}

/// The version that the JSON of a row names.
///
/// # Errors
/// [`SchemaError::Version`] if `build` does not know it, [`SchemaError::Field`] if it is no number.
pub fn version_of(row: &Map<String, Json>, build: Build) -> Result<SchemaVersion, SchemaError> {
    let no_number = SchemaError::Field { field: "schemaVersion" };
    let text = row.get("schemaVersion").and_then(Json::as_str).ok_or(no_number.clone())?;
    if text.is_empty() || text.len() > 9 || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(no_number);
    }
    let known = text.parse().ok().and_then(|number| build.schema(number));
    known.ok_or_else(|| unknown(text, build).into())
}

/// The members of a CDR's personal data, besides the salt, in rows of this version.
pub fn personal_members(version: SchemaVersion) -> impl Iterator<Item = &'static str> + Clone {
    members(version, Class::Personal)
}

fn members(version: SchemaVersion, class: Class) -> impl Iterator<Item = &'static str> + Clone {
    let is_one = move |(_, since, of): &&(_, SchemaVersion, Class)| *since <= version && *of == class;
    MEMBERS.iter().filter(is_one).map(|(name, ..)| *name)
}

/// Checks that the JSON of a row has exactly the members that are hashed in rows of its version; the version.
///
/// # Errors
/// [`SchemaError`].
pub fn check_hashed(row: &Json, build: Build) -> Result<SchemaVersion, SchemaError> {
    let row = row.as_object().ok_or(SchemaError::Field { field: "schemaVersion" })?;
    let version = version_of(row, build)?;
    let record_type = row.get("recordType").and_then(Json::as_str).unwrap_or_default();
    if record_type == "sms" {
        check_members(row, version, &members(version, Class::Open))?;
    } else if SystemKind::parse(record_type).is_some() {
        let is_beside = |name: &&str| members(version, Class::Beside).any(|beside| beside == *name);
        check_members(row, version, &FRAMING.iter().copied().filter(|name| !is_beside(name)))?;
    } else {
        return Err(SchemaError::Field { field: "recordType" });
    }
    Ok(version)
}

/// Checks that a CDR as the API answers it has exactly the members that rows of its version have, those of its personal
/// data, their salt, and `rowHash`.
pub(crate) fn check_record(row: &Map<String, Json>, version: SchemaVersion) -> Result<(), SchemaError> {
    let own = members(version, Class::Open).chain(personal_members(version));
    check_members(row, version, &own.chain([SALT, "rowHash"]))
}

fn check_members(
    row: &Map<String, Json>,
    version: SchemaVersion,
    expected: &(impl Iterator<Item = &'static str> + Clone),
) -> Result<(), SchemaError> {
    let mut count = 0;
    for field in expected.clone() {
        if !row.contains_key(field) {
            return Err(SchemaError::Field { field });
        }
        count += 1;
    }
    if row.len() == count {
        return Ok(());
    }
    let other = row.keys().find(|member| !expected.clone().any(|name| name == *member));
    Err(SchemaError::Unknown { member: other.cloned().unwrap_or_default(), version })
}
