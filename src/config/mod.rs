//! The configuration: TOML sections, overridable by the environment, checked key by key before anything starts.
//!
//! `CDR__SECTION__KEY` overrides `section.key`; its text is read as TOML where that fits, else as a string. Unknown
//! sections and keys are refused with the nearest known one, so that a slip never means a silent default. Secrets are
//! given by file path or environment only, and never printed.

mod api;
mod check;
mod delivery;
mod pricing;
mod reader;
mod sections;
mod tariff;
mod typed;
mod validate;
mod wait;

#[cfg(test)]
mod tests;

pub use cdr_core::key::Algorithm;
pub use cdr_core::tariff::{Tariff, TariffTable};
pub use pricing::{Pricing, PricingSource};
pub use sections::{
    Api, ApiClient, Auth, BusKind, Cluster, Consumers, Delivery, DeliveryKind, Events, Export, Ingest,
    LogFormat, MsisdnHash, Observability, Peers, Settlement, Signer, SignerKind, Storage,
};
pub use tariff::{Operator, Operators};
pub use typed::{ExchangeRate, TimeOfDay};
pub use wait::Wait;

use reader::Reader;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What begins every environment variable of the configuration.
pub const ENVIRONMENT_PREFIX: &str = "CDR__";

/// Sections that this release reads.
const SECTIONS: &[&str] = &[
    "cluster",
    "storage",
    "ingest",
    "events",
    "pricing",
    "operators",
    "settlement",
    "signer",
    "export",
    "delivery",
    "api",
    "auth",
    "consumers",
    "observability",
];

/// Sections that are reserved and have no keys yet.
const RESERVED: &[&str] = &["archive", "anchor"];

/// The effective configuration of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// Who the replicas are.
    pub cluster: Cluster,
    /// Where the bytes are.
    pub storage: Storage,
    /// The bus.
    pub ingest: Ingest,
    /// What is published.
    pub events: Events,
    /// Price lists, or the services that have them.
    pub pricing: Pricing,
    /// Operators.
    pub operators: Operators,
    /// The regulator's day.
    pub settlement: Settlement,
    /// Who signs.
    pub signer: Signer,
    /// Settlement files.
    pub export: Export,
    /// Where files for the regulator go.
    pub delivery: Delivery,
    /// The HTTP interface.
    pub api: Api,
    /// Whose tokens are accepted.
    pub auth: Auth,
    /// The other services' messages.
    pub consumers: Consumers,
    /// What is logged.
    pub observability: Observability,
}

/// A key and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, `section.key`.
    pub key: String,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration {path} can't be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration is not valid TOML: {why}")]
    Syntax {
        /// Place and reason.
        why: String,
    },
    /// Keys are unknown or have values that can't be used.
    #[error("configuration has {} problem(s):\n{}", problems.len(), list(problems))]
    Invalid {
        /// Every problem, in order of the sections.
        problems: Vec<Problem>,
    },
    /// The effective configuration can't be written.
    #[error("the effective configuration can't be written: {why}")]
    Write {
        /// Why.
        why: String,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("  {}: {}", p.key, p.why)).collect::<Vec<_>>().join("\n")
}

/// Reads `path`, lets the environment override it, and checks the result.
///
/// # Errors
/// [`ConfigError`], with every problem by key.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::File { path: path.display().to_string(), source })?;
    Config::parse(&text, std::env::vars())
}

