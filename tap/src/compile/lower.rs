//! From trees to plans.

use super::tree::{Branch, Tree};
use super::{Level, Reader};
use crate::asn1::{Kind, NodeId, Shape, Tag};
use crate::ber;
use crate::convert::{Content, Conversion, Given};
use crate::error::SchemaError;
use crate::mapping::{Constant, From, ItemRule, Lined, Mapping, Section, What};
use crate::plan::{Fixed, Item, Origin, Plan, Requirement, StepKind};
use crate::source::{Scope, Value, ValueKind};
use std::collections::BTreeMap;

/// A section on its way to a plan.
pub(super) struct Lowering<'a> {
    mapping: &'a Mapping,
    shape: &'a Shape,
    scope: Scope,
    readers: &'a mut Vec<Reader>,
    /// Paths below the section with the step that each became, of the plan that is being made.
    places: Vec<(String, usize)>,
    /// The same of the frame: which level, and whether before or after.
    frame_places: Vec<(String, usize, bool, usize)>,
    /// Paths of the groups that hold the call events.
    spine: Vec<String>,
}

/// Where a step is put: plan, the group that holds it, its path below the section.
struct Spot<'p> {
    plan: &'p mut Plan,
    parent: Option<usize>,
    path: String,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        mapping: &'a Mapping,
        shape: &'a Shape,
        scope: Scope,
        readers: &'a mut Vec<Reader>,
    ) -> Self {
        let (places, frame_places, spine) = (Vec::new(), Vec::new(), Vec::new());
        Self { mapping, shape, scope, readers, places, frame_places, spine }
    }

    fn error(&self, line: usize, why: impl Into<String>) -> SchemaError {
        SchemaError::new(&self.mapping.file, line, why)
    }

    pub(super) fn tree(&self, section: &Section, node: NodeId) -> Result<Tree, SchemaError> {
        super::grow(self.mapping, self.shape, section, node)
    }

    /// The plan of a section with everything in it.
    pub(super) fn whole(&mut self, section: &Section, node: NodeId) -> Result<Plan, SchemaError> {
        let tree = self.tree(section, node)?;
        let mut plan = Plan::default();
        let spot = Spot { plan: &mut plan, parent: None, path: String::new() };
        self.lower(&tree, node, spot, section)?;
        for path in &section.mandatory {
            let step = self.places.iter().find(|(place, _)| *place == path.text).map(|(_, step)| *step);
            let step = step.ok_or_else(|| self.unsourced(node, path))?;
            let path = format!("{}.{}", section.path.text, path.text);
            plan.require(Requirement { step, within: None, path });
        }
        Ok(plan)
    }

    /// Why a mandatory item can't be provided.
    fn unsourced(&self, node: NodeId, path: &Lined) -> SchemaError {
        let mut at = Some(node);
        for segment in path.text.split('.') {
            let (name, index) = segment.split_once('[').map_or((segment, false), |(name, _)| (name, true));
            at = at.and_then(|node| self.shape.child(node, name));
            if let (Some(list), true) = (at, index) {
                at = match self.shape.node(list).kind {
                    Kind::SequenceOf(element) => Some(element),
                    _ => None,
                };
            }
        }
        self.error(
            path.line,
            match at {
                Some(_) => format!("mandatory: {} has no source: map a field to it", path.text),
                None => format!("mandatory: the module has no item {}", path.text),
            },
        )
    }

    /// Splits the tree at the list of call events: groups on the way to it become levels.
    pub(super) fn spine(
        &mut self,
        tree: &Tree,
        node: NodeId,
        section: &Section,
        path: &str,
        levels: &mut Vec<Level>,
        list: &mut Option<NodeId>,
    ) -> Result<(), SchemaError> {
        for &tag in &self.shape.node(node).tags {
            levels.push(Level { tag: ber::tag(tag), before: Plan::default(), after: Plan::default() });
        }
        self.spine.push(path.to_owned());
        let level = levels.len().wrapping_sub(1);
        match &tree.branch {
            Branch::Calls => *list = Some(node),
            Branch::Alternative(child, below) => {
                let path = join(path, &self.shape.node(*child).name);
                self.spine(below, *child, section, &path, levels, list)?;
            }
            Branch::Members(members) => {
                self.required_members(node, members, section)?;
                let holds_calls = members.iter().find(|(_, (_, below))| leads_to_calls(below));
                let Some((&at, (inner, below))) = holds_calls else { return Ok(()) };
                for (&position, (child, tree)) in members.iter().filter(|(position, _)| **position != at) {
                    let is_after = position > at;
                    let path = join(path, &self.shape.node(*child).name);
                    let plan = if is_after { &mut levels[level].after } else { &mut levels[level].before };
                    self.places.clear();
                    let step =
                        self.lower(tree, *child, Spot { plan, parent: None, path: path.clone() }, section)?;
                    if !self.shape.node(*child).is_optional {
                        plan.require(Requirement { step, within: None, path });
                    }
                    let places = self.places.drain(..);
                    self.frame_places.extend(places.map(|(path, step)| (path, level, is_after, step)));
                }
                let path = join(path, &self.shape.node(*inner).name);
                self.spine(below, *inner, section, &path, levels, list)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts the mandatory items of the frame into the plans of its levels.
    pub(super) fn mandatory_in_frame(
        &self,
        section: &Section,
        node: NodeId,
        levels: &mut [Level],
    ) -> Result<(), SchemaError> {
        for path in section.mandatory.iter().filter(|path| !self.spine.contains(&path.text)) {
            let place = self.frame_places.iter().find(|(place, ..)| *place == path.text);
            let Some((_, level, is_after, step)) = place else { return Err(self.unsourced(node, path)) };
            let level = &mut levels[*level];
            let plan = if *is_after { &mut level.after } else { &mut level.before };
            let path = format!("{}.{}", section.path.text, path.text);
            plan.require(Requirement { step: *step, within: None, path });
        }
        Ok(())
    }

    /// Members that the module does not call OPTIONAL are mapped.
    fn required_members(
        &self,
        node: NodeId,
        mapped: &BTreeMap<usize, (NodeId, Tree)>,
        section: &Section,
    ) -> Result<(), SchemaError> {
        let Kind::Sequence(members) = &self.shape.node(node).kind else { return Ok(()) };
        for (position, &member) in members.iter().enumerate() {
            if !self.shape.node(member).is_optional && !mapped.contains_key(&position) {
                let name = self.shape.node(member).display();
                return Err(self.error(
                    section.path.line,
                    format!("{name} is not OPTIONAL, and nothing is mapped to it"),
                ));
            }
        }
        Ok(())
    }

    /// Appends the steps of `tree` and returns which comes first.
    fn lower(
        &mut self,
        tree: &Tree,
        node: NodeId,
        spot: Spot<'_>,
        section: &Section,
    ) -> Result<usize, SchemaError> {
        let Spot { plan, parent, path } = spot;
        let item = self.shape.node(node);
        let first = plan.steps.len();
        if let Branch::Leaf(rule) = &tree.branch {
            self.leaf(rule, node, Spot { plan, parent, path: path.clone() })?;
            self.places.push((path, first));
            return Ok(first);
        }
        let (mut parent, mut groups) = (parent, Vec::new());
        for &tag in &item.tags {
            let group = plan.open(StepKind::Group { tag: ber::tag(tag), always: tree.always }, parent);
            groups.push(group);
            parent = Some(group);
        }
        self.places.push((path.clone(), first));
        match &tree.branch {
            Branch::Members(members) => {
                self.required_members(node, members, section)?;
                for (child, below) in members.values() {
                    let path = join(&path, &self.shape.node(*child).name);
                    let step =
                        self.lower(below, *child, Spot { plan, parent, path: path.clone() }, section)?;
                    if !self.shape.node(*child).is_optional {
                        plan.require(Requirement { step, within: parent, path });
                    }
                }
            }
            Branch::Alternative(child, below) => {
                let path = join(&path, &self.shape.node(*child).name);
                self.lower(below, *child, Spot { plan, parent, path }, section)?;
            }
            Branch::Elements(elements) => {
                let Kind::SequenceOf(element) = item.kind else { return Ok(first) };
                for (index, below) in elements {
                    let path = format!("{path}[{index}]");
                    self.lower(below, element, Spot { plan, parent, path }, section)?;
                }
            }
            Branch::Offsets(below) => {
                let Kind::SequenceOf(element) = item.kind else { return Ok(first) };
                let mut inner = Lowering::new(self.mapping, self.shape, Scope::Offsets, self.readers);
                let mut each = Plan::default();
                let path = format!("{path}[each offset]");
                inner.lower(below, element, Spot { plan: &mut each, parent: None, path }, section)?;
                let step = plan.open(StepKind::Offsets(each), parent);
                plan.close(step);
            }
            Branch::Texts(name, line) => self.texts(name, *line, node, Spot { plan, parent, path })?,
            Branch::Calls => {
                return Err(self.error(section.path.line, "call events can be listed in one place only"));
            }
            Branch::Leaf(_) | Branch::Empty => {}
        }
        for group in groups {
            plan.close(group);
        }
        Ok(first)
    }

    /// The texts of that name as elements of the list `node`.
    fn texts(&mut self, name: &str, line: usize, node: NodeId, spot: Spot<'_>) -> Result<(), SchemaError> {
        let Spot { plan, parent, path } = spot;
        let Some(texts) = self.mapping.texts.get(name) else {
            return Err(self.error(line, format!("texts: there are none named {name}")));
        };
        let Kind::SequenceOf(element) = self.shape.node(node).kind else { return Ok(()) };
        let mut steps: Vec<(&str, usize)> = Vec::new();
        for (tag, rule) in &texts.fields {
            if steps.iter().any(|(other, _)| *other == tag.text) {
                return Err(self.error(tag.line, format!("texts: two have the tag {}", tag.text)));
            }
            let path = format!("{path}[{}]", tag.text);
            let step = plan.steps.len();
            self.primitive(
                rule,
                element,
                format!("{}=", tag.text).into_bytes(),
                Spot { plan, parent, path },
            )?;
            steps.push((&tag.text, step));
        }
        for tag in &texts.mandatory {
            let step = steps.iter().find(|(other, _)| *other == tag.text).map(|(_, step)| *step);
            let step = step.ok_or_else(|| {
                self.error(
                    tag.line,
                    format!("mandatory: no text has the tag {}: map a field to it", tag.text),
                )
            })?;
            plan.require(Requirement { step, within: None, path: format!("{path}[{}]", tag.text) });
        }
        Ok(())
    }

    fn leaf(&mut self, rule: &ItemRule, node: NodeId, spot: Spot<'_>) -> Result<(), SchemaError> {
        let item = self.shape.node(node);
        if !matches!(item.kind, Kind::Choice(_)) {
            return self.primitive(rule, node, Vec::new(), spot);
        }
        let is_encoded = matches!(&rule.what, What::From(from) if from.sources.iter().all(|source| source.kind() == ValueKind::Encoded));
        if !is_encoded || !item.tags.is_empty() {
            return Err(
                self.error(rule.line, format!("{} is a CHOICE: map one of its alternatives", item.display()))
            );
        }
        let (plan, parent) = (spot.plan, spot.parent);
        let made = self.item(rule, node, Content::Encoded, Vec::new(), spot.path)?;
        let item = plan.add_item(made);
        let step = plan.open(StepKind::Encoded { item }, parent);
        plan.close(step);
        Ok(())
    }

    /// A primitive item, within the groups of its explicit tags.
    fn primitive(
        &mut self,
        rule: &ItemRule,
        node: NodeId,
        prefix: Vec<u8>,
        spot: Spot<'_>,
    ) -> Result<(), SchemaError> {
        let Spot { plan, mut parent, path } = spot;
        let content = self.content(rule, node)?;
        let tags: &[Tag] = &self.shape.node(node).tags;
        let Some((last, outer)) = tags.split_last() else { return Ok(()) };
        let mut groups = Vec::new();
        for &tag in outer {
            let group = plan.open(StepKind::Group { tag: ber::tag(tag), always: false }, parent);
            groups.push(group);
            parent = Some(group);
        }
        let tag = ber::tag(*last);
        let made = self.item(rule, node, content, prefix, path)?;
        let kind = match &made.from {
            Origin::Fixed(fixed) if made.when.is_empty() => {
                let encoded =
                    ber::constant(tag, fixed).map_err(|error| self.error(rule.line, error.to_string()))?;
                StepKind::Constant(encoded)
            }
            _ => StepKind::Item { tag, item: plan.add_item(made) },
        };
        let step = plan.open(kind, parent);
        plan.close(step);
        for group in groups {
            plan.close(group);
        }
        Ok(())
    }

    /// What the octets of an item mean, or that it is a number.
    fn content(&self, rule: &ItemRule, node: NodeId) -> Result<Content, SchemaError> {
        let item = self.shape.node(node);
        if let Kind::Integer = item.kind {
            return Ok(Content::Integer);
        }
        if !matches!(item.kind, Kind::Octets) {
            return Err(self.error(rule.line, format!("{} holds items: map those", item.display())));
        }
        let mut known = item.type_names.iter().filter_map(|name| self.mapping.content.get(name));
        known.next().copied().ok_or_else(|| {
            let names = item.type_names.join(", ");
            self.error(
                rule.line,
                format!("{}: [content] does not define the octets of any of {names}", item.display()),
            )
        })
    }

    fn item(
        &mut self,
        rule: &ItemRule,
        node: NodeId,
        content: Content,
        prefix: Vec<u8>,
        path: String,
    ) -> Result<Item, SchemaError> {
        if let Some(condition) = rule.when.iter().find(|condition| !condition.source.is_in(self.scope)) {
            let why = format!("when: {} has no value here", condition.source.name());
            return Err(self.error(condition.line, why));
        }
        let size = self.shape.node(node).size;
        let from = match &rule.what {
            What::Constant(constant) => Origin::Fixed(self.fixed(constant, content, size, rule.line)?),
            What::From(from) => self.origin(from, node, content, size, rule.line, prefix.is_empty())?,
            What::Texts(_) | What::Calls | What::Always => {
                return Err(self.error(rule.line, "a value or a field is expected"));
            }
        };
        Ok(Item { path, when: rule.when.clone(), prefix, content, size, from })
    }

    fn origin(
        &mut self,
        from: &From,
        node: NodeId,
        content: Content,
        size: Option<(usize, usize)>,
        line: usize,
        is_plain: bool,
    ) -> Result<Origin, SchemaError> {
        if let Some(source) = from.sources.iter().find(|source| !source.is_in(self.scope)) {
            return Err(self.error(line, format!("from: {} has no value here", source.name())));
        }
        let source = from.sources[0];
        if let Some(map) = &from.map {
            let fixed = |constant: &Constant| self.fixed(constant, content, size, line);
            let entries = map.entries.iter().map(|(key, constant)| Ok((key.clone(), fixed(constant)?)));
            let entries = entries.collect::<Result<_, SchemaError>>()?;
            let otherwise = map.otherwise.as_ref().map(fixed).transpose()?;
            return Ok(Origin::Translated { source, entries, otherwise });
        }
        let kind = source.kind();
        if from.sources.iter().any(|other| other.kind() != kind) {
            return Err(self.error(line, "from: the fields are of different kinds"));
        }
        let named = from.conversion.or_else(|| Conversion::of(kind, content));
        let Some(mut conversion) = named else {
            let why = format!("from: {} needs a conversion here: name it by as", source.name());
            return Err(self.error(line, why));
        };
        match (&mut conversion, from.width) {
            (Conversion::Number { width }, Some(wanted)) => *width = wanted,
            (_, Some(_)) => return Err(self.error(line, "width is for numbers that are written as text")),
            (_, None) => {}
        }
        if !conversion.fits(kind, content) {
            let item = self.shape.node(node).display();
            return Err(self.error(
                line,
                format!("this conversion of {} does not give what {item} holds", source.name()),
            ));
        }
        if from.sources.len() == 1 && is_plain {
            self.readers.push(Reader { node, source, conversion });
        }
        Ok(Origin::Sources { sources: from.sources.clone(), conversion })
    }

    /// A constant as it is written.
    fn fixed(
        &self,
        constant: &Constant,
        content: Content,
        size: Option<(usize, usize)>,
        line: usize,
    ) -> Result<Fixed, SchemaError> {
        let mut bytes = Vec::new();
        let given = match (constant, content) {
            (Constant::Integer(number), Content::Integer) => return Ok(Fixed::Integer((*number).into())),
            (Constant::Text(text), Content::Bcd) => {
                Conversion::Bcd.apply(Value::Text(text), content, &mut bytes)
            }
            (Constant::Text(text), Content::Ascii | Content::Digits | Content::Hex) => {
                Conversion::Text.apply(Value::Text(text), content, &mut bytes)
            }
            (Constant::Integer(number), _) => Err(format!("{number} must be a text here: put it in quotes")),
            (Constant::Text(text), _) => Err(format!("{text:?} must be a number here")),
        };
        match (given, size) {
            (Err(why), _) => Err(self.error(line, why)),
            (Ok(Given::Bytes), Some((least, most))) if !(least..=most).contains(&bytes.len()) => {
                Err(self.error(line, format!("{} octets, but {least} to {most} are allowed", bytes.len())))
            }
            _ => Ok(Fixed::Bytes(bytes)),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn leads_to_calls(tree: &Tree) -> bool {
    match &tree.branch {
        Branch::Calls => true,
        Branch::Members(members) => members.values().any(|(_, below)| leads_to_calls(below)),
        Branch::Alternative(_, below) => leads_to_calls(below),
        _ => false,
    }
}
