//! Reads mappings, key by key, and says by line what can't be meant.

use super::{
    Call, Condition, Constant, FileKind, From, ItemRule, Lined, Mapping, Numbering, Per, Section, Test,
    Texts, Translation, What,
};
use crate::convert::{Content, Conversion};
use crate::doc::{self, Entry, Table};
use crate::error::SchemaError;
use crate::source::{Source, ValueKind};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the mapping `text` of the file named `file`.
pub(crate) fn read(file: &str, text: &str) -> Result<Mapping, SchemaError> {
    doc::read(file, text, |root| mapping(file, root))
}

fn mapping(file: &str, root: Table<'_>) -> Result<Mapping, SchemaError> {
    root.only(&[
        "kind", "modules", "root", "content", "naming", "sequence", "parties", "money", "texts", "batch",
        "empty", "call",
    ])?;
    let kind = root.need("kind")?;
    let naming = root.need("naming")?.table()?;
    naming.only(&["live", "test"])?;
    let parties = root.need("parties")?.table()?;
    parties.only(&["recipient", "senders"])?;
    let money = root.need("money")?.table()?;
    money.only(&["currency", "decimal_places", "exchange_rates"])?;
    let currency = money.need("currency")?;
    if currency.text()?.len() != 3 || !currency.text()?.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(currency.error("three capitals of ISO 4217 are expected"));
    }
    Ok(Mapping {
        file: file.to_owned(),
        kind: FileKind::parse(kind.text()?).ok_or_else(|| kind.error("TAP_3_12 or RAP_1_5 is expected"))?,
        modules: modules(root.need("modules")?)?,
        root: root.need("root")?.lined()?,
        content: content(root.need("content")?.table()?)?,
        live_name: file_name(naming.need("live")?)?,
        test_name: file_name(naming.need("test")?)?,
        numbering: numbering(root.need("sequence")?.table()?)?,
        recipient: parties.need("recipient")?.lined()?,
        senders: senders(parties.get("senders"))?,
        currency: currency.text()?.to_owned(),
        decimal_places: money.need("decimal_places")?.within(0, 6)? as u8,
        exchange_rates: exchange_rates(money.get("exchange_rates"))?,
        texts: texts(root.get("texts"))?,
        batch: section(root.need("batch")?.table()?, &[])?,
        empty: root.get("empty").map(|entry| section(entry.table()?, &[])).transpose()?,
        calls: calls(root.need("call")?)?,
    })
}

/// True for the names of modules.
pub(crate) fn is_module(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "asn1")
}

fn modules(entry: Entry<'_>) -> Result<Vec<Lined>, SchemaError> {
    let modules = entry.texts()?;
    if modules.is_empty() {
        return Err(entry.error("at least one module is expected"));
    }
    for (at, module) in modules.iter().enumerate() {
        if !is_module(&module.text) || module.text.contains('/') {
            return Err(
                entry.error(format!("{} is not the name of an .asn1 file of this folder", module.text))
            );
        }
        if modules[..at].iter().any(|other| other.text == module.text) {
            return Err(entry.error(format!("{} is named twice", module.text)));
        }
    }
    Ok(modules)
}

fn content(table: Table<'_>) -> Result<BTreeMap<String, Content>, SchemaError> {
    let mut found = BTreeMap::new();
    for entry in table.entries() {
        let content = Content::parse(entry.text()?);
        let content = content.ok_or_else(|| entry.error(format!("one of {} is expected", Content::NAMES)))?;
        found.insert(entry.key.to_owned(), content);
    }
    Ok(found)
}

/// Placeholders of file names.
const PLACEHOLDERS: [&str; 5] = ["recordingEntity", "sender", "recipient", "sequence", "settlementDay"];

fn file_name(entry: Entry<'_>) -> Result<Lined, SchemaError> {
    let pattern = entry.lined()?;
    if pattern.text.contains(['/', '\\']) || pattern.text.starts_with('.') {
        return Err(entry.error("a file name without folders is expected"));
    }
    let mut rest = pattern.text.as_str();
    while let Some((_, after)) = rest.split_once('{') {
        let Some((inside, tail)) = after.split_once('}') else {
            return Err(entry.error("a placeholder is not closed"));
        };
        let (name, width) = inside.split_once(':').unwrap_or((inside, "1"));
        if !PLACEHOLDERS.contains(&name) || !matches!(width.parse::<usize>(), Ok(1..=20)) {
            let known = PLACEHOLDERS.join(", ");
            return Err(entry.error(format!(
                "{{{inside}}} is not a placeholder; known are {known}, with :WIDTH for a number"
            )));
        }
        rest = tail;
    }
    if !pattern.text.contains("{sequence") {
        return Err(entry.error("{sequence} is missing: two files would have one name"));
    }
    Ok(pattern)
}

