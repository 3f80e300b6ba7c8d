//! `[pricing]`: where prices come from.

use super::Config;
use super::check::Check;
use super::reader::Reader;
use super::tariff::{read_table, write_tables};
use cdr_core::tariff::{Tariff, TariffTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where prices come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PricingSource {
    /// The tables of the configuration.
    Tables,
    /// The billing service, and the operator registry for recording entities.
    Grpc,
}

/// `[pricing]`: price lists, or the services that have them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pricing {
    /// Where prices come from.
    pub source: PricingSource,
    /// The billing service, `https://host:port`.
    pub endpoint: Option<String>,
    /// The operator registry, `https://host:port`; where the billing service is, if absent.
    pub registry_endpoint: Option<String>,
    /// Certificates that the services' certificates must descend from, PEM.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate, PEM; read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Private key of `cert_file`, PEM.
    pub key_file: Option<PathBuf>,
    /// Longest time of one attempt of a call, milliseconds.
    pub deadline_ms: u64,
    /// How often the services are polled, milliseconds.
    pub refresh_ms: u64,
    /// How often records without a price are compared with the price lists, milliseconds.
    pub reprice_ms: u64,
    /// Attempts of a call after the first that failed.
    pub retries: u32,
    /// Failures in a row after which a service is not called for a while.
    pub breaker_failures: u32,
    /// How long it is not called before the next attempt, milliseconds.
    pub breaker_open_ms: u64,
    /// Versions of the price list; of those that hold at the event, the one that began last decides.
    #[serde(serialize_with = "write_tables")]
    pub tables: Vec<TariffTable>,
}

impl Default for Pricing {
    fn default() -> Self {
        Self {
            source: PricingSource::Tables,
            endpoint: None,
            registry_endpoint: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            deadline_ms: 2_000,
            refresh_ms: 30_000,
            reprice_ms: 30_000,
            retries: 3,
            breaker_failures: 5,
            breaker_open_ms: 10_000,
            tables: Vec::new(),
        }
    }
}

impl Pricing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        Self {
            source: reader.value("source", default.source),
            endpoint: reader.optional("endpoint"),
            registry_endpoint: reader.optional("registry_endpoint"),
            ca_file: reader.optional("ca_file"),
            cert_file: reader.optional("cert_file"),
            key_file: reader.optional("key_file"),
            deadline_ms: reader.value("deadline_ms", default.deadline_ms),
            refresh_ms: reader.value("refresh_ms", default.refresh_ms),
            reprice_ms: reader.value("reprice_ms", default.reprice_ms),
            retries: reader.value("retries", default.retries),
            breaker_failures: reader.value("breaker_failures", default.breaker_failures),
            breaker_open_ms: reader.value("breaker_open_ms", default.breaker_open_ms),
            tables: reader.tables("tables", read_table).unwrap_or_default(),
        }
    }
}

/// What `[pricing]` must satisfy.
pub(super) fn check(config: &Config, check: &mut Check) {
    let pricing = &config.pricing;
    check.range("pricing.deadline_ms", pricing.deadline_ms, 10, 60_000);
    check.range("pricing.refresh_ms", pricing.refresh_ms, 100, 86_400_000);
    check.range("pricing.reprice_ms", pricing.reprice_ms, 100, 3_600_000);
    check.range("pricing.retries", pricing.retries, 0, 10);
    check.range("pricing.breaker_failures", pricing.breaker_failures, 1, 1_000);
    check.range("pricing.breaker_open_ms", pricing.breaker_open_ms, 10, 600_000);
    match pricing.source {
        PricingSource::Tables => tables(config, check),
        PricingSource::Grpc => services(pricing, check),
    }
}

fn services(pricing: &Pricing, check: &mut Check) {
    let required = |key: &str| (format!("pricing.{key}"), "it is required with source = \"grpc\"");
    let (key, why) = required("endpoint");
    check.that(pricing.endpoint.is_some(), &key, why);
    let endpoints = [("endpoint", &pricing.endpoint), ("registry_endpoint", &pricing.registry_endpoint)];
    for (name, endpoint) in endpoints {
        let Some(endpoint) = endpoint else { continue };
        let why = format!("{endpoint:?} is not https://HOST:PORT; both sides present certificates");
        check.that(is_https(endpoint), &format!("pricing.{name}"), &why);
    }
    for (name, file) in
        [("ca_file", &pricing.ca_file), ("cert_file", &pricing.cert_file), ("key_file", &pricing.key_file)]
    {
        let (key, why) = required(name);
        check.that(file.is_some(), &key, why);
    }
    let why = "with source = \"grpc\" the billing service has the tables: leave them out";
    check.that(pricing.tables.is_empty(), "pricing.tables", why);
}

fn is_https(endpoint: &str) -> bool {
    let address = endpoint.strip_prefix("https://").and_then(|rest| rest.rsplit_once(':'));
    address.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn tables(config: &Config, check: &mut Check) {
    let why = "it has no effect with source = \"tables\": set source = \"grpc\", or leave it out";
    check.that(config.pricing.endpoint.is_none(), "pricing.endpoint", why);
    check.that(config.pricing.registry_endpoint.is_none(), "pricing.registry_endpoint", why);
    let known: BTreeSet<&str> = config.operators.list.iter().map(|operator| operator.id.as_str()).collect();
    let mut versions = BTreeSet::new();
    for (i, table) in config.pricing.tables.iter().enumerate() {
        let key = |name: &str| format!("pricing.tables[{i}].{name}");
        let legal =
            (1..=64).contains(&table.version.len()) && table.version.bytes().all(|b| b.is_ascii_graphic());
        check.that(legal, &key("version"), "1 to 64 visible ASCII characters");
        check.that(versions.insert(&table.version), &key("version"), "another table has the same version");
        let ends = table.valid_to.is_none_or(|to| to > table.valid_from);
        check.that(ends, &key("valid_to"), "it must be later than valid_from");
        for (j, line) in table.tariffs.iter().enumerate() {
            tariff(line, &key(&format!("tariffs[{j}]")), &known, check);
        }
    }
}

fn tariff(line: &Tariff, path: &str, known: &BTreeSet<&str>, check: &mut Check) {
    let operator = line.operator_id.as_deref().is_none_or(|id| known.contains(id));
    check.that(operator, &format!("{path}.operator_id"), "no such operator in operators.list");
    if let (true, Err((field, why))) = (operator, line.check()) {
        check.that(false, &format!("{path}.{field}"), why);
    }
}
