//! ASN.1 modules at run time: parsed by `rasn-compiler`, checked, resolved to tags.
//!
//! The compiler takes duplicate and dangling names without a word, and knows no lines; [`scan`] reads the same text
//! for both. What comes out is a [`Shape`]: the tree of everything that may stand in a file, each item with the tags
//! that are on the wire.

mod check;
mod compiler;
mod scan;
mod shape;

pub(super) use compiler::compile;
pub(super) use shape::{Kind, NodeId, Shape};

/// A tag on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tag {
    /// 0 universal, 1 application, 2 context, 3 private.
    pub(super) class: u8,
    /// Tag number.
    pub(super) number: u32,
}

impl Tag {
    pub(super) const INTEGER: Self = Self { class: 0, number: 2 };
    pub(super) const OCTET_STRING: Self = Self { class: 0, number: 4 };
    pub(super) const SEQUENCE: Self = Self { class: 0, number: 16 };
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = ["UNIVERSAL", "APPLICATION", "CONTEXT", "PRIVATE"][usize::from(self.class & 3)];
        write!(f, "[{class} {}]", self.number)
    }
}

/// A tag as a module writes it in front of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) tag: Tag,
    pub(super) is_explicit: bool,
}

/// A type where it is used or defined.
#[derive(Clone, Debug)]
pub(super) struct TypeUse {
    pub(super) written: Option<Written>,
    /// Allowed sizes in octets, inclusive.
    pub(super) size: Option<(usize, usize)>,
    pub(super) body: Body,
}

/// What a type is made of.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Integer,
    Octets,
    Named(String),
    Sequence(Vec<Member>),
    SequenceOf(Box<TypeUse>),
    Choice(Vec<Member>),
}

/// A member of a SEQUENCE or an alternative of a CHOICE.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) is_optional: bool,
    pub(super) ty: TypeUse,
}

/// Every type of the modules of one mapping, by name.
pub(super) type Types = std::collections::BTreeMap<String, TypeUse>;
