//! What a node's configuration may not say otherwise than the ledger: what was fixed when the ledger began, the content of
//! price lists that it has, and the schema variant in force, which is exchanged by activation only (US-CDR-009).
//!
//! It is compared with the ledger as the node finds it at its start, again once the node has caught up, and whenever it is
//! elected: a node that contradicts the ledger neither goes on nor leads.

mod variant;

use crate::config::{Config, PricingSource};
use crate::pricing;
use cdr_core::LedgerState;
use cdr_core::hash::to_hex;
use cdr_raft::Node;
use cdr_storage::Store;
use std::path::PathBuf;
use std::time::Duration;

/// Pause before it is seen again whether there is a ledger, and whether this node has caught up.
const PAUSE: Duration = Duration::from_secs(1);

/// What the configuration says otherwise than the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// It is the ledger of another cluster.
    #[error(
        "{dir} holds the ledger of cluster {held}, the configuration names {named}: use its own directory"
    )]
    Cluster {
        /// The data directory.
        dir: PathBuf,
        /// Cluster of the ledger.
        held: String,
        /// Cluster of the configuration.
        named: String,
    },
    /// The ledger's days are those of another zone.
    #[error(
        "settlement.zone is {named}, but the ledger's zone is {held} and can't be changed: set that in the configuration"
    )]
    Zone {
        /// Zone of the ledger.
        held: String,
        /// Zone of the configuration.
        named: String,
    },
    /// The ledger remembers messages for another time.
    #[error(
        "ingest.dedup_horizon_hours is {named}, but the ledger's horizon is {held} h and can't be changed: set that in the \
         configuration"
    )]
    Horizon {
        /// Horizon of the ledger, hours.
        held: u32,
        /// Horizon of the configuration, hours.
        named: u32,
    },
    /// A price list has another content.
    #[error(
        "pricing.tables: the ledger has price list {version} with another content (SHA-256 {held}, here {named}), and rows \
         that it priced name it: the content of a version never changes, give the new list a version of its own"
    )]
    PriceList {
        /// The version.
        version: String,
        /// Hash of its content in the ledger.
        held: String,
        /// Hash of its content in the configuration.
        named: String,
    },
    /// Files are made by another variant.
    #[error(
        "export.schema_variant is {}, but {held} is in force: a variant is activated by two people, over POST \
         /v1/cdr/regulator-schemas/VARIANT:activate, and not by the configuration. Set {held} in it again; after an \
         activation name the new one",
        named.as_deref().unwrap_or("not set")
    )]
    Variant {
        /// Variant in force.
        held: String,
        /// Variant of the configuration.
        named: Option<String>,
    },
}

/// The parts of a node's configuration that must agree with the ledger.
#[derive(Clone, Debug)]
pub struct Terms {
    data_dir: PathBuf,
    cluster_id: String,
    zone: String,
    dedup_horizon_hours: u32,
    /// Price lists of the configuration: version, and hash of the content.
    price_lists: Vec<(String, String)>,
    schema_variant: Option<String>,
    /// Operators of the configuration: id and recording entity.
    operators: Vec<(String, String)>,
}

impl Terms {
    /// What `config` says.
    pub fn of(config: &Config) -> Self {
        let tables = match config.pricing.source {
            PricingSource::Tables => &config.pricing.tables[..],
            PricingSource::Grpc => &[],
        };
        let price_list = |table: &cdr_core::tariff::TariffTable| {
            Some((table.version.clone(), to_hex(&table.content_hash().ok()?)))
        };
        let operators = config.operators.list.iter();
        Self {
            data_dir: config.storage.data_dir.clone(),
            cluster_id: config.cluster.id.clone(),
            zone: config.settlement.zone.clone(),
            dedup_horizon_hours: config.ingest.dedup_horizon_hours,
            price_lists: tables.iter().filter_map(price_list).collect(),
            schema_variant: config.export.schema_variant.clone(),
            operators: operators.map(|o| (o.id.clone(), o.recording_entity.clone())).collect(),
        }
    }

