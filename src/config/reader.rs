//! Reads keys out of TOML tables and the environment, and remembers every problem by key.

use super::Problem;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A key's value: from the file, or text from the environment.
enum Raw {
    File(Value),
    Environment(String),
}

/// One table of the configuration, whose keys are taken out one by one; what is left over is unknown.
pub(super) struct Reader<'a> {
    path: String,
    keys: BTreeMap<String, Raw>,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader of `table`, which is at `path`; `overrides` are texts from the environment.
    pub(super) fn new(
        path: &str,
        table: Table,
        overrides: BTreeMap<String, String>,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let mut keys: BTreeMap<String, Raw> =
            table.into_iter().map(|(key, value)| (key, Raw::File(value))).collect();
        keys.extend(overrides.into_iter().map(|(key, text)| (key, Raw::Environment(text))));
        Self { path: path.to_owned(), keys, known: Vec::new(), problems }
    }

    /// The value of `key`, if it is given and readable.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let read = match self.keys.remove(key)? {
            Raw::File(value) => convert(value),
            Raw::Environment(text) => from_environment(&text),
        };
        read.map_err(|why| self.problem(key, &why)).ok()
    }

    /// The value of `key`, or `default` if it is not given.
    pub(super) fn value<T: DeserializeOwned>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value of `key`, which must be given.
    pub(super) fn required<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        if !self.keys.contains_key(key) {
            self.known.push(key);
            self.problem(key, "it is required here");
            return None;
        }
        self.optional(key)
    }

    /// Reads every table of an array of tables with `read`, which says what a table is.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Reader<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let tables: Vec<Table> = self.optional(key)?;
        let mut items = Vec::with_capacity(tables.len());
        for (index, table) in tables.into_iter().enumerate() {
            let path = format!("{}.{key}[{index}]", self.path);
            let mut reader = Reader::new(&path, table, BTreeMap::new(), self.problems);
            items.extend(read(&mut reader));
            reader.refuse_the_rest();
        }
        Some(items)
    }

    /// Refuses every key that was not read, naming the nearest one that was.
    pub(super) fn refuse_the_rest(self) {
        for key in self.keys.keys() {
            let why = unknown(&self.path, key, &self.known);
            self.problems.push(Problem { key: format!("{}.{key}", self.path), why });
        }
    }

    fn problem(&mut self, key: &str, why: &str) {
        self.problems.push(Problem { key: format!("{}.{key}", self.path), why: why.to_owned() });
    }
}

/// Reports that `key` is unknown and which of `known` was probably meant.
pub(super) fn unknown(path: &str, key: &str, known: &[&str]) -> String {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    match nearest(key, known) {
        Some(near) => format!("unknown key; did you mean {prefix}{near}?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

fn convert<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    // Instants may be written with or without quotes.
    let value = match value {
        Value::Datetime(instant) => Value::String(instant.to_string()),
        other => other,
    };
    value.try_into().map_err(|e: toml::de::Error| e.message().to_owned())
}

/// A text from the environment is TOML if it can be read so, else a string.
fn from_environment<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let as_toml = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let as_string = convert(Value::String(text.to_owned()));
    match (as_toml.map(convert), as_string) {
        (Some(Ok(value)), _) | (_, Ok(value)) => Ok(value),
        (Some(Err(why)), _) | (None, Err(why)) => Err(why),
    }
}

/// The known key that begins with this one, or else differs from it in the fewest letters, if it is close enough to be a
/// slip.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let goes_on = |k: &&&str| k.strip_prefix(key).is_some_and(|rest| rest.starts_with('_'));
    if let Some(longer) = known.iter().find(goes_on) {
        return Some(longer);
    }
    let (near, edits) = known.iter().map(|k| (*k, distance(key, k))).min_by_key(|(_, edits)| *edits)?;
    (edits <= 2.max(key.len() / 3)).then_some(near)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("block_cahce_mb", "block_cache_mb"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn texts_of_the_environment_are_numbers_lists_or_strings() {
        assert_eq!(from_environment::<u32>("17"), Ok(17));
        assert_eq!(from_environment::<String>("17"), Ok("17".to_owned()));
        assert_eq!(from_environment::<String>("nats://a:1"), Ok("nats://a:1".to_owned()));
        assert_eq!(from_environment::<Vec<String>>(r#"["a","b"]"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(from_environment::<u32>("many").is_err());
        assert!(from_environment::<u32>("-1").is_err());
    }
}
