//! The fields of a CDR: the one definition from which everything else about them follows.
//!
//! A new optional field is a line behind `later` in the structure, with the `schemaVersion` that brings it, and a line
//! in the table of members, where RFC 8785 puts it. From these two follow the encoding of drafts, the canonical bytes,
//! the members of a record and of its personal data, reading, masking, corrections, what events say of changes, and
//! the sources of settlement files.

use super::member::Local;
use crate::codec::{CodecError, encode_bare};
use crate::id::{CdrId, Uuid};
use crate::money::Money;
use crate::row::{AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState};
use crate::rules::SchemaVersion;
use crate::time::Millis;
use bincode::de::BorrowDecoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Encode};

/// Declares a structure of the fields that every version has, in the order in which they are encoded, and of those
/// that later versions added, which are encoded behind everything else of a draft; each with its value in a blank one.
macro_rules! versioned {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $blank:expr,)+
        }
        later {
            $($(#[$later_doc:meta])* $since:ident $later:ident: $later_type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name<'a> {
            $($(#[$field_doc])* pub $field: $type,)+
            $($(#[$later_doc])* pub $later: Option<$later_type>,)*
        }

        impl $name<'static> {
            /// A delivered message of one segment and without a price, whose texts are empty: what a literal that
            /// names only what matters to it ends with.
            pub const BLANK: Self = Self { $($field: $blank,)+ $($later: None,)* };
        }

        impl Encode for $name<'_> {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $(self.$field.encode(encoder)?;)+
                Ok(())
            }
        }

        impl<'a> BorrowDecode<'a, SchemaVersion> for $name<'a> {
            fn borrow_decode<D>(decoder: &mut D) -> Result<Self, DecodeError>
            where
                D: BorrowDecoder<'a, Context = SchemaVersion>,
            {
                let version = *decoder.context();
                Ok(Self {
                    $($field: BorrowDecode::borrow_decode(decoder)?,)+
                    $($later: if version >= SchemaVersion::$since {
                        BorrowDecode::borrow_decode(decoder)?
                    } else {
                        None
                    },)*
                })
            }
        }

        impl $name<'_> {
            /// Appends the fields that came after the first version.
            pub(crate) fn encode_later(&self, version: SchemaVersion, out: &mut Vec<u8>) -> Result<(), CodecError> {
                $(
                    if version >= SchemaVersion::$since {
                        encode_bare("draft", &self.$later, out)?;
                    } else if self.$later.is_some() {
                        let why = format!("rows of schemaVersion {version} have no {}", stringify!($later));
                        return Err(CodecError::Encode { what: "draft", why });
                    }
                )*
                Ok(())
            }
        }
    };
}

versioned! {
    /// The fields of a canonical CDR (US-CDR-001) and of its adjustments.
    pub struct Sms {
        /// Message that was charged; decides what is a duplicate.
        message_id: Uuid = Uuid([0; 16]),
        /// Submitter, where there is one.
        tenant_id: Option<Uuid> = None,
        /// Sender: E.164 or alphanumeric.
        calling_party: &'a str = "",
        /// Recipient, E.164.
        called_party: &'a str = "",
        /// Subscriber's number before porting, E.164.
        original_served_subscriber: Option<&'a str> = None,
        /// TAP recording entity of the operator.
        recording_entity: &'a str = "",
        /// SMSC address, E.164.
        service_center: &'a str = "",
        /// The operator's reference of the message.
        message_reference: &'a str = "",
        /// Final state's time.
        event_at: Millis = Millis(0),
        /// Offset of the settlement zone at `event_at`, in minutes east of UTC.
        local_offset_minutes: i16 = 0,
        /// Submission time, where known.
        submitted_at: Option<Millis> = None,
        /// Charge; none while unpriced.
        charge_amount: Option<Money> = None,
        /// Currency of the charge, ISO 4217.
        charge_currency: Option<&'a str> = None,
        /// The regulator's tariff class.
        tap_tariff_class: Option<&'a str> = None,
        /// Price list that gave the charge.
        tariff_version: Option<&'a str> = None,
        /// What was charged for.
        charge_type: ChargeType = ChargeType::A2p,
        /// Who pays.
        billing_indicator: BillingIndicator = BillingIndicator::Unknown,
        /// Direction at the operator.
        direction: Direction = Direction::Mt,
        /// Text encoding.
        encoding: Encoding = Encoding::Gsm7,
        /// Final delivery state.
        final_state: FinalState = FinalState::Delivered,
        /// Segments, 1 to 255.
        segment_count: u8 = 1,
        /// Operator's failure code, where it is one.
        failure_code: Option<&'a str> = None,
        /// What an operator sent in place of a failure code.
        failure_text: Option<&'a str> = None,
        /// Subscriber identity, 6 to 15 digits.
        imsi: Option<&'a str> = None,
        /// Present in adjustment rows only.
        adjustment: Option<Adjustment<'a>> = None,
    }
    later {
        /// Id under which the submitter knows the message: a code of at most 64 characters.
        V3 correlation_id: &'a str,
    }
}

