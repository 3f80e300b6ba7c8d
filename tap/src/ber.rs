//! Writing a plan through `rasn`'s BER encoder, with tags that were not known when this was compiled.

use super::asn1::Tag as WireTag;
use super::error::EncodeError;
use super::plan::{Fixed, Plan, Scratch, Slot, StepKind};
use rasn::Encoder as _;
use rasn::ber::enc::{Encoder, EncoderOptions};
use rasn::types::fields::Fields;
use rasn::types::{Any, Class, Constraints, Constructed, Identifier, Tag};

/// The tag as `rasn` names it.
pub(super) fn tag(tag: WireTag) -> Tag {
    let class = match tag.class {
        0 => Class::Universal,
        1 => Class::Application,
        2 => Class::Context,
        _ => Class::Private,
    };
    Tag::new(class, tag.number)
}

/// A SEQUENCE whose fields are known at run time only. BER does not need them.
struct Dynamic;

impl Constructed<0, 0> for Dynamic {
    const FIELDS: Fields<0> = Fields::from_static([]);
}

/// Encodes the evaluated `plan` into `buffer`, whose content is dropped, and gives it back.
///
/// # Errors
/// What `rasn` refuses; with values that fit their plan there is nothing.
pub(super) fn encode(plan: &Plan, scratch: &Scratch, buffer: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new_with_buffer(EncoderOptions::ber(), buffer);
    emit(&mut encoder, plan, scratch, 0, plan.steps.len()).map_err(|error| refused(&error))?;
    Ok(encoder.output())
}

fn refused(error: &rasn::error::EncodeError) -> EncodeError {
    EncodeError::new("record", "BER", error.to_string())
}

/// Writes the steps from `step` up to `end`.
fn emit(
    encoder: &mut Encoder,
    plan: &Plan,
    scratch: &Scratch,
    mut step: usize,
    end: usize,
) -> Result<(), rasn::error::EncodeError> {
    let unconstrained = Constraints::default();
    while step < end {
        let next = plan.steps[step].end;
        match (&plan.steps[step].kind, scratch.slots[step]) {
            (_, Slot::Absent) => {}
            (StepKind::Group { tag, .. }, _) => {
                let inside = |encoder: &mut Encoder| emit(encoder, plan, scratch, step + 1, next);
                encoder.encode_sequence::<0, 0, Dynamic, _>(*tag, inside, Identifier::EMPTY)?;
            }
            (StepKind::Constant(encoded), _) => encoder.encode_any(Tag::EOC, encoded, Identifier::EMPTY)?,
            (StepKind::Item { tag, .. }, Slot::Integer(number)) => match i64::try_from(number) {
                Ok(number) => encoder.encode_integer(*tag, &unconstrained, &number, Identifier::EMPTY)?,
                Err(_) => encoder.encode_integer(*tag, &unconstrained, &number, Identifier::EMPTY)?,
            },
            (StepKind::Item { tag, .. }, Slot::Bytes { start, end }) => {
                let content = &scratch.bytes[start..end];
                encoder.encode_octet_string(*tag, &unconstrained, content, Identifier::EMPTY)?;
            }
            (StepKind::Encoded { .. } | StepKind::Offsets(_), Slot::Bytes { start, end }) => {
                let encoded = Any::new(scratch.bytes[start..end].to_vec());
                encoder.encode_any(Tag::EOC, &encoded, Identifier::EMPTY)?;
            }
            // No other slot follows from these steps.
            (StepKind::Item { .. } | StepKind::Encoded { .. } | StepKind::Offsets(_), _) => {}
        }
        step = next;
    }
    Ok(())
}

/// A primitive item with a constant.
pub(super) fn constant(tag: Tag, fixed: &Fixed) -> Result<Any, EncodeError> {
    let mut encoder = Encoder::new(EncoderOptions::ber());
    let unconstrained = Constraints::default();
    match fixed {
        Fixed::Integer(number) => encoder.encode_integer(tag, &unconstrained, number, Identifier::EMPTY),
        Fixed::Bytes(bytes) => encoder.encode_octet_string(tag, &unconstrained, bytes, Identifier::EMPTY),
    }
    .map_err(|error| refused(&error))?;
    Ok(Any::new(encoder.output()))
}

/// Identifier and length octets of a constructed item whose content is written by others: it is in a spool file.
/// `rasn` has the identifier; it writes no length without the content.
pub(super) fn header(tag: Tag, length: u64) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(EncoderOptions::ber());
    encoder
        .encode_sequence::<0, 0, Dynamic, _>(tag, |_| Ok(()), Identifier::EMPTY)
        .map_err(|error| refused(&error))?;
    let mut out = encoder.output();
    out.pop();
    if length < 128 {
        out.push(length as u8);
    } else {
        let octets = length.to_be_bytes();
        let significant = &octets[length.leading_zeros() as usize / 8..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_shortest_length() {
        let tag = tag(WireTag { class: 1, number: 534 });
        let of = |length| header(tag, length).unwrap();
        assert_eq!(of(5), [0x7f, 0x84, 0x16, 5]);
        assert_eq!(of(127), [0x7f, 0x84, 0x16, 127]);
        assert_eq!(of(128), [0x7f, 0x84, 0x16, 0x81, 128]);
        assert_eq!(of(0x1_0000), [0x7f, 0x84, 0x16, 0x83, 1, 0, 0]);
        assert_eq!(of(u64::MAX)[3..5], [0x88, 0xff]);
    }
}
