//! Reading a CDR row back from its JSON, as the API answers it.
//!
//! Reading proves nothing; only its hash proves a row.

use crate::hash::from_hex;
use crate::id::CdrId;
use crate::personal::{SALT, Salt};
use crate::row::{Adjustment, Frame, Record, Row, Sms};
use crate::rules::{Build, SchemaVersion};
use crate::schema::member::{Local, Member};
use crate::schema::sms::sms_members;
use crate::schema::{self, SchemaError, Value};
use crate::time::{Hour, Millis};
use serde_json::{Map, Value as Json};

/// The CDR or adjustment in a record as the API answers it to whoever may see numbers, of a version that this build
/// knows. `rowHash` and `personalHash` are ignored: they follow.
///
/// # Errors
/// [`SchemaError`]; a masked record has no salt.
pub fn cdr_row(json: &Map<String, Json>) -> Result<Row<'_>, SchemaError> {
    cdr_row_as(json, Build::THIS)
}

/// As [`cdr_row`], of a version that `build` knows.
///
/// # Errors
/// As [`cdr_row`].
pub fn cdr_row_as(json: &Map<String, Json>, build: Build) -> Result<Row<'_>, SchemaError> {
    let fields = Fields(json);
    if fields.member::<&str>("recordType")? != "sms" {
        return Err(SchemaError::Field { field: "recordType" });
    }
    let version = schema::version_of(json, build)?;
    schema::check_record(json, version)?;
    let source = match json.get("source") {
        Some(Json::Object(source)) => Fields(source),
        _ => return Err(SchemaError::Field { field: "source" }),
    };
    Ok(Row {
        version,
        frame: Frame {
            bucket_hour: fields.read("bucketHour", Hour::parse)?,
            sequence: fields.integer("cdrSequence")?,
            chain_prev: fields.read("chainHashPrev", from_hex)?,
            recorded_at: fields.member::<Millis>("recordedAt")?,
            source_stream: source.member("stream")?,
            source_sequence: source.integer("sequence")?,
            cdr_id: fields.member("cdrId")?,
            operator_id: fields.member("operatorId")?,
            trace_id: fields.member("traceId")?,
        },
        salt: fields.read(SALT, Salt::parse)?,
        record: Record::Sms(fields.sms(version)?),
    })
}

macro_rules! read_sms {
    (
        ($fields:ident $version:ident)
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $adjustment_name:literal $adjusted:ident $adjustment_class:ident)?
            $(local $local_name:literal)?
            $(field $name:literal $field:ident $variant:ident $since:ident $class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {
        Sms {
            $($($field: $fields.since($name, SchemaVersion::$since, $version)?,)?)+
            local_offset_minutes: $($($fields.member::<Local>($local_name)?.offset_minutes,)?)+
            adjustment: $fields.adjustment()?,
        }
    };
}

macro_rules! read_adjustment {
    (
        ($fields:ident)
        $(
            $(frame $frame_name:literal $frame:ident $frame_class:ident)?
            $(adjustment $name:literal $field:ident $class:ident)?
            $(local $local_name:literal)?
            $(field $field_name:literal $sms:ident $variant:ident $since:ident $sms_class:ident $kind:ident $group:ident $corrected:ident)?
            ;
        )+
    ) => {
        Adjustment { $($($field: $fields.member($name)?,)?)+ }
    };
}

struct Fields<'a>(&'a Map<String, Json>);

impl<'a> Fields<'a> {
    fn sms(&self, version: SchemaVersion) -> Result<Sms<'a>, SchemaError> {
        Ok(sms_members!(read_sms self version))
    }

    fn adjustment(&self) -> Result<Option<Adjustment<'a>>, SchemaError> {
        if self.member::<Option<CdrId>>("adjustmentOf")?.is_none() {
            return Ok(None);
        }
        Ok(Some(sms_members!(read_adjustment self)))
    }

    /// A member; absent where the row's version does not have it.
    fn since<T: Member<'a>>(
        &self,
        field: &'static str,
        since: SchemaVersion,
        version: SchemaVersion,
    ) -> Result<T, SchemaError> {
        if version < since {
            return T::of_value(Value::Absent).ok_or(SchemaError::Field { field });
        }
        self.member(field)
    }

    fn member<T: Member<'a>>(&self, field: &'static str) -> Result<T, SchemaError> {
        self.value(field).and_then(T::of_value).ok_or(SchemaError::Field { field })
    }

    fn integer(&self, field: &'static str) -> Result<u64, SchemaError> {
        match self.value(field) {
            Some(Value::Integer(integer)) => Ok(integer),
            _ => Err(SchemaError::Field { field }),
        }
    }

    fn read<T>(&self, field: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, SchemaError> {
        self.value(field).and_then(Value::text).and_then(read).ok_or(SchemaError::Field { field })
    }

    fn value(&self, field: &'static str) -> Option<Value<'a>> {
        self.0.get(field).and_then(Value::of_json)
    }
}