/// What makes a row an adjustment (US-CDR-016 to 018).
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct Adjustment<'a> {
    /// Direct predecessor.
    pub of: CdrId,
    /// Kind of the adjustment.
    pub kind: AdjustmentType,
    /// Reason in words.
    pub reason: Option<&'a str>,
    /// Code of a void.
    pub void_reason: Option<&'a str>,
    /// Ticket that requested it.
    pub ticket_id: Option<&'a str>,
    /// Who issued it.
    pub issued_by: Option<&'a str>,
    /// Who approved it.
    pub approver: Option<&'a str>,
}

/// The table of all members that an `sms` row has, or that stand beside it, in canonical order. `$then` gets `$context`
/// and then the lines:
///
/// - `frame "name" method class`: of every row; `method` of the canonicaliser writes it,
/// - `adjustment "name" field class`: of [`Adjustment`], null in an original,
/// - `local "name"`: the local time, which follows from two fields,
/// - `field "name" field Variant since class kind group correctable`: of [`Sms`].
///
/// The class is `open` (hashed in the row), `personal` (hashed with the salt) or `beside` (not hashed). Of a field, kind
/// and group are those of [`super::Kind`] and [`super::Group`], and a correction may name those that are `corrected`.
macro_rules! sms_members {
    ($then:ident $($context:tt)*) => {
        $then! { ($($context)*)
            adjustment "adjustmentOf" of open;
            adjustment "adjustmentReason" reason personal;
            adjustment "adjustmentType" kind open;
            adjustment "approverUserId" approver open;
            field "billingIndicator" billing_indicator BillingIndicator V2 open Choice Price corrected;
            frame "bucketHour" bucket_hour open;
            field "calledPartyAddress" called_party CalledParty V2 personal Number Other corrected;
            field "callingPartyAddress" calling_party CallingParty V2 personal Number Other corrected;
            frame "cdrId" cdr_id open;
            frame "cdrSequence" cdr_sequence open;
            frame "chainHashPrev" chain_hash_prev open;
            field "chargeAmount" charge_amount ChargeAmount V2 open Money Price corrected;
            field "chargeCurrency" charge_currency ChargeCurrency V2 open Text Price corrected;
            field "chargeType" charge_type ChargeType V2 open Choice Other corrected;
            field "correlationId" correlation_id CorrelationId V3 open Code Other corrected;
            field "direction" direction Direction V2 open Choice Other corrected;
            field "encoding" encoding Encoding V2 open Choice Other corrected;
            field "eventTimeStamp" event_at EventTime V2 open Instant Outcome corrected;
            field "failureCode" failure_code FailureCode V2 open Code Outcome corrected;
            field "failureText" failure_text FailureText V2 personal Words Outcome kept;
            field "finalState" final_state FinalState V2 open Choice Outcome corrected;
            field "imsi" imsi Imsi V2 personal Identity Other corrected;
            adjustment "issuedByUserId" issued_by open;
            local "localTimeStamp";
            field "messageId" message_id MessageId V2 open Id Other kept;
            field "messageReference" message_reference MessageReference V2 open Text Other corrected;
            frame "operatorId" operator_id open;
            field "originalServedSubscriberId" original_served_subscriber OriginalServedSubscriber V2 personal Number Other corrected;
            frame "personal" personal beside;
            frame "personalHash" personal_hash open;
            frame "recordType" record_type open;
            frame "recordedAt" recorded_at open;
            field "recordingEntity" recording_entity RecordingEntity V2 open Text Other kept;
            frame "rowHash" row_hash beside;
            frame "salt" salt beside;
            frame "schemaVersion" schema_version open;
            field "segmentCount" segment_count SegmentCount V2 open Integer Other corrected;
            field "serviceCenterAddress" service_center ServiceCenter V2 open Text Other corrected;
            frame "source" source open;
            field "submittedAt" submitted_at SubmittedAt V2 open Instant Other corrected;
            field "tapTariffClass" tap_tariff_class TapTariffClass V2 open Text Price corrected;
            field "tariffVersion" tariff_version TariffVersion V2 open Text Price corrected;
            field "tenantId" tenant_id TenantId V2 open Id Other corrected;
            adjustment "ticketId" ticket_id open;
            frame "traceId" trace_id open;
            adjustment "voidReason" void_reason open;
        }
    };
}
pub(crate) use sms_members;

impl<'a> Sms<'a> {
    /// What the operator sent as its reason for a failure, a code or not.
    pub fn failure(&self) -> Option<&'a str> {
        self.failure_code.or(self.failure_text)
    }

    /// The event's time in the settlement zone.
    pub(crate) fn local_time(&self) -> Local {
        Local { at: self.event_at, offset_minutes: self.local_offset_minutes }
    }
}
