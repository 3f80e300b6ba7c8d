//! Schema variants: folders that are read when the service starts (US-CDR-009).

use super::asn1;
use super::compile::{self, Compiled};
use super::error::{EncodeError, SchemaError};
use super::header::FileHeader;
use super::mapping::{self, FileKind, Mapping, Numbering};
use super::source::FileValues;
use cdr_core::Hash;
use cdr_core::hash::sha256_concat;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Every variant of a folder, by name.
#[derive(Debug)]
pub struct Variants {
    by_name: BTreeMap<String, Arc<Variant>>,
}

/// A variant: how TAP and RAP files are made.
#[derive(Debug)]
pub struct Variant {
    /// Name of its folder.
    pub name: String,
    /// SHA-256 over names, lengths and bytes of its files, by name. It pins what a file was made with.
    pub hash: Hash,
    /// Call events.
    pub tap: Format,
    /// Returned call events.
    pub rap: Format,
}

/// One kind of file of a variant.
#[derive(Debug)]
pub struct Format {
    pub(super) mapping: Mapping,
    pub(super) compiled: Compiled,
}

/// A file of a variant's folder.
struct Part {
    name: String,
    bytes: Vec<u8>,
}

const TAP_MAPPING: &str = "tap.toml";
const RAP_MAPPING: &str = "rap.toml";

impl Variants {
    /// Loads every folder below `folder` as a variant.
    ///
    /// # Errors
    /// [`SchemaError`] naming file and line: the service must not start.
    pub fn load(folder: &Path) -> Result<Self, SchemaError> {
        let unreadable =
            |error: io::Error| SchemaError::new(&folder.display().to_string(), 0, error.to_string());
        let mut by_name = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() {
                let variant = Variant::load(&path)?;
                by_name.insert(variant.name.clone(), Arc::new(variant));
            }
        }
        if by_name.is_empty() {
            let why = "there is no variant: each is a folder with tap.toml, rap.toml and their modules";
            return Err(SchemaError::new(&folder.display().to_string(), 0, why));
        }
        Ok(Self { by_name })
    }

    /// The variant of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Variant>> {
        self.by_name.get(name)
    }

    /// Every variant, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Variant>> {
        self.by_name.values()
    }
}

impl Variant {
    /// Loads the variant in `folder`, whose name is the variant's.
    ///
    /// # Errors
    /// [`SchemaError`] naming file and line.
    pub fn load(folder: &Path) -> Result<Self, SchemaError> {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !is_name || name.len() > 64 {
            return Err(SchemaError::new(
                &name,
                0,
                "a variant's name has up to 64 ASCII letters, digits, - _ and .",
            ));
        }
        let parts = parts(folder, &name)?;
        let tap = Format::load(&name, &parts, TAP_MAPPING, FileKind::Tap)?;
        let rap = Format::load(&name, &parts, RAP_MAPPING, FileKind::Rap)?;
        for part in parts.iter().filter(|part| mapping::is_module(&part.name)) {
            let modules = tap.mapping.modules.iter().chain(&rap.mapping.modules);
            if !modules.into_iter().any(|module| module.text == part.name) {
                let why = "no mapping names this module: remove it, or name it in tap.toml or rap.toml";
                return Err(SchemaError::new(&format!("{name}/{}", part.name), 0, why));
            }
        }
        if (&tap.mapping.currency, tap.mapping.decimal_places)
            != (&rap.mapping.currency, rap.mapping.decimal_places)
        {
            let why = "money: currency and decimal_places differ from those of tap.toml, so returned charges would not add up";
            return Err(SchemaError::new(&format!("{name}/{RAP_MAPPING}"), 0, why));
        }
        Ok(Self { hash: hash(&parts), name, tap, rap })
    }

    /// The format of that kind.
    pub fn format(&self, kind: FileKind) -> &Format {
        match kind {
            FileKind::Tap => &self.tap,
            FileKind::Rap => &self.rap,
        }
    }
}

/// The files of a variant's folder, by name.
fn parts(folder: &Path, variant: &str) -> Result<Vec<Part>, SchemaError> {
    let unreadable = |error: io::Error| SchemaError::new(variant, 0, error.to_string());
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_known =
            name == TAP_MAPPING || name == RAP_MAPPING || name == "README.md" || mapping::is_module(&name);
        if !is_known || !path.is_file() {
            let why = "a variant holds tap.toml, rap.toml, modules (.asn1) and README.md, nothing else";
            return Err(SchemaError::new(&format!("{variant}/{name}"), 0, why));
        }
        parts.push(Part { name, bytes: fs::read(&path).map_err(unreadable)? });
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// SHA-256 over each file's name, a zero byte, its length in eight bytes and its bytes.
fn hash(parts: &[Part]) -> Hash {
    let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.bytes.len() as u64).to_be_bytes()).collect();
    let pieces: Vec<&[u8]> = parts
        .iter()
        .zip(&lengths)
        .flat_map(|(part, length)| [part.name.as_bytes(), &[0][..], &length[..], &part.bytes[..]])
        .collect();
    sha256_concat(&pieces)
}

