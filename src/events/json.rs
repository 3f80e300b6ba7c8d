//! Writes the JSON object of an event straight into its bytes.

use super::EventHead;
use cdr_core::canonical::{push_integer, push_string};
use cdr_core::hash::{Hash, push_hex};
use cdr_core::money::push_micros;
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};

/// An event's object in the making. Keys are written as they are: they need no escapes.
pub(super) struct Body {
    out: Vec<u8>,
}

impl Body {
    /// Begins with `schemaVersion` and `eventId`; `capacity` bytes are reserved beside the trace id.
    pub(super) fn begin(head: &EventHead<'_>, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity + head.trace_id.len());
        out.extend_from_slice(b"{\"schemaVersion\":\"1\",\"eventId\":\"");
        head.event_id.uuid().push(&mut out);
        out.push(b'"');
        Self { out }
    }

    /// Ends with `traceId` and `occurredAt`.
    pub(super) fn end(mut self, head: &EventHead<'_>) -> Vec<u8> {
        self.text("traceId", head.trace_id);
        self.instant("occurredAt", head.occurred_at);
        self.out.push(b'}');
        self.out
    }

    #[inline]
    fn key(&mut self, key: &'static str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Opens a string that needs no escapes, writes it, closes it.
    #[inline]
    fn quoted(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.out.push(b'"');
        write(&mut self.out);
        self.out.push(b'"');
    }

    /// A value, or null.
    #[inline]
    fn or_null<T>(
        &mut self,
        key: &'static str,
        value: Option<T>,
        write: impl FnOnce(&mut Self, &'static str, T),
    ) {
        match value {
            Some(value) => write(self, key, value),
            None => self.raw(key, "null"),
        }
    }

    /// A JSON text, as it is.
    #[inline]
    pub(super) fn raw(&mut self, key: &'static str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Whatever `write` appends as the value.
    #[inline]
    pub(super) fn value<R>(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.key(key);
        write(&mut self.out)
    }

    /// Any text.
    #[inline]
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        push_string(&mut self.out, value);
    }

    /// Any text, or null.
    #[inline]
    pub(super) fn text_or_null(&mut self, key: &'static str, value: Option<&str>) {
        self.or_null(key, value, Self::text);
    }

    /// A text that needs no escapes, such as a code of a closed set.
    #[inline]
    pub(super) fn code(&mut self, key: &'static str, value: &str) {
        self.quoted(key, |out| out.extend_from_slice(value.as_bytes()));
    }

    /// An integer.
    #[inline]
    pub(super) fn integer(&mut self, key: &'static str, value: u64) {
        self.key(key);
        push_integer(&mut self.out, value);
    }

    /// A hash in hexadecimal.
    #[inline]
    pub(super) fn hash(&mut self, key: &'static str, hash: &Hash) {
        self.quoted(key, |out| push_hex(out, hash));
    }

    /// A hash in hexadecimal, or null.
    #[inline]
    pub(super) fn hash_or_null(&mut self, key: &'static str, hash: Option<&Hash>) {
        self.or_null(key, hash, Self::hash);
    }

    /// A record id under `prefix`.
    #[inline]
    pub(super) fn id(&mut self, key: &'static str, prefix: &str, id: CdrId) {
        self.quoted(key, |out| {
            out.extend_from_slice(prefix.as_bytes());
            id.push_base32(out);
        });
    }

    /// A record id with the prefix `cdr_`, or null.
    #[inline]
    pub(super) fn cdr_id_or_null(&mut self, key: &'static str, id: Option<CdrId>) {
        self.or_null(key, id, |body, key, id| body.id(key, "cdr_", id));
    }

    /// A UUID.
    #[inline]
    pub(super) fn uuid(&mut self, key: &'static str, uuid: Uuid) {
        self.quoted(key, |out| uuid.push(out));
    }

    /// A UUID, or null.
    #[inline]
    pub(super) fn uuid_or_null(&mut self, key: &'static str, uuid: Option<Uuid>) {
        self.or_null(key, uuid, Self::uuid);
    }

    /// A bucket hour.
    #[inline]
    pub(super) fn hour(&mut self, key: &'static str, hour: Hour) {
        self.quoted(key, |out| hour.push_utc(out));
    }

    /// A bucket hour, or null.
    #[inline]
    pub(super) fn hour_or_null(&mut self, key: &'static str, hour: Option<Hour>) {
        self.or_null(key, hour, Self::hour);
    }

    /// An instant.
    #[inline]
    pub(super) fn instant(&mut self, key: &'static str, at: Millis) {
        self.quoted(key, |out| at.push_utc(out));
    }

    /// An amount.
    #[inline]
    pub(super) fn money(&mut self, key: &'static str, amount: Money) {
        self.quoted(key, |out| amount.push(out));
    }

    /// An amount, or null.
    #[inline]
    pub(super) fn money_or_null(&mut self, key: &'static str, amount: Option<Money>) {
        self.or_null(key, amount, Self::money);
    }

    /// A sum of amounts, in millionths.
    #[inline]
    pub(super) fn sum(&mut self, key: &'static str, micros: i128) {
        self.quoted(key, |out| push_micros(micros, out));
    }
}