fn numbering(table: Table<'_>) -> Result<Numbering, SchemaError> {
    table.only(&["per", "first", "last", "wraps"])?;
    let per = table.need("per")?;
    let first = table.need("first")?.within(0, 99_999)?;
    let last = table.need("last")?;
    Ok(Numbering {
        per: match per.text()? {
            "recordingEntity" => Per::RecordingEntity,
            "senderAndRecipient" => Per::SenderAndRecipient,
            _ => return Err(per.error("recordingEntity or senderAndRecipient is expected")),
        },
        first: first as u32,
        last: last.within(first, 99_999)? as u32,
        wraps: table.need("wraps")?.boolean()?,
    })
}

fn senders(entry: Option<Entry<'_>>) -> Result<BTreeMap<String, String>, SchemaError> {
    let Some(entry) = entry else { return Ok(BTreeMap::new()) };
    let pairs = entry.table()?.entries();
    pairs.into_iter().map(|entry| Ok((entry.key.to_owned(), entry.text()?.to_owned()))).collect()
}

fn exchange_rates(entry: Option<Entry<'_>>) -> Result<BTreeMap<String, Decimal>, SchemaError> {
    let Some(entry) = entry else { return Ok(BTreeMap::new()) };
    let rate = |entry: Entry<'_>| {
        let rate: Option<Decimal> = entry.text()?.parse().ok();
        let rate = rate.filter(|rate| rate.is_sign_positive() && !rate.is_zero());
        let rate = rate
            .ok_or_else(|| entry.error("a rate is a positive decimal number in quotes, such as \"70.5\""))?;
        Ok((entry.key.to_owned(), rate))
    };
    entry.table()?.entries().into_iter().map(rate).collect()
}

fn texts(entry: Option<Entry<'_>>) -> Result<BTreeMap<String, Texts>, SchemaError> {
    let Some(entry) = entry else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for entry in entry.table()?.entries() {
        let table = entry.table()?;
        table.only(&["mandatory", "fields"])?;
        let mut fields = Vec::new();
        for field in table.need("fields")?.array()? {
            let field = field.table()?;
            let tag = field.need("tag")?.lined()?;
            if tag.text.is_empty() || !tag.text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(field.error("a tag consists of ASCII letters and digits"));
            }
            fields.push((tag, from_rule(field, &["tag"])?));
        }
        let mandatory = table.get("mandatory").map_or(Ok(Vec::new()), |entry| entry.texts())?;
        found.insert(entry.key.to_owned(), Texts { mandatory, fields });
    }
    Ok(found)
}

fn section(table: Table<'_>, more: &[&str]) -> Result<Section, SchemaError> {
    table.only(&[&["path", "mandatory", "items"], more].concat())?;
    let mut items = Vec::new();
    for entry in table.need("items")?.table()?.entries() {
        items.push((Lined { text: entry.key.to_owned(), line: entry.line }, item_rule(entry)?));
    }
    Ok(Section { path: table.need("path")?.lined()?, mandatory: table.need("mandatory")?.texts()?, items })
}

fn calls(entry: Entry<'_>) -> Result<Vec<Call>, SchemaError> {
    let mut calls = Vec::new();
    for call in entry.array()? {
        let table = call.table()?;
        let when = conditions(table.get("when"))?;
        calls.push(Call { when, section: section(table, &["when"])? });
    }
    if calls.is_empty() {
        return Err(entry.error("at least one call event is expected"));
    }
    Ok(calls)
}

fn item_rule(entry: Entry<'_>) -> Result<ItemRule, SchemaError> {
    let table = entry.table()?;
    let kinds = ["value", "from", "texts", "each", "always"];
    let given: Vec<&str> = kinds.into_iter().filter(|key| table.get(key).is_some()).collect();
    let [kind] = given[..] else {
        return Err(entry.error(format!("exactly one of {} is expected", kinds.join(", "))));
    };
    if kind == "from" {
        return from_rule(table, &[]);
    }
    table.only(&[kind, "when"])?;
    let value = table.need(kind)?;
    let what = match kind {
        "value" => What::Constant(constant(value)?),
        "texts" => What::Texts(value.text()?.to_owned()),
        "each" if value.text()? == "call" => What::Calls,
        "each" => return Err(value.error("only call events can be listed here: \"call\" is expected")),
        _ if value.boolean()? => What::Always,
        _ => return Err(value.error("leave the item out instead")),
    };
    let when = conditions(table.get("when"))?;
    if !when.is_empty() && !matches!(what, What::Constant(_)) {
        return Err(entry.error("only items with value or from can have conditions"));
    }
    Ok(ItemRule { line: entry.line, when, what })
}