fn text<'a>(
    variant: &str,
    parts: &'a [Part],
    name: &str,
    from: &str,
    line: usize,
) -> Result<&'a str, SchemaError> {
    let Some(part) = parts.iter().find(|part| part.name == name) else {
        return Err(SchemaError::new(from, line, format!("{variant}/{name} is missing")));
    };
    let not_text = |_| SchemaError::new(&format!("{variant}/{name}"), 0, "is not UTF-8");
    std::str::from_utf8(&part.bytes).map_err(not_text)
}

impl Format {
    fn load(variant: &str, parts: &[Part], name: &str, kind: FileKind) -> Result<Self, SchemaError> {
        let file = format!("{variant}/{name}");
        let mapping = mapping::read(&file, text(variant, parts, name, variant, 0)?)?;
        if mapping.kind != kind {
            return Err(SchemaError::new(&file, 1, format!("kind: {} is expected in {name}", kind.as_str())));
        }
        let mut modules = Vec::new();
        for module in &mapping.modules {
            let text = text(variant, parts, &module.text, &file, module.line)?;
            modules.push((format!("{variant}/{}", module.text), text.to_owned()));
        }
        let types = asn1::compile(&modules)?;
        let compiled = compile::compile(&mapping, &types)?;
        Ok(Self { mapping, compiled })
    }

    /// Which kind of file.
    pub fn kind(&self) -> FileKind {
        self.mapping.kind
    }

    /// How files are numbered.
    pub fn numbering(&self) -> &Numbering {
        &self.mapping.numbering
    }

    /// The sender of files of a recording entity: the one that the mapping names, or the entity's first five characters,
    /// which are country and network code. A name that does not fit the module is refused when a file is opened.
    pub fn sender(&self, recording_entity: &str) -> String {
        let first: String = recording_entity.chars().take(5).collect();
        self.mapping.senders.get(recording_entity).cloned().unwrap_or(first)
    }

    /// Who receives the files.
    pub fn recipient(&self) -> &str {
        &self.mapping.recipient.text
    }

    /// The currency of every charge.
    pub fn currency(&self) -> &str {
        &self.mapping.currency
    }

    /// Decimal places of every charge.
    pub fn decimal_places(&self) -> u8 {
        self.mapping.decimal_places
    }

    /// Name of the file with these header values.
    pub fn file_name(&self, header: &FileHeader) -> String {
        let pattern = if header.test { &self.mapping.test_name } else { &self.mapping.live_name };
        let mut name = String::new();
        let mut rest = pattern.text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, tail) = after.split_once('}').unwrap_or((after, ""));
            let (placeholder, width) = inside.split_once(':').unwrap_or((inside, "1"));
            let width: usize = width.parse().unwrap_or(1);
            name.push_str(before);
            match placeholder {
                "recordingEntity" => name.push_str(&header.recording_entity),
                "sender" => name.push_str(&header.sender),
                "recipient" => name.push_str(&header.recipient),
                // Writing to a String does not fail.
                "sequence" => _ = write!(name, "{:0width$}", header.sequence),
                _ => _ = write!(name, "{}", header.settlement_day.strftime("%Y%m%d")),
            }
            rest = tail;
        }
        name.push_str(rest);
        name
    }

    /// The header in the form in which it is written.
    ///
    /// # Errors
    /// Header values that no file can have.
    pub(super) fn file_values(&self, header: &FileHeader) -> Result<FileValues, EncodeError> {
        let numbering = self.numbering();
        if !(numbering.first..=numbering.last).contains(&header.sequence) {
            let why =
                format!("{} is not between {} and {}", header.sequence, numbering.first, numbering.last);
            return Err(EncodeError::new("file.sequence", "file sequence number", why));
        }
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        for (field, value) in [
            ("file.recordingEntity", &header.recording_entity),
            ("file.sender", &header.sender),
            ("file.recipient", &header.recipient),
        ] {
            if value.is_empty() || !is_plain(value) {
                let why = format!(
                    "{value:?} can't stand in a file name: ASCII letters, digits, - and _ are expected"
                );
                return Err(EncodeError::new(field, "file name", why));
            }
        }
        let is_positive = |rate: &Decimal| rate.is_sign_positive() && !rate.is_zero();
        if let Some((currency, rate)) = header.exchange_rates.iter().find(|(_, rate)| !is_positive(rate)) {
            let why = format!("the rate of {currency} is {rate}, but a rate is positive");
            return Err(EncodeError::new("file.exchangeRates", "charge", why));
        }
        Ok(FileValues {
            header: header.clone(),
            settlement_day: header.settlement_day.to_string(),
            currency: self.mapping.currency.clone(),
            decimal_places: self.mapping.decimal_places,
        })
    }

    /// What one unit of `currency` is worth in the file's; none for the file's own.
    ///
    /// # Errors
    /// A currency without a rate.
    pub(super) fn exchange_rate(
        &self,
        header: &FileHeader,
        currency: &str,
    ) -> Result<Option<Decimal>, String> {
        if currency == self.mapping.currency {
            return Ok(None);
        }
        let rates = [&header.exchange_rates, &self.mapping.exchange_rates];
        let rate = rates.into_iter().find_map(|rates| rates.get(currency)).copied();
        let missing = || {
            format!("there is no exchange rate from {currency} to {}: configure one", self.mapping.currency)
        };
        rate.map(Some).ok_or_else(missing)
    }
}