impl Config {
    /// Reads TOML text, lets the variables of `environment` that begin with [`ENVIRONMENT_PREFIX`] override it, and
    /// checks the result.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem by key.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let tables: Table =
            text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax { why: e.to_string() })?;
        let mut problems = Vec::new();
        let mut sections = Sections::new(tables, environment, &mut problems);
        let config = Self {
            cluster: sections.read("cluster", Cluster::read),
            storage: sections.read("storage", Storage::read),
            ingest: sections.read("ingest", Ingest::read),
            events: sections.read("events", Events::read),
            pricing: sections.read("pricing", Pricing::read),
            operators: sections.read("operators", Operators::read),
            settlement: sections.read("settlement", Settlement::read),
            signer: sections.read("signer", Signer::read),
            export: sections.read("export", Export::read),
            delivery: sections.read("delivery", Delivery::read),
            api: sections.read("api", Api::read),
            auth: sections.read("auth", Auth::read),
            consumers: sections.read("consumers", Consumers::read),
            observability: sections.read("observability", Observability::read),
        };
        if problems.is_empty() {
            problems = config.problems();
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { problems }) }
    }

    /// A node of a development cluster: local bus, development key, everything below `data_dir`, on local addresses.
    /// Operators and prices are left to the caller.
    pub fn development(
        cluster_id: &str,
        node_id: u64,
        peers: BTreeMap<u64, String>,
        data_dir: &Path,
        api: &str,
    ) -> Self {
        let beside = |name: &str| -> PathBuf { data_dir.join(name) };
        let mut config = Self::default();
        cluster_id.clone_into(&mut config.cluster.id);
        config.cluster.node_id = node_id;
        config.cluster.initialize = node_id == 1;
        config.cluster.listen = peers.get(&node_id).cloned().unwrap_or_default();
        config.cluster.peers = Peers(peers);
        config.storage.data_dir = beside(&format!("node-{node_id}"));
        config.ingest.bus = BusKind::Local;
        config.ingest.replicas = 1;
        config.events.signing_key_file = Some(beside("event-signing.pem"));
        config.events.replicas = 1;
        config.signer.key_file = Some(beside("signer.key"));
        config.signer.allow_dev = true;
        config.export.schema_variant = Some("atra-tap-v2".to_owned());
        config.delivery.kind = DeliveryKind::Directory;
        config.delivery.directory_path = Some(beside("drop"));
        api.clone_into(&mut config.api.listen);
        config.auth.jwks_file = beside("jwks.json");
        config
    }

    /// Every problem of the values, by key; empty if the configuration can be used.
    pub fn problems(&self) -> Vec<Problem> {
        validate::problems(self)
    }

    /// Names of the sections that are not the same in `other`.
    pub fn sections_that_differ(&self, other: &Self) -> Vec<&'static str> {
        [
            ("cluster", self.cluster == other.cluster),
            ("storage", self.storage == other.storage),
            ("ingest", self.ingest == other.ingest),
            ("events", self.events == other.events),
            ("pricing", self.pricing == other.pricing),
            ("operators", self.operators == other.operators),
            ("settlement", self.settlement == other.settlement),
            ("signer", self.signer == other.signer),
            ("export", self.export == other.export),
            ("delivery", self.delivery == other.delivery),
            ("api", self.api == other.api),
            ("auth", self.auth == other.auth),
            ("consumers", self.consumers == other.consumers),
            ("observability", self.observability == other.observability),
        ]
        .into_iter()
        .filter_map(|(name, same)| (!same).then_some(name))
        .collect()
    }

    /// The configuration in force, as TOML, without secrets.
    ///
    /// # Errors
    /// [`ConfigError::Write`].
    pub fn effective_toml(&self) -> Result<String, ConfigError> {
        let mut shown = self.clone();
        shown.ingest.nats_urls.iter_mut().for_each(|url| *url = without_user(url));
        toml::to_string(&shown).map_err(|e| ConfigError::Write { why: e.to_string() })
    }
}

/// A URL with its user and password hidden.
fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}

/// Sections of the file with the keys of the environment laid over them.
struct Sections<'a> {
    tables: BTreeMap<String, Table>,
    overrides: BTreeMap<String, BTreeMap<String, String>>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Sections<'a> {
    fn new(
        file: Table,
        environment: impl IntoIterator<Item = (String, String)>,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let mut tables = BTreeMap::new();
        for (name, value) in file {
            match value {
                Value::Table(table) if SECTIONS.contains(&name.as_str()) => {
                    tables.insert(name, table);
                }
                _ => problems.push(Problem { why: foreign_section(&name), key: name }),
            }
        }
        let mut overrides: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (variable, text) in environment {
            let Some(path) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            match path.to_lowercase().split_once("__") {
                Some((section, key)) if SECTIONS.contains(&section) => {
                    overrides.entry(section.to_owned()).or_default().insert(key.to_owned(), text);
                }
                Some((section, _)) => problems.push(Problem { why: foreign_section(section), key: variable }),
                None => problems
                    .push(Problem { why: "a variable is named CDR__SECTION__KEY".to_owned(), key: variable }),
            }
        }
        Self { tables, overrides, problems }
    }

    fn read<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let table = self.tables.remove(name).unwrap_or_default();
        let overrides = self.overrides.remove(name).unwrap_or_default();
        let mut reader = Reader::new(name, table, overrides, self.problems);
        let section = read(&mut reader);
        reader.refuse_the_rest();
        section
    }
}

fn foreign_section(name: &str) -> String {
    if RESERVED.contains(&name) {
        "this release has no keys in this section; leave it out".to_owned()
    } else if SECTIONS.contains(&name) {
        format!("it is a section: write [{name}] and its keys below")
    } else {
        reader::unknown("", name, SECTIONS).replace("unknown key", "unknown section")
    }
}
