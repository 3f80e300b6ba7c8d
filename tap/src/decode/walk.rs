//! Items in memory, compared with the shape of the module.

use super::tlv::{self, Header};
use crate::asn1::{Kind, NodeId, Shape, Tag};
use crate::error::DecodeError;

/// Records a primitive item: which it is, its content, its place in the file.
type Seen<'a> = dyn FnMut(NodeId, &[u8], u64) -> Result<(), DecodeError> + 'a;

/// Walks items and shows every primitive one.
pub(super) struct Walker<'a> {
    pub(super) shape: &'a Shape,
    pub(super) seen: &'a mut Seen<'a>,
}

impl Walker<'_> {
    /// An item that may be an untagged choice.
    pub(super) fn item(&mut self, node: NodeId, header: Header, content: &[u8]) -> Result<(), DecodeError> {
        let found = self.shape.alternative(node, header.tag);
        let found = found.ok_or_else(|| unknown(self.shape, node, header.tag, header.offset))?;
        self.content(found, 0, header, content)
    }

    /// The content of an item of which `depth` tags were read before the one in `header`.
    pub(super) fn content(
        &mut self,
        node: NodeId,
        depth: usize,
        header: Header,
        content: &[u8],
    ) -> Result<(), DecodeError> {
        let item = self.shape.node(node);
        let offset = header.offset + header.octets as u64;
        if depth + 1 < item.tags.len() {
            header.need_constructed(&item.path)?;
            let inner = tlv::header(content, offset)?;
            inner.need_tag(item.tags[depth + 1])?;
            let body = only(inner, content)?;
            return self.content(node, depth + 1, inner, body);
        }
        match &item.kind {
            Kind::Integer | Kind::Octets => {
                if header.is_constructed {
                    return Err(DecodeError::at(header.offset, format!("{} is constructed", item.path)));
                }
                if let Some((least, most)) = item.size
                    && !(least..=most).contains(&content.len())
                {
                    let why = format!(
                        "{} has {} octets, but {least} to {most} are allowed",
                        item.path,
                        content.len()
                    );
                    return Err(DecodeError::at(header.offset, why));
                }
                (self.seen)(node, content, header.offset)
            }
            Kind::Choice(_) => {
                header.need_constructed(&item.path)?;
                let inner = tlv::header(content, offset)?;
                let body = only(inner, content)?;
                let found = self.shape.option(node, inner.tag);
                let found = found.ok_or_else(|| unknown(self.shape, node, inner.tag, inner.offset))?;
                self.content(found, 0, inner, body)
            }
            Kind::Sequence(_) => {
                header.need_constructed(&item.path)?;
                let mut position = 0;
                let shape = self.shape;
                each(content, offset, |inner, body| {
                    let (found, next) = member(shape, node, position, inner.tag, inner.offset)?;
                    position = next;
                    self.item(found, inner, body)
                })?;
                nothing_missing(shape, node, position, header.offset)
            }
            Kind::SequenceOf(element) => {
                header.need_constructed(&item.path)?;
                each(content, offset, |inner, body| self.item(*element, inner, body))
            }
        }
    }
}

/// Calls `seen` for each item of a content.
fn each(
    content: &[u8],
    offset: u64,
    mut seen: impl FnMut(Header, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut at = 0;
    while at < content.len() {
        let header = tlv::header(&content[at..], offset + at as u64)?;
        let start = at + header.octets;
        at = start + header.length as usize;
        seen(header, &content[start..at])?;
    }
    Ok(())
}

/// The content of the item `header`, which must fill `bytes`.
fn only(header: Header, bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if header.octets as u64 + header.length == bytes.len() as u64 {
        Ok(&bytes[header.octets..])
    } else {
        Err(DecodeError::at(header.offset, "something follows in the item"))
    }
}

fn unknown(shape: &Shape, node: NodeId, tag: Tag, offset: u64) -> DecodeError {
    DecodeError::at(offset, format!("{} has no item {tag} here", shape.node(node).display()))
}

/// The member of `node` that begins with `tag`, at `position` or after it, and the position behind it.
pub(super) fn member(
    shape: &Shape,
    node: NodeId,
    position: usize,
    tag: Tag,
    offset: u64,
) -> Result<(NodeId, usize), DecodeError> {
    let Kind::Sequence(members) = &shape.node(node).kind else {
        return Err(unknown(shape, node, tag, offset));
    };
    let found = (position..members.len()).find(|&at| shape.begins_with(members[at], tag));
    let found = found.ok_or_else(|| unknown(shape, node, tag, offset))?;
    skipped(shape, &members[position..found], offset)?;
    let child = shape.alternative(members[found], tag).unwrap_or(members[found]);
    Ok((child, found + 1))
}

/// The members of `node` from `position` on are optional.
pub(super) fn nothing_missing(
    shape: &Shape,
    node: NodeId,
    position: usize,
    offset: u64,
) -> Result<(), DecodeError> {
    match &shape.node(node).kind {
        Kind::Sequence(members) => skipped(shape, &members[position..], offset),
        _ => Ok(()),
    }
}

fn skipped(shape: &Shape, members: &[NodeId], offset: u64) -> Result<(), DecodeError> {
    match members.iter().find(|&&member| !shape.node(member).is_optional) {
        Some(&member) => Err(DecodeError::at(offset, format!("{} is missing", shape.node(member).path))),
        None => Ok(()),
    }
}
