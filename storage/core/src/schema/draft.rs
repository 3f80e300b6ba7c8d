//! Drafts: encoded behind the number of their `schemaVersion`, and legal only under rules that have it.

use crate::codec::{CodecError, decode_in, encode_bare};
use crate::command::Rejection;
use crate::row::{Draft, Record};
use crate::rules::{Build, Rules, SchemaVersion};
use crate::schema::unknown;
use bincode::BorrowDecode;
use bincode::de::BorrowDecoder;
use bincode::error::DecodeError;

impl<'a> BorrowDecode<'a, SchemaVersion> for Draft<'a> {
    fn borrow_decode<D>(decoder: &mut D) -> Result<Self, DecodeError>
    where
        D: BorrowDecoder<'a, Context = SchemaVersion>,
    {
        Ok(Self {
            version: *decoder.context(),
            cdr_id: BorrowDecode::borrow_decode(decoder)?,
            operator_id: BorrowDecode::borrow_decode(decoder)?,
            trace_id: BorrowDecode::borrow_decode(decoder)?,
            salt: BorrowDecode::borrow_decode(decoder)?,
            record: BorrowDecode::borrow_decode(decoder)?,
        })
    }
}

impl<'a> Draft<'a> {
    /// Appends the encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.push(self.version.number());
        let bare = (self.cdr_id, self.operator_id, self.trace_id, self.salt, &self.record);
        encode_bare("draft", &bare, out)?;
        match &self.record {
            Record::Sms(sms) => sms.encode_later(self.version, out),
            Record::System(_) => Ok(()),
        }
    }

    /// Reads what [`Draft::encode`] wrote, if `build` knows the version.
    pub(crate) fn decode(bytes: &'a [u8], build: Build) -> Result<Self, CodecError> {
        let Some((number, rest)) = bytes.split_first() else {
            return Err(CodecError::Damaged { what: "draft", why: "it is empty".to_owned() });
        };
        let version = build.schema(*number).ok_or_else(|| unknown(number, build))?;
        decode_in("draft", rest, version)
    }

    /// Whether a row of this version may be written under these rules.
    ///
    /// # Errors
    /// [`Rejection::Illegal`].
    pub fn allowed_under(&self, rules: Rules) -> Result<(), Rejection> {
        let (version, needed) = (self.version, self.version.rules());
        if needed <= rules {
            return Ok(());
        }
        let why =
            format!("rows of schemaVersion {version} need rules version {needed}, and {rules} are in force");
        Err(Rejection::Illegal { why })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::personal::Salt;
    use crate::row::Sms;
    use crate::{CdrId, codec};

    fn draft(version: SchemaVersion, correlation_id: Option<&str>) -> Draft<'_> {
        let record = Record::Sms(Sms { correlation_id, ..Sms::BLANK });
        let (cdr_id, salt) = (CdrId([1; 16]), Salt([2; 16]));
        Draft { version, cdr_id, operator_id: "AWCC", trace_id: "t", salt, record }
    }

    fn encoded(draft: &Draft<'_>) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::new();
        codec::encode_draft(draft, &mut out).map(|()| out)
    }

    #[test]
    fn a_later_version_adds_its_fields_at_the_end() {
        let (two, three) = (draft(SchemaVersion::V2, None), draft(SchemaVersion::V3, Some("order-7")));
        let (old, new) = (encoded(&two).unwrap(), encoded(&three).unwrap());
        assert_eq!((old[0], new[0]), (2, 3));
        assert_eq!(new[1..], [&old[1..], &[1, 7], b"order-7"].concat());
        assert_eq!(codec::decode_draft(&old), Ok(two));
        assert_eq!(codec::decode_draft(&new), Ok(three));
        let none = encoded(&draft(SchemaVersion::V3, None)).unwrap();
        assert_eq!(none[1..], [&old[1..], &[0]].concat());
    }

    #[test]
    fn a_field_is_never_dropped_because_the_version_has_it_not() {
        let error = encoded(&draft(SchemaVersion::V2, Some("order-7"))).unwrap_err();
        assert!(error.to_string().contains("schemaVersion 2 have no correlation_id"), "{error}");
    }

    #[test]
    fn drafts_are_whole_and_nothing_more() {
        for draft in [draft(SchemaVersion::V2, None), draft(SchemaVersion::V3, Some("order-7"))] {
            let mut bytes = encoded(&draft).unwrap();
            for end in 0..bytes.len() {
                assert!(
                    matches!(codec::decode_draft(&bytes[..end]), Err(CodecError::Damaged { .. })),
                    "{end}"
                );
            }
            bytes.push(0);
            assert!(matches!(codec::decode_draft(&bytes), Err(CodecError::Damaged { .. })));
        }
    }

    #[test]
    fn a_version_that_a_build_does_not_know_is_named_and_is_no_damage() {
        let mut bytes = encoded(&draft(SchemaVersion::V3, None)).unwrap();
        let refused = codec::decode_draft_as(&bytes, Build::THIS).unwrap_err();
        assert!(matches!(refused, CodecError::NeedsBuild(_)));
        let (next, text) = (Build::NEXT.version.to_string(), refused.to_string());
        assert!(
            text.contains("a row of schemaVersion 3, which needs build") && text.contains(&next),
            "{text}"
        );
        assert!(codec::decode_draft_as(&bytes, Build::NEXT).is_ok());
        bytes[0] = 4;
        let unheard = codec::decode_draft(&bytes).unwrap_err();
        assert!(matches!(unheard, CodecError::NeedsBuild(_)));
        assert!(unheard.to_string().contains("a later version"), "{unheard}");
    }

    #[test]
    fn rows_of_a_version_need_its_rules() {
        let (two, three) = (draft(SchemaVersion::V2, None), draft(SchemaVersion::V3, None));
        assert_eq!((two.allowed_under(Rules::FIRST), two.allowed_under(Rules::TEST_ONLY)), (Ok(()), Ok(())));
        assert_eq!(three.allowed_under(Rules::TEST_ONLY), Ok(()));
        let Err(Rejection::Illegal { why }) = three.allowed_under(Rules::FIRST) else {
            panic!("it is allowed")
        };
        assert!(why.contains("schemaVersion 3 need rules version 2, and 1"), "{why}");
    }
}
