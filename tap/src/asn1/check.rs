//! What the compiler does not check: names, imports, and whether items can be distinguished.

use super::scan::Outline;
use super::{Body, Member, Tag, TypeUse, Types};
use crate::error::SchemaError;
use std::collections::BTreeMap;

/// No name twice, imports lead to definitions.
pub(super) fn names(outlines: &[Outline<'_>]) -> Result<(), SchemaError> {
    let mut seen: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    let mut modules: BTreeMap<&str, &str> = BTreeMap::new();
    for outline in outlines {
        if let Some(other) = modules.insert(&outline.module, outline.file) {
            let why = format!("module {} is in {other} already", outline.module);
            return Err(SchemaError::new(outline.file, 1, why));
        }
        for defined in &outline.definitions {
            if !defined.name.starts_with(|c: char| c.is_ascii_uppercase()) {
                let why = format!(
                    "{}: only types are supported, and their names begin with a capital",
                    defined.name
                );
                return Err(SchemaError::new(outline.file, defined.line, why));
            }
            if let Some((file, line)) = seen.insert(&defined.name, (outline.file, defined.line)) {
                let why = format!("{} is defined twice: also at {file}:{line}", defined.name);
                return Err(SchemaError::new(outline.file, defined.line, why));
            }
        }
    }
    for outline in outlines {
        for import in &outline.imports {
            let source = outlines.iter().find(|other| other.module == import.from);
            let Some(source) = source else {
                let why =
                    format!("{} is imported from {}, which is none of the modules", import.name, import.from);
                return Err(SchemaError::new(outline.file, import.line, why));
            };
            if source.definition(&import.name).is_none() {
                let why = format!("{} is imported, but {} does not define it", import.name, source.file);
                return Err(SchemaError::new(outline.file, import.line, why));
            }
        }
    }
    Ok(())
}

/// The parser has left out nothing of the text.
pub(super) fn everything_was_parsed(outlines: &[Outline<'_>], types: &Types) -> Result<(), SchemaError> {
    for outline in outlines {
        if let Some(lost) = outline.definitions.iter().find(|defined| !types.contains_key(&defined.name)) {
            let why = format!("{} is not a type definition that can be read", lost.name);
            return Err(SchemaError::new(outline.file, lost.line, why));
        }
    }
    Ok(())
}

/// Every name that is used is defined in the module or imported by it, and no type contains itself.
pub(super) fn references(outlines: &[Outline<'_>], types: &Types) -> Result<(), SchemaError> {
    for outline in outlines {
        for defined in &outline.definitions {
            let Some(ty) = types.get(&defined.name) else { continue };
            let mut used = Vec::new();
            named(ty, &mut used);
            for name in used {
                let is_known = outline.definition(name).is_some()
                    || outline.imports.iter().any(|import| import.name == name);
                if !is_known {
                    let why = format!("{}: {name} is neither defined here nor imported", defined.name);
                    return Err(SchemaError::new(outline.file, defined.line_of(name), why));
                }
                if reaches(types, name, &defined.name, &mut Vec::new()) {
                    let why = format!("{} contains itself by way of {name}: not supported", defined.name);
                    return Err(SchemaError::new(outline.file, defined.line_of(name), why));
                }
            }
        }
    }
    Ok(())
}

/// The names that a type uses.
fn named<'a>(ty: &'a TypeUse, found: &mut Vec<&'a str>) {
    match &ty.body {
        Body::Integer | Body::Octets => {}
        Body::Named(name) => found.push(name),
        Body::Sequence(members) | Body::Choice(members) => {
            for member in members {
                named(&member.ty, found);
            }
        }
        Body::SequenceOf(element) => named(element, found),
    }
}

fn reaches<'a>(types: &'a Types, from: &'a str, goal: &str, passed: &mut Vec<&'a str>) -> bool {
    if from == goal {
        return true;
    }
    if passed.contains(&from) {
        return false;
    }
    passed.push(from);
    let mut used = Vec::new();
    if let Some(ty) = types.get(from) {
        named(ty, &mut used);
    }
    used.into_iter().any(|name| reaches(types, name, goal, passed))
}

/// No two members of a SEQUENCE or alternatives of a CHOICE share a name or begin with the same tag.
pub(super) fn sibling_tags(outlines: &[Outline<'_>], types: &Types) -> Result<(), SchemaError> {
    for outline in outlines {
        for defined in &outline.definitions {
            let Some(ty) = types.get(&defined.name) else { continue };
            let clash = |line_of: &str, why: String| {
                Err(SchemaError::new(
                    outline.file,
                    defined.line_of(line_of),
                    format!("{}: {why}", defined.name),
                ))
            };
            if let Err((member, why)) = members_differ(ty, types) {
                return clash(member, why);
            }
        }
    }
    Ok(())
}

fn members_differ<'a>(ty: &'a TypeUse, types: &Types) -> Result<(), (&'a str, String)> {
    let members: &[Member] = match &ty.body {
        Body::Sequence(members) | Body::Choice(members) => members,
        Body::SequenceOf(element) => return members_differ(element, types),
        Body::Integer | Body::Octets | Body::Named(_) => return Ok(()),
    };
    let mut tags: BTreeMap<Tag, &str> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        if members[..at].iter().any(|other| other.name == member.name) {
            return Err((&member.name, format!("{} is there twice", member.name)));
        }
        for tag in first_tags(&member.ty, types) {
            if let Some(other) = tags.insert(tag, &member.name) {
                let why =
                    format!("{other} and {} both begin with the tag {tag}: give each its own", member.name);
                return Err((&member.name, why));
            }
        }
        members_differ(&member.ty, types)?;
    }
    Ok(())
}

/// The tags with which a value of the type can begin.
fn first_tags(ty: &TypeUse, types: &Types) -> Vec<Tag> {
    if let Some(written) = ty.written {
        return vec![written.tag];
    }
    match &ty.body {
        Body::Integer => vec![Tag::INTEGER],
        Body::Octets => vec![Tag::OCTET_STRING],
        Body::Sequence(_) | Body::SequenceOf(_) => vec![Tag::SEQUENCE],
        Body::Choice(members) => members.iter().flat_map(|member| first_tags(&member.ty, types)).collect(),
        Body::Named(name) => types.get(name).map_or(Vec::new(), |ty| first_tags(ty, types)),
    }
}
