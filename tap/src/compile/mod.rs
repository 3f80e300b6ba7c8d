//! Puts a mapping and its modules together: every path, field, conversion and mandatory item is checked, and what
//! remains are plans.

mod lower;
mod tree;

use super::asn1::{Kind, NodeId, Shape, Types};
use super::convert::Conversion;
use super::error::SchemaError;
use super::mapping::{Condition, FileKind, Lined, Mapping, Section, What};
use super::plan::Plan;
use super::source::{Change, Scope, Source};
use lower::Lowering;
use rasn::types::Tag;
use tree::{Branch, Tree};

/// A mapping that is ready to encode and to decode.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) shape: Shape,
    /// What surrounds the call events.
    pub(super) frame: Vec<Level>,
    /// A file without call events.
    pub(super) empty: Option<Plan>,
    pub(super) calls: Vec<CallPlan>,
    /// The list that holds the call events.
    pub(super) list: NodeId,
    pub(super) readers: Vec<Reader>,
}

/// A group on the way from the root to the list of call events, which is the last of them.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) tag: Tag,
    /// What the group holds before the next one.
    pub(super) before: Plan,
    /// What the group holds after it.
    pub(super) after: Plan,
}

/// A call event and the records that become one.
#[derive(Debug)]
pub(super) struct CallPlan {
    pub(super) when: Vec<Condition>,
    pub(super) plan: Plan,
}

/// An item from which a value can be read back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) node: NodeId,
    pub(super) source: Source,
    pub(super) conversion: Conversion,
}

/// Compiles `mapping` against the types of its modules.
///
/// # Errors
/// [`SchemaError`] with the line of the mapping that does not fit.
pub(super) fn compile(mapping: &Mapping, types: &Types) -> Result<Compiled, SchemaError> {
    let error = |line, why: String| Err(SchemaError::new(&mapping.file, line, why));
    let root = &mapping.root;
    let Some(shape) = Shape::new(types, &root.text) else {
        return error(root.line, format!("root: no module defines {}", root.text));
    };
    if let Some(name) = mapping.content.keys().find(|name| !types.contains_key(*name)) {
        return error(root.line, format!("content: no module defines {name}"));
    }
    let mut readers = Vec::new();
    let (frame, list) = frame(mapping, &shape, &mut readers)?;
    let empty = mapping.empty.as_ref().map(|section| {
        let node = start(mapping, &shape, Shape::ROOT, &section.path)?;
        let mut lowering = Lowering::new(mapping, &shape, Scope::Frame, &mut readers);
        lowering.whole(section, node)
    });
    let empty = empty.transpose()?;
    let calls = calls(mapping, &shape, list, &mut readers)?;
    Ok(Compiled { shape, frame, empty, calls, list, readers })
}

/// The item of a section: its path leads through untagged choices only.
fn start(mapping: &Mapping, shape: &Shape, from: NodeId, path: &Lined) -> Result<NodeId, SchemaError> {
    let mut node = from;
    for name in path.text.split('.').filter(|name| !name.is_empty()) {
        let is_choice = matches!(shape.node(node).kind, Kind::Choice(_)) && shape.node(node).tags.is_empty();
        let next = shape.child(node, name).filter(|_| is_choice);
        node = next.ok_or_else(|| {
            let why = format!("path: {name} is no alternative of {}", shape.node(node).display());
            SchemaError::new(&mapping.file, path.line, why)
        })?;
    }
    Ok(node)
}

fn frame(
    mapping: &Mapping,
    shape: &Shape,
    readers: &mut Vec<Reader>,
) -> Result<(Vec<Level>, NodeId), SchemaError> {
    let section = &mapping.batch;
    let node = start(mapping, shape, Shape::ROOT, &section.path)?;
    let mut lowering = Lowering::new(mapping, shape, Scope::Frame, readers);
    let tree = lowering.tree(section, node)?;
    let mut levels = Vec::new();
    let mut list = None;
    lowering.spine(&tree, node, section, "", &mut levels, &mut list)?;
    let Some(list) = list else {
        let why = "batch: no item lists the call events: write { each = \"call\" }";
        return Err(SchemaError::new(&mapping.file, section.path.line, why));
    };
    lowering.mandatory_in_frame(section, node, &mut levels)?;
    Ok((levels, list))
}

fn calls(
    mapping: &Mapping,
    shape: &Shape,
    list: NodeId,
    readers: &mut Vec<Reader>,
) -> Result<Vec<CallPlan>, SchemaError> {
    let Kind::SequenceOf(element) = shape.node(list).kind else { return Ok(Vec::new()) };
    let (scope, carrier) = match mapping.kind {
        FileKind::Tap => (Scope::Call, Source::Charge),
        FileKind::Rap => (Scope::Return, Source::Change(Change::TapCall)),
    };
    let mut plans: Vec<CallPlan> = Vec::new();
    for call in &mapping.calls {
        let line = call.section.path.line;
        let error = |line, why: String| SchemaError::new(&mapping.file, line, why);
        if plans.last().is_some_and(|before| before.when.is_empty()) {
            return Err(error(
                line,
                "call: never reached, because the one before it has no conditions".to_owned(),
            ));
        }
        if let Some(condition) = call.when.iter().find(|condition| !condition.source.is_in(scope)) {
            let why = format!("when: {} has no value in a call event", condition.source.name());
            return Err(error(condition.line, why));
        }
        let carried = call.section.items.iter().filter(|(_, rule)| {
            matches!(&rule.what, What::From(from) if from.sources == [carrier]) && rule.when.is_empty()
        });
        if carried.count() != 1 {
            let why = format!("call: exactly one item must come from {} without conditions", carrier.name());
            return Err(error(line, why));
        }
        let node = start(mapping, shape, element, &call.section.path)?;
        let mut lowering = Lowering::new(mapping, shape, scope, readers);
        let plan = lowering.whole(&call.section, node)?;
        plans.push(CallPlan { when: call.when.clone(), plan });
    }
    Ok(plans)
}

/// The tree of a section's items.
fn grow(mapping: &Mapping, shape: &Shape, section: &Section, node: NodeId) -> Result<Tree, SchemaError> {
    let mut root = Tree::default();
    for (path, rule) in &section.items {
        tree::insert(shape, &mut root, node, &path.text, rule)
            .map_err(|why| SchemaError::new(&mapping.file, path.line, format!("{}: {why}", path.text)))?;
    }
    if matches!(root.branch, Branch::Empty) {
        return Err(SchemaError::new(&mapping.file, section.path.line, "items: nothing is mapped"));
    }
    Ok(root)
}