fn from_rule(table: Table<'_>, more: &[&str]) -> Result<ItemRule, SchemaError> {
    table.only(&[&["from", "as", "width", "map", "otherwise", "when"], more].concat())?;
    let from = table.need("from")?;
    let mut sources = Vec::new();
    for name in from.texts()? {
        let source = Source::parse(&name.text);
        sources.push(source.ok_or_else(|| from.error(format!("{} is not a known field", name.text)))?);
    }
    if sources.is_empty() {
        return Err(from.error("at least one field is expected"));
    }
    let conversion = table.get("as").map(|entry| {
        let conversion = Conversion::parse(entry.text()?);
        conversion.ok_or_else(|| entry.error(format!("no such conversion; known are {}", Conversion::NAMES)))
    });
    let width = table.get("width").map(|entry| entry.within(1, 20)).transpose()?;
    let what = What::From(From {
        map: translation(table, &sources)?,
        conversion: conversion.transpose()?,
        width: width.map(|width| width as usize),
        sources,
    });
    Ok(ItemRule { line: from.line, when: conditions(table.get("when"))?, what })
}

fn translation(table: Table<'_>, sources: &[Source]) -> Result<Option<Translation>, SchemaError> {
    let otherwise = table.get("otherwise").map(constant).transpose()?;
    let Some(map) = table.get("map") else {
        return match table.get("otherwise") {
            Some(entry) => Err(entry.error("needs a map")),
            None => Ok(None),
        };
    };
    let [source] = sources else { return Err(map.error("a map has exactly one field")) };
    if source.kind() != ValueKind::Text || table.get("as").is_some() || table.get("width").is_some() {
        return Err(map.error("a map is for a field with texts, without as and width"));
    }
    let mut entries = Vec::new();
    for entry in map.table()?.entries() {
        if let Some(known) = source.closed_set().filter(|known| !known.contains(&entry.key)) {
            return Err(entry.error(format!(
                "{} has no such value; it has {}",
                source.name(),
                known.join(", ")
            )));
        }
        entries.push((entry.key.to_owned(), constant(entry)?));
    }
    let has = |value: &str| entries.iter().any(|(key, _)| key == value);
    let left_out = source.closed_set().and_then(|known| known.into_iter().find(|value| !has(value)));
    if let (Some(value), None) = (left_out, &otherwise) {
        return Err(map.error(format!("{value} of {} is not mapped", source.name())));
    }
    Ok(Some(Translation { entries, otherwise }))
}

fn constant(entry: Entry<'_>) -> Result<Constant, SchemaError> {
    if entry.is_text() {
        Ok(Constant::Text(entry.text()?.to_owned()))
    } else {
        entry.integer().map(Constant::Integer)
    }
}

fn conditions(entry: Option<Entry<'_>>) -> Result<Vec<Condition>, SchemaError> {
    let Some(entry) = entry else { return Ok(Vec::new()) };
    entry.table()?.entries().into_iter().map(condition).collect()
}

fn condition(entry: Entry<'_>) -> Result<Condition, SchemaError> {
    let source = Source::parse(entry.key).ok_or_else(|| entry.error("is not a known field"))?;
    let test = if entry.is_array() {
        let values: Vec<String> = entry.texts()?.into_iter().map(|value| value.text).collect();
        if source.kind() != ValueKind::Text {
            return Err(entry.error("only texts can be compared"));
        }
        if let Some(known) = source.closed_set()
            && let Some(value) = values.iter().find(|value| !known.contains(&value.as_str()))
        {
            return Err(entry.error(format!("it is never {value}; it is one of {}", known.join(", "))));
        }
        Test::OneOf(values)
    } else {
        match entry.text()? {
            "present" => Test::Present,
            "absent" => Test::Absent,
            "changed" if source.listed().is_some() => Test::Changed,
            "changed" => return Err(entry.error("only fields of the adjusting record can be changed")),
            _ => {
                return Err(
                    entry.error("\"present\", \"absent\", \"changed\" or a list of values is expected")
                );
            }
        }
    };
    Ok(Condition { source, line: entry.line, test })
}
