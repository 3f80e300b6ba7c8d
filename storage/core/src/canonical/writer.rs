//! The members of a row, one behind another, as its version has them.

use super::{Shown, push_integer};
use crate::hash::{Hash, push_hex};
use crate::personal::Salt;
use crate::row::{Record, Row, Sms, System};
use crate::rules::SchemaVersion;
use crate::schema::member::{Member, key};
use crate::schema::sms::sms_members;

/// A row on its way into bytes: each method writes a member that every row has, with the comma before it.
pub(super) struct Writer<'w, 'a> {
    pub(super) row: &'w Row<'a>,
    pub(super) personal_hash: Option<&'w Hash>,
    pub(super) shown: Shown<'w>,
}

/// Appends a member of a CDR, if this version has it and it is shown.
macro_rules! push_member {
    (open, $name:literal, $value:expr, $shows_personal:expr, $out:expr) => {
        $value.push_member(key!($name), $out);
    };
    (personal, $name:literal, $value:expr, $shows_personal:expr, $out:expr) => {
        if $shows_personal {
            push_member!(open, $name, $value, true, $out);
        }
    };
}

macro_rules! push_sms {
    (
        ($writer:ident $sms:ident $adjustment:ident $version:ident $shows_personal:ident $out:ident)
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $adjustment_name:literal $adjusted:ident $adjustment_class:ident)?
            $(local $local_name:literal)?
            $(field $name:literal $field:ident $variant:ident $since:ident $class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {$(
        $($writer.$frame($out);)?
        $(push_member! {
            $adjustment_class, $adjustment_name, $adjustment.map(|it| it.$adjusted), $shows_personal, $out
        })?
        $(push_member! { open, $local_name, $sms.local_time(), true, $out })?
        $(if $version >= SchemaVersion::$since as u8 {
            push_member! { $class, $name, $sms.$field, $shows_personal, $out }
        })?
    )+};
}

macro_rules! push_personal_member {
    (personal, $name:literal, $value:expr, $out:expr) => {
        push_member! { open, $name, $value, true, $out }
    };
    (open, $name:literal, $value:expr, $out:expr) => {};
}

macro_rules! push_personal_members {
    (
        ($sms:ident $adjustment:ident $version:ident $out:ident)
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $adjustment_name:literal $adjusted:ident $adjustment_class:ident)?
            $(local $local_name:literal)?
            $(field $name:literal $field:ident $variant:ident $since:ident $class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {$(
        $(push_personal_member! {
            $adjustment_class, $adjustment_name, $adjustment.map(|it| it.$adjusted), $out
        })?
        $(if $version >= SchemaVersion::$since as u8 {
            push_personal_member! { $class, $name, $sms.$field, $out }
        })?
    )+};
}

/// Runs `$function` with the number of `$version` as a constant: there is code of its own for every version.
macro_rules! of_version {
    ($version:expr, $number:ident => $call:expr) => {
        match $version {
            SchemaVersion::V2 => {
                const $number: u8 = SchemaVersion::V2 as u8;
                $call
            }
            SchemaVersion::V3 => {
                const $number: u8 = SchemaVersion::V3 as u8;
                $call
            }
        }
    };
}

/// Appends a CDR's personal data with their salt.
pub(super) fn push_personal(sms: &Sms<'_>, version: SchemaVersion, salt: Salt, out: &mut Vec<u8>) {
    of_version!(version, V => push_personal_of::<V>(sms, salt, out));
}

fn push_personal_of<const V: u8>(sms: &Sms<'_>, salt: Salt, out: &mut Vec<u8>) {
    let (start, adjustment) = (out.len(), sms.adjustment.as_ref());
    sms_members!(push_personal_members sms adjustment V out);
    push_salt(salt, out);
    out.push(b'}');
    out[start] = b'{';
}

fn push_salt(salt: Salt, out: &mut Vec<u8>) {
    // It comes behind all other personal members, as `schema` makes sure when it is compiled.
    out.extend_from_slice(b",\"salt\":\"");
    push_hex(out, &salt.0);
    out.push(b'"');
}

impl Writer<'_, '_> {
    /// Appends a CDR.
    pub(super) fn push_sms(&self, sms: &Sms<'_>, out: &mut Vec<u8>) {
        of_version!(self.row.version, V => self.push_sms_of::<V>(sms, out));
    }

    fn push_sms_of<const V: u8>(&self, sms: &Sms<'_>, out: &mut Vec<u8>) {
        let (start, adjustment) = (out.len(), sms.adjustment.as_ref());
        let shows_personal = matches!(self.shown, Shown::Flat(..));
        sms_members!(push_sms self sms adjustment V shows_personal out);
        out.push(b'}');
        out[start] = b'{';
    }

    /// Appends a system row, whose personal data are not among its members.
    pub(super) fn push_system(&self, system: &System<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"body\":");
        out.extend_from_slice(system.body.as_bytes());
        self.bucket_hour(out);
        self.cdr_id(out);
        self.cdr_sequence(out);
        self.chain_hash_prev(out);
        self.operator_id(out);
        self.personal(out);
        self.personal_hash(out);
        self.record_type(out);
        self.recorded_at(out);
        self.row_hash(out);
        self.schema_version(out);
        self.source(out);
        self.trace_id(out);
        out.push(b'}');
    }

    fn bucket_hour(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"bucketHour\":\"");
        self.row.frame.bucket_hour.push_utc(out);
        out.push(b'"');
    }

    fn cdr_id(&self, out: &mut Vec<u8>) {
        self.row.frame.cdr_id.push_member(key!("cdrId"), out);
    }

    fn cdr_sequence(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"cdrSequence\":");
        push_integer(out, self.row.frame.sequence);
    }

    fn chain_hash_prev(&self, out: &mut Vec<u8>) {
        push_hash(b",\"chainHashPrev\":\"", &self.row.frame.chain_prev, out);
    }

    fn operator_id(&self, out: &mut Vec<u8>) {
        self.row.frame.operator_id.push_member(key!("operatorId"), out);
    }

    fn personal(&self, out: &mut Vec<u8>) {
        if matches!(self.shown, Shown::Nested(_)) {
            out.extend_from_slice(b",\"personal\":");
            match self.personal_hash {
                Some(_) => super::push_personal(self.row, out),
                None => out.extend_from_slice(b"null"),
            }
        }
    }

    fn personal_hash(&self, out: &mut Vec<u8>) {
        match self.personal_hash {
            Some(hash) => push_hash(b",\"personalHash\":\"", hash, out),
            None => out.extend_from_slice(b",\"personalHash\":null"),
        }
    }

    fn record_type(&self, out: &mut Vec<u8>) {
        match &self.row.record {
            Record::Sms(_) => out.extend_from_slice(b",\"recordType\":\"sms\""),
            Record::System(system) => {
                out.extend_from_slice(b",\"recordType\":");
                out.extend_from_slice(system.kind.as_json().as_bytes());
            }
        }
    }

    fn recorded_at(&self, out: &mut Vec<u8>) {
        self.row.frame.recorded_at.push_member(key!("recordedAt"), out);
    }

    fn row_hash(&self, out: &mut Vec<u8>) {
        if let Shown::Nested(row_hash) | Shown::Flat(row_hash, _) = self.shown {
            push_hash(b",\"rowHash\":\"", row_hash, out);
        }
    }

    fn salt(&self, out: &mut Vec<u8>) {
        if let Shown::Flat(_, Some(salt)) = self.shown {
            push_salt(salt, out);
        }
    }

    fn schema_version(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.row.version {
            SchemaVersion::V2 => b",\"schemaVersion\":\"2\"",
            SchemaVersion::V3 => b",\"schemaVersion\":\"3\"",
        });
    }

    fn source(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"source\":{\"sequence\":");
        push_integer(out, self.row.frame.source_sequence);
        self.row.frame.source_stream.push_member(key!("stream"), out);
        out.push(b'}');
    }

    fn trace_id(&self, out: &mut Vec<u8>) {
        self.row.frame.trace_id.push_member(key!("traceId"), out);
    }
}

fn push_hash(key: &[u8], hash: &Hash, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    push_hex(out, hash);
    out.push(b'"');
}
