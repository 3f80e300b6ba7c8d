//! Items of a section as a tree along the shape of the module.

use crate::asn1::{Kind, NodeId, Shape};
use crate::mapping::{ItemRule, What};
use std::collections::BTreeMap;

/// What a mapping puts into an item.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The item is written even when it holds nothing.
    pub(super) always: bool,
    pub(super) branch: Branch,
}

/// What is below an item.
#[derive(Debug, Default)]
pub(super) enum Branch {
    #[default]
    Empty,
    /// A value.
    Leaf(ItemRule),
    /// Members of a SEQUENCE, by their position.
    Members(BTreeMap<usize, (NodeId, Tree)>),
    /// The one alternative of a CHOICE that is used.
    Alternative(NodeId, Box<Tree>),
    /// Elements of a list that were written one by one.
    Elements(BTreeMap<usize, Tree>),
    /// An element for each offset from UTC.
    Offsets(Box<Tree>),
    /// The texts of that name.
    Texts(String, usize),
    /// The call events of the file.
    Calls,
}

/// Which element of a list a path means.
enum Index {
    At(usize),
    EachOffset,
}

/// Puts `rule` at `path` below the item `node`.
///
/// # Errors
/// Why the path leads nowhere, or to something that is mapped already.
pub(super) fn insert(
    shape: &Shape,
    tree: &mut Tree,
    node: NodeId,
    path: &str,
    rule: &ItemRule,
) -> Result<(), String> {
    let (mut tree, mut node) = (tree, node);
    for segment in path.split('.') {
        let (name, index) = split(segment)?;
        (tree, node) = step(shape, tree, node, name)?;
        if let Some(index) = index {
            (tree, node) = element(shape, tree, node, &index)?;
        }
    }
    place(shape, tree, node, rule)
}

/// `name`, `name[3]` or `name[each offset]`.
fn split(segment: &str) -> Result<(&str, Option<Index>), String> {
    let Some((name, index)) = segment.split_once('[') else { return Ok((segment, None)) };
    let index = index.strip_suffix(']').ok_or_else(|| format!("{segment}: a bracket is not closed"))?;
    if index == "each offset" {
        return Ok((name, Some(Index::EachOffset)));
    }
    match index.parse() {
        Ok(number) if number < 100 => Ok((name, Some(Index::At(number)))),
        _ => Err(format!("[{index}]: a number below 100 or \"each offset\" is expected")),
    }
}

fn step<'t>(
    shape: &Shape,
    tree: &'t mut Tree,
    node: NodeId,
    name: &str,
) -> Result<(&'t mut Tree, NodeId), String> {
    let Some(child) = shape.child(node, name) else {
        let of = shape.node(node).display();
        return Err(match shape.node(node).kind {
            Kind::SequenceOf(_) => format!("{of} is a list: say which element is meant, as in [0]"),
            Kind::Integer | Kind::Octets => format!("{of} holds no items"),
            Kind::Sequence(_) | Kind::Choice(_) => format!("{of} has no item {name}"),
        });
    };
    let taken = || format!("{} is mapped as a whole already", shape.node(node).display());
    if let Kind::Sequence(members) = &shape.node(node).kind {
        let position = members.iter().position(|&member| member == child).unwrap_or_default();
        if matches!(tree.branch, Branch::Empty) {
            tree.branch = Branch::Members(BTreeMap::new());
        }
        let Branch::Members(members) = &mut tree.branch else { return Err(taken()) };
        let (_, tree) = members.entry(position).or_insert_with(|| (child, Tree::default()));
        return Ok((tree, child));
    }
    if matches!(tree.branch, Branch::Empty) {
        tree.branch = Branch::Alternative(child, Box::default());
    }
    match &mut tree.branch {
        Branch::Alternative(other, tree) if *other == child => Ok((tree, child)),
        Branch::Alternative(other, _) => {
            let other = shape.node(*other).display();
            Err(format!("ambiguous: {other} is mapped too, and only one alternative can be present"))
        }
        _ => Err(taken()),
    }
}

fn element<'t>(
    shape: &Shape,
    tree: &'t mut Tree,
    node: NodeId,
    index: &Index,
) -> Result<(&'t mut Tree, NodeId), String> {
    let Kind::SequenceOf(element) = shape.node(node).kind else {
        return Err(format!("{} is no list", shape.node(node).display()));
    };
    let taken = || format!("ambiguous: the list {} is mapped in two ways", shape.node(node).display());
    match index {
        Index::At(position) => {
            if matches!(tree.branch, Branch::Empty) {
                tree.branch = Branch::Elements(BTreeMap::new());
            }
            let Branch::Elements(elements) = &mut tree.branch else { return Err(taken()) };
            if *position > elements.len() {
                return Err(format!("element {} of the list is missing", elements.len()));
            }
            Ok((elements.entry(*position).or_default(), element))
        }
        Index::EachOffset => {
            if matches!(tree.branch, Branch::Empty) {
                tree.branch = Branch::Offsets(Box::default());
            }
            let Branch::Offsets(tree) = &mut tree.branch else { return Err(taken()) };
            Ok((tree, element))
        }
    }
}

fn place(shape: &Shape, tree: &mut Tree, node: NodeId, rule: &ItemRule) -> Result<(), String> {
    let item = shape.node(node);
    if let What::Always = rule.what {
        return if matches!(item.kind, Kind::Sequence(_)) {
            tree.always = true;
            Ok(())
        } else {
            Err(format!("{} is not a SEQUENCE: it can't be present and empty", item.display()))
        };
    }
    if !matches!(tree.branch, Branch::Empty) {
        return Err(format!("ambiguous: {} is mapped already", item.display()));
    }
    let is_list = matches!(item.kind, Kind::SequenceOf(_));
    tree.branch = match &rule.what {
        What::Texts(_) | What::Calls if !is_list => return Err(format!("{} is no list", item.display())),
        What::Texts(name) => Branch::Texts(name.clone(), rule.line),
        What::Calls => Branch::Calls,
        _ if matches!(item.kind, Kind::Sequence(_) | Kind::SequenceOf(_)) => {
            return Err(format!("{} holds items: map those", item.display()));
        }
        _ => Branch::Leaf(rule.clone()),
    };
    Ok(())
}
