//! Personal data of rows (ledger format 2): committed to by a salted hash, never hashed in the open.
//!
//! `personal` is an object beside the row. Of a CDR it holds the numbers and the texts that people wrote; of a system
//! row the texts that people or other systems wrote, and digests of requests: the members that [`paths`] lists for its
//! kind. Its hash with a [`Salt`] is the row's `personalHash`. A reader who may not see `personal` still recomputes
//! `rowHash`, and can't find out a number by trying all of them.

use crate::canonical::to_jcs;
use crate::hash::{Hash, from_hex, sha256, to_hex};
use crate::row::{Draft, Drawn, Record, SYSTEM_OPERATOR, System, SystemKind};
use crate::rules::SchemaVersion;
use crate::schema::personal_members;
use bincode::{Decode, Encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A row's salt: 128 random bits, drawn by the proposer for this row alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Salt(pub [u8; 16]);

/// The member of `personal` that holds the salt.
pub const SALT: &str = "salt";

impl Salt {
    /// Thirty-two lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        to_hex(&self.0)
    }

    /// The inverse of [`Salt::to_hex`].
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

/// Where in the content of a system row of this kind personal data stand: the names of members, a dot before one
/// inside another.
pub const fn paths(kind: SystemKind) -> &'static [&'static str] {
    match kind {
        SystemKind::Audit => &["details.faults", "details.reason", "reason", "request"],
        SystemKind::Config | SystemKind::Stream => &["reason"],
        SystemKind::Delivery => &["answer.payload", "payload", "reason"],
        SystemKind::Job => &["reason", "why"],
        SystemKind::Quarantine => &["encoderError"],
        SystemKind::Anchor
        | SystemKind::Export
        | SystemKind::Generation
        | SystemKind::Key
        | SystemKind::Operator => &[],
    }
}

/// The content of a system row, taken apart into what is hashed in the open and what is personal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemContent {
    kind: SystemKind,
    body: String,
    personal: Option<String>,
}

impl SystemContent {
    /// Takes `content` apart.
    ///
    /// # Errors
    /// If it is not a JSON object, or has a number that RFC 8785 can't write.
    pub fn new(kind: SystemKind, content: &impl Serialize) -> Result<Self, String> {
        match serde_json::to_value(content).map_err(|e| e.to_string())? {
            Value::Object(content) => Self::split(kind, content),
            _ => Err(format!("the content of a {} row is no object", kind.as_str())),
        }
    }

    /// Takes the content apart that `text` holds.
    ///
    /// # Errors
    /// As [`SystemContent::new`].
    pub fn of_text(kind: SystemKind, text: &str) -> Result<Self, String> {
        Self::split(kind, object(text)?)
    }

    fn split(kind: SystemKind, mut body: Map<String, Value>) -> Result<Self, String> {
        let (mut personal, mut has_any) = (Map::new(), false);
        for path in paths(kind) {
            let taken = take(&mut body, path);
            has_any |= !taken.is_null();
            put(&mut personal, path, taken);
        }
        let text = |map: &Map<String, Value>| {
            to_jcs(map).and_then(|bytes| String::from_utf8(bytes).map_err(|e| e.to_string()))
        };
        Ok(Self { kind, body: text(&body)?, personal: has_any.then(|| text(&personal)).transpose()? })
    }

    /// The draft of the row.
    pub fn draft<'a>(&'a self, drawn: Drawn, trace_id: &'a str) -> Draft<'a> {
        let personal = self.personal.as_deref();
        let record = Record::System(System { kind: self.kind, body: &self.body, personal });
        Draft::new(drawn, SYSTEM_OPERATOR, trace_id, record)
    }
}

/// Takes the value at a path away; null if there is none.
fn take(object: &mut Map<String, Value>, path: &str) -> Value {
    let taken = match path.split_once('.') {
        None => object.remove(path),
        Some((outer, inner)) => {
            object.get_mut(outer).and_then(Value::as_object_mut).and_then(|inside| inside.remove(inner))
        }
    };
    taken.unwrap_or_default()
}

fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((outer, inner)) => {
            let inside = object.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inside) = inside {
                inside.insert(inner.to_owned(), value);
            }
        }
    }
}

impl System<'_> {
    /// The whole content, personal data included, as its proposer had it; members that were null are
    /// absent.
    ///
    /// # Errors
    /// If the row does not hold JSON objects.
    pub fn content(&self) -> Result<Map<String, Value>, String> {
        let mut content = object(self.body)?;
        let Some(personal) = self.personal else { return Ok(content) };
        let mut personal = object(personal)?;
        for path in paths(self.kind) {
            match take(&mut personal, path) {
                Value::Null => {}
                value => put(&mut content, path, value),
            }
        }
        Ok(content)
    }

    /// The content as what it is.
    ///
    /// # Errors
    /// If it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.content()?)).map_err(|e| e.to_string())
    }

    /// The content, if body and personal part are what [`SystemContent`] makes of it: in canonical form, and each
    /// member where it belongs.
    pub(crate) fn check(&self) -> Result<Map<String, Value>, String> {
        let content = self.content()?;
        let split = SystemContent::split(self.kind, content.clone())?;
        if split.body == self.body && split.personal.as_deref() == self.personal {
            return Ok(content);
        }
        Err(format!(
            "a {} row is not in RFC 8785 form, or its personal data are not apart from its body",
            self.kind.as_str()
        ))
    }

    /// `personal` with its salt, as it is hashed; none if the row has no personal data.
    pub(crate) fn personal_with_salt(&self, salt: Salt) -> Option<Vec<u8>> {
        let mut personal = object(self.personal?).unwrap_or_default();
        personal.insert(SALT.to_owned(), salt.to_hex().into());
        to_jcs(&personal).ok()
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// What is wrong with `personal` beside a row of JSON of this version; `None` if it is what the row commits to.
pub fn violation(row: &Value, version: SchemaVersion, personal: &Value) -> Option<&'static str> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let Value::Object(members) = personal else { return Some("it is no object") };
    if members.get(SALT).and_then(Value::as_str).and_then(Salt::parse).is_none() {
        return Some("its salt is not 32 hexadecimal digits");
    }
    let record_type = text("recordType").unwrap_or_default();
    if !is_whole(record_type, version, members) {
        return Some("it has other members than its record type");
    }
    let hash: Option<Hash> = text("personalHash").and_then(from_hex);
    let computed = to_jcs(personal).map(|bytes| sha256(&bytes));
    if hash.is_none() || computed.ok() != hash {
        return Some("its bytes do not give the row's personalHash: the numbers or texts were changed");
    }
    None
}

/// True if the members are those of the record type, and the salt.
fn is_whole(record_type: &str, version: SchemaVersion, members: &Map<String, Value>) -> bool {
    let mut expected = Map::new();
    match SystemKind::parse(record_type) {
        Some(kind) => paths(kind).iter().for_each(|path| put(&mut expected, path, Value::Null)),
        None => personal_members(version).for_each(|name| put(&mut expected, name, Value::Null)),
    }
    let fits = |(name, value): (&String, &Value)| match (members.get(name), value) {
        (Some(Value::Object(given)), Value::Object(inside)) => given.keys().eq(inside.keys()),
        (_, Value::Object(_)) => false,
        (given, _) => given.is_some(),
    };
    members.len() == expected.len() + 1 && expected.iter().all(fits)
}
