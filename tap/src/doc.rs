//! Reading TOML documents that know the line of every key.

use super::error::SchemaError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a document.
pub(super) struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

/// A table of a document.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    text: &'a Text<'a>,
    map: &'a DeTable<'a>,
    pub(super) line: usize,
}

/// A value of a document with its key.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    text: &'a Text<'a>,
    pub(super) key: &'a str,
    value: &'a DeValue<'a>,
    pub(super) line: usize,
}

/// A text of a document with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lined {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Reads the document `text` of the file named `file`.
pub(super) fn read<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(Table<'_>) -> Result<T, SchemaError>,
) -> Result<T, SchemaError> {
    let source = Text { file, text };
    let root = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| source.line(span.start));
        SchemaError::new(file, line, error.message().to_owned())
    })?;
    read(Table { text: &source, map: root.get_ref(), line: 1 })
}

impl Text<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.get(..offset).unwrap_or(self.text).matches('\n').count()
    }

    fn error(&self, line: usize, why: impl Into<String>) -> SchemaError {
        SchemaError::new(self.file, line, why)
    }
}

impl<'a> Table<'a> {
    pub(super) fn error(&self, why: impl Into<String>) -> SchemaError {
        self.text.error(self.line, why)
    }

    /// Every key with its value, in the order of the document.
    pub(super) fn entries(&self) -> Vec<Entry<'a>> {
        let mut found: Vec<(usize, Entry<'a>)> = self
            .map
            .iter()
            .map(|(key, value)| {
                let line = self.text.line(key.span().start);
                (
                    key.span().start,
                    Entry { text: self.text, key: key.get_ref(), value: value.get_ref(), line },
                )
            })
            .collect();
        found.sort_by_key(|(start, _)| *start);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry<'a>> {
        self.entries().into_iter().find(|entry| entry.key == key)
    }

    pub(super) fn need(&self, key: &str) -> Result<Entry<'a>, SchemaError> {
        self.get(key).ok_or_else(|| self.error(format!("{key} is missing here")))
    }

    /// Refuses keys that are not among `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), SchemaError> {
        match self.entries().into_iter().find(|entry| !known.contains(&entry.key)) {
            Some(entry) => Err(entry.error(format!("unknown key; known are {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

impl<'a> Entry<'a> {
    pub(super) fn error(&self, why: impl AsRef<str>) -> SchemaError {
        self.text.error(self.line, format!("{}: {}", self.key, why.as_ref()))
    }

    fn expected(&self, what: &str) -> SchemaError {
        self.error(format!("{what} is expected, not a value of type {}", self.value.type_str()))
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn text(&self) -> Result<&'a str, SchemaError> {
        self.value.as_str().ok_or_else(|| self.expected("a text"))
    }

    pub(super) fn lined(&self) -> Result<Lined, SchemaError> {
        Ok(Lined { text: self.text()?.to_owned(), line: self.line })
    }

    pub(super) fn integer(&self) -> Result<i64, SchemaError> {
        let number = self.value.as_integer().ok_or_else(|| self.expected("a number"))?;
        i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map_err(|_| self.error("the number is too large"))
    }

    /// A number in a range.
    pub(super) fn within(&self, least: i64, most: i64) -> Result<i64, SchemaError> {
        let number = self.integer()?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(self.error(format!("{number} is not between {least} and {most}")))
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, SchemaError> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    pub(super) fn table(&self) -> Result<Table<'a>, SchemaError> {
        let map = self.value.as_table().ok_or_else(|| self.expected("a table"))?;
        Ok(Table { text: self.text, map, line: self.line })
    }

    /// The elements of an array; each has the array's key.
    pub(super) fn array(&self) -> Result<Vec<Entry<'a>>, SchemaError> {
        let array = self.value.as_array().ok_or_else(|| self.expected("an array"))?;
        let entry = |value: &'a Spanned<DeValue<'a>>| Entry {
            text: self.text,
            key: self.key,
            value: value.get_ref(),
            line: self.text.line(value.span().start),
        };
        Ok(array.iter().map(entry).collect())
    }

    /// A text, or an array of texts.
    pub(super) fn texts(&self) -> Result<Vec<Lined>, SchemaError> {
        if self.is_array() {
            self.array()?.iter().map(Entry::lined).collect()
        } else {
            Ok(vec![self.lined()?])
        }
    }
}
