//! Everything that may stand in a file, as a tree of items with the tags that are on the wire.

use super::{Body, Tag, TypeUse, Types};

/// Index of an item in its [`Shape`].
pub(crate) type NodeId = usize;

/// The tree of items below a root type.
#[derive(Debug)]
pub(crate) struct Shape {
    nodes: Vec<Node>,
}

/// An item.
#[derive(Debug)]
pub(crate) struct Node {
    /// Name of the member or alternative; `[]` for the element of a list.
    pub(crate) name: String,
    /// Names from the root, with dots.
    pub(crate) path: String,
    /// Tags from the outside; several where a tag is explicit, none for an untagged CHOICE.
    pub(crate) tags: Vec<Tag>,
    pub(crate) kind: Kind,
    pub(crate) is_optional: bool,
    /// Names of the types that were passed on the way to a basic one, from the outside.
    pub(crate) type_names: Vec<String>,
    /// Allowed sizes in octets, inclusive.
    pub(crate) size: Option<(usize, usize)>,
}

/// What an item is.
#[derive(Debug)]
pub(crate) enum Kind {
    Integer,
    Octets,
    Sequence(Vec<NodeId>),
    SequenceOf(NodeId),
    Choice(Vec<NodeId>),
}

/// A type whose references and tags are resolved.
struct Resolved<'a> {
    tags: Vec<Tag>,
    body: &'a Body,
    names: Vec<String>,
    size: Option<(usize, usize)>,
}

impl Shape {
    /// The tree below the type `root`; none if there is no such type.
    pub(crate) fn new(types: &Types, root: &str) -> Option<Self> {
        let mut shape = Self { nodes: Vec::new() };
        shape.add(types, "", "", types.get(root)?, false);
        if let Some(node) = shape.nodes.first_mut() {
            node.type_names.insert(0, root.to_owned());
        }
        Some(shape)
    }

    /// The root item.
    pub(crate) const ROOT: NodeId = 0;

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The member or alternative of that name.
    pub(crate) fn child(&self, id: NodeId, name: &str) -> Option<NodeId> {
        match &self.nodes[id].kind {
            Kind::Sequence(members) | Kind::Choice(members) => {
                members.iter().copied().find(|&member| self.nodes[member].name == name)
            }
            Kind::Integer | Kind::Octets | Kind::SequenceOf(_) => None,
        }
    }

    /// True if a value of the item can begin with `tag`.
    pub(crate) fn begins_with(&self, id: NodeId, tag: Tag) -> bool {
        let node = &self.nodes[id];
        match (&node.kind, node.tags.first()) {
            (_, Some(first)) => *first == tag,
            (Kind::Choice(options), None) => options.iter().any(|&option| self.begins_with(option, tag)),
            (_, None) => false,
        }
    }

    /// The item itself if it begins with `tag`; within an untagged CHOICE, the alternative that does.
    pub(crate) fn alternative(&self, id: NodeId, tag: Tag) -> Option<NodeId> {
        if self.nodes[id].tags.is_empty() {
            self.option(id, tag)
        } else {
            self.begins_with(id, tag).then_some(id)
        }
    }

    /// The alternative of a CHOICE that begins with `tag`.
    pub(crate) fn option(&self, id: NodeId, tag: Tag) -> Option<NodeId> {
        match &self.nodes[id].kind {
            Kind::Choice(options) => options.iter().find_map(|&option| self.alternative(option, tag)),
            _ => None,
        }
    }

    /// The item at `path`.
    pub(crate) fn find(&self, path: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.path == path)
    }

    /// True if `goal` is the item itself or below it.
    pub(crate) fn is_on_way(&self, id: NodeId, goal: NodeId) -> bool {
        let rest = self.nodes[goal].path.strip_prefix(&self.nodes[id].path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || self.nodes[id].path.is_empty())
    }

    fn add(&mut self, types: &Types, parent: &str, name: &str, ty: &TypeUse, is_optional: bool) -> NodeId {
        let resolved = resolve(types, ty);
        let id = self.nodes.len();
        let path = match (parent, name) {
            ("", name) => name.to_owned(),
            (parent, "[]") => format!("{parent}[]"),
            (parent, name) => format!("{parent}.{name}"),
        };
        self.nodes.push(Node {
            name: name.to_owned(),
            path: path.clone(),
            tags: resolved.tags,
            kind: Kind::Integer,
            is_optional,
            type_names: resolved.names,
            size: resolved.size,
        });
        let kind = match resolved.body {
            Body::Integer | Body::Named(_) => Kind::Integer,
            Body::Octets => Kind::Octets,
            Body::Sequence(members) => Kind::Sequence(
                members.iter().map(|m| self.add(types, &path, &m.name, &m.ty, m.is_optional)).collect(),
            ),
            Body::Choice(options) => {
                Kind::Choice(options.iter().map(|m| self.add(types, &path, &m.name, &m.ty, true)).collect())
            }
            Body::SequenceOf(element) => Kind::SequenceOf(self.add(types, &path, "[]", element, true)),
        };
        self.nodes[id].kind = kind;
        id
    }
}

/// Follows names down to a basic type. A tag replaces the outermost one below it (IMPLICIT), unless it is explicit or
/// there is none below, as with a CHOICE (X.680, 31.2.7).
fn resolve<'a>(types: &'a Types, ty: &'a TypeUse) -> Resolved<'a> {
    let mut resolved = match &ty.body {
        Body::Named(name) => match types.get(name) {
            Some(ty) => {
                let mut inner = resolve(types, ty);
                inner.names.insert(0, name.clone());
                inner
            }
            // Dangling names were refused before.
            None => basic(&ty.body, Vec::new()),
        },
        Body::Integer => basic(&ty.body, vec![Tag::INTEGER]),
        Body::Octets => basic(&ty.body, vec![Tag::OCTET_STRING]),
        Body::Sequence(_) | Body::SequenceOf(_) => basic(&ty.body, vec![Tag::SEQUENCE]),
        Body::Choice(_) => basic(&ty.body, Vec::new()),
    };
    if let Some(written) = ty.written {
        match resolved.tags.first_mut() {
            Some(first) if !written.is_explicit => *first = written.tag,
            _ => resolved.tags.insert(0, written.tag),
        }
    }
    resolved.size = ty.size.or(resolved.size);
    resolved
}

fn basic(body: &Body, tags: Vec<Tag>) -> Resolved<'_> {
    Resolved { tags, body, names: Vec::new(), size: None }
}

impl Node {
    /// The item as errors name it.
    pub(crate) fn display(&self) -> &str {
        match (self.path.as_str(), self.type_names.first()) {
            ("", Some(name)) => name,
            ("", None) => "the root",
            (path, _) => path,
        }
    }
}