    /// Compares what never changes with a ledger, existing or not yet begun.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub fn check(&self, state: &LedgerState) -> Result<(), Contradiction> {
        let Some(cluster) = &state.cluster else { return Ok(()) };
        if cluster.cluster_id != self.cluster_id {
            let (held, named) = (cluster.cluster_id.clone(), self.cluster_id.clone());
            return Err(Contradiction::Cluster { dir: self.data_dir.clone(), held, named });
        }
        if cluster.zone != self.zone {
            return Err(Contradiction::Zone { held: cluster.zone.clone(), named: self.zone.clone() });
        }
        if cluster.dedup_horizon_hours != self.dedup_horizon_hours {
            let (held, named) = (cluster.dedup_horizon_hours, self.dedup_horizon_hours);
            return Err(Contradiction::Horizon { held, named });
        }
        for (version, named) in &self.price_lists {
            let held = state.settings.get(&pricing::setting_of(version));
            if let Some(held) = held.filter(|held| held != named) {
                let (version, held, named) = (version.clone(), held.to_owned(), named.clone());
                return Err(Contradiction::PriceList { version, held, named });
            }
        }
        Ok(())
    }

    /// The configured operators that differ from the ledger's, which apply.
    pub fn ignored(&self, state: &LedgerState) -> Vec<String> {
        let differing = |(id, named): &(String, String)| {
            let known = state.registry.iter().find(|operator| operator.operator_id == *id)?;
            let held = &known.recording_entity;
            (held != named).then(|| format!("{id} has recording entity {held} in the ledger, {named} here"))
        };
        self.operators.iter().filter_map(differing).collect()
    }

    /// Waits until the ledger has begun and `node` has caught up, and compares everything with it. Never returns if
    /// nothing contradicts.
    pub async fn contradiction(&self, node: &Node, store: &Store) -> Contradiction {
        loop {
            let state = store.state();
            let is_named = self.schema_variant.is_none() || crate::names::variant_in_force(&state).is_some();
            if state.cluster.is_some() && is_named && node.read_barrier().await.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let state = store.state();
        for what in self.ignored(&state) {
            tracing::warn!(
                severity = "SEV2",
                what,
                "operators.list: the recording entity differs from the ledger's, which applies"
            );
        }
        if let Err(contradiction) = self.check(&state).and_then(|()| self.check_variant(&state)) {
            return contradiction;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::names::VARIANT_SETTING as SCHEMA_VARIANT;
    use crate::test_support::node::{TestNode, ledger_begun_at};
    use cdr_core::canonical::to_jcs;
    use cdr_core::row::SystemKind;
    use cdr_core::setting::SettingChange;
    use cdr_core::tariff::TariffTable;
    use cdr_core::{Hour, Millis};

    fn config() -> Config {
        let mut config = Config::default();
        config.cluster.id = "test".to_owned();
        config.pricing.tables = vec![TariffTable {
            version: "2026-1".to_owned(),
            valid_from: Millis(0),
            valid_to: None,
            tariffs: Vec::new(),
        }];
        config
    }

    fn ledger() -> LedgerState {
        ledger_begun_at(Millis(0))
    }

    #[test]
    fn what_a_ledger_began_with_stays() {
        let check = |change: &dyn Fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            assert_eq!(Terms::of(&config).check(&LedgerState::default()), Ok(()), "there is no ledger yet");
            Terms::of(&config).check(&ledger()).map_err(|error| error.to_string())
        };
        assert_eq!(check(&|_| ()), Ok(()));
        let why = check(&|config| config.settlement.zone = "UTC".to_owned()).unwrap_err();
        assert!(why.contains("settlement.zone is UTC") && why.contains("Asia/Kabul"), "{why}");
        let why = check(&|config| config.ingest.dedup_horizon_hours = 24).unwrap_err();
        assert!(why.contains("is 24") && why.contains("168 h"), "{why}");
        let why = check(&|config| config.cluster.id = "other".to_owned()).unwrap_err();
        assert!(why.contains("the ledger of cluster test"), "{why}");
    }

    /// Sets a setting of a ledger.
    async fn set(node: &TestNode, key: &str, value: &str) {
        let change = SettingChange {
            actor_user_id: "somebody".to_owned(),
            approver_user_id: None,
            config_key: key.to_owned(),
            content: None,
            new_value: value.to_owned(),
            previous_value: node.proposer.state().settings.get(key).map(str::to_owned),
            reason: "why".to_owned(),
            ticket_id: None,
        };
        let rows = vec![(SystemKind::Config, to_jcs(&change))];
        node.proposer.append_rows("test", rows).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_price_list_keeps_its_content_and_a_variant_is_exchanged_by_activation() {
        let node = TestNode::begin(Clock::replay(Hour(493_525).start())).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = config();
        config.storage.data_dir = dir.path().to_owned();
        config.ingest.dedup_horizon_hours = 24;
        let (check, variant) = (
            |config: &Config| Terms::of(config).check(&node.proposer.state()),
            |config: &Config| Terms::of(config).check_variant(&node.proposer.state()),
        );
        assert_eq!(check(&config), Ok(()));
        let hash = to_hex(&config.pricing.tables[0].content_hash().unwrap());
        set(&node, "pricing.table.2026-1", &hash).await;
        assert_eq!(check(&config), Ok(()));
        let mut other = config.clone();
        other.pricing.tables[0].valid_from = Millis(1);
        let why = check(&other).unwrap_err().to_string();
        assert!(why.contains("price list 2026-1") && why.contains(&hash), "{why}");

        let mut named = |name: Option<&str>| {
            config.export.schema_variant = name.map(str::to_owned);
            variant(&config).map_err(|error| error.to_string())
        };
        assert_eq!(named(Some("tap-a")), Ok(()), "nobody has named one");
        set(&node, SCHEMA_VARIANT, "tap-a").await;
        assert!(named(Some("tap-b")).unwrap_err().contains("is tap-b, but tap-a is in force"));
        assert_eq!(named(Some("tap-a")), Ok(()));
        assert!(named(None).unwrap_err().contains("is not set, but tap-a is in force"));
        set(&node, SCHEMA_VARIANT, "tap-b").await;
        assert_eq!(named(Some("tap-a")), Ok(()), "it is as it was before the activation");
        assert!(named(Some("tap-c")).unwrap_err().contains("tap-b is in force"));
        assert_eq!(named(Some("tap-b")), Ok(()));
        assert!(named(Some("tap-a")).unwrap_err().contains("tap-b is in force"), "it was changed back");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn another_recording_entity_is_named() {
        let node = TestNode::with_records(1).await;
        let mut config = config();
        let operator = |id: &str, entity: &str| crate::config::Operator {
            id: id.to_owned(),
            recording_entity: entity.to_owned(),
        };
        config.operators.list = vec![operator("AWCC", "4120199"), operator("NEW", "4129999")];
        let ignored = Terms::of(&config).ignored(&node.proposer.state());
        assert_eq!(ignored, ["AWCC has recording entity 4120101 in the ledger, 4120199 here"]);
        config.operators.list[0].recording_entity = "4120101".to_owned();
        assert_eq!(Terms::of(&config).ignored(&node.proposer.state()), Vec::<String>::new());
    }
}
