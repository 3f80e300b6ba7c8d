//! Puts the regulator-facing settings in force into the ledger, as `config` rows: where files go, by which rates they are
//! made and when (event schemas, section 2.12).
//!
//! They are in force on the leader, and are in every node's own configuration. So the leader compares what it applies
//! against the ledger and records what differs, whichever way it came: by a restart, by SIGHUP, or with the leadership of a
//! node whose configuration differs. Paths of this machine, keys and time-outs are not among them.

use crate::config::{self, Config, DeliveryKind};
use crate::delivery::CurrentChannels;
use crate::proposer::{ProposalError, Proposer, SystemRow};
use cdr_core::LedgerState;
use cdr_core::canonical::to_jcs;
use cdr_core::command::Reply;
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the settings are compared.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal, which only a person can correct.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// What is recorded here, named as in the configuration.
const OWN: [&str; 13] = [
    "delivery.kind",
    "delivery.rest_url",
    "delivery.sftp_directory",
    "delivery.sftp_host",
    "delivery.sftp_host_fingerprints",
    "delivery.sftp_port",
    "delivery.sftp_user",
    "export.additional_variants",
    "export.exchange_rates",
    "export.unpriced_wait_hours",
    "settlement.rap_cut_off",
    "settlement.tap_deadline",
    "settlement.tap_start",
];

type Values = BTreeMap<String, String>;

/// The settings that this node applies while it leads.
#[derive(Clone)]
pub struct RegulatorSettings {
    node_id: u64,
    /// What a restart alone changes.
    fixed: Values,
    /// What SIGHUP changes, too.
    channels: Arc<CurrentChannels>,
}

impl RegulatorSettings {
    /// Those of a configuration, with the channels in force.
    pub fn new(config: &Config, channels: Arc<CurrentChannels>) -> Self {
        Self { node_id: config.cluster.node_id, fixed: fixed(config), channels }
    }

    fn in_force(&self) -> Values {
        let mut all = self.fixed.clone();
        all.extend(of_delivery(&self.channels.config()));
        all
    }

    /// The rows that record what is not in force as the ledger says.
    fn rows(&self, state: &LedgerState) -> Vec<SystemRow> {
        let in_force = self.in_force();
        let gone = OWN.iter().filter(|key| !in_force.contains_key(**key));
        let gone = gone.map(|key| ((*key).to_owned(), String::new())).collect::<Values>();
        // What is empty and never was anything else is nothing to record.
        let changed = in_force
            .into_iter()
            .chain(gone)
            .filter(|(key, value)| state.settings.get(key).unwrap_or_default() != value.as_str());
        changed.map(|(key, value)| (SystemKind::Config, to_jcs(&self.change(state, key, value)))).collect()
    }

    fn change(&self, state: &LedgerState, config_key: String, new_value: String) -> SettingChange {
        SettingChange {
            actor_user_id: "system:config".to_owned(),
            approver_user_id: None,
            previous_value: state.settings.get(&config_key).map(str::to_owned),
            config_key,
            content: Some(json!({ "nodeId": self.node_id })),
            new_value,
            reason: format!("node {} leads with this configuration", self.node_id),
            ticket_id: None,
        }
    }
}

fn fixed(config: &Config) -> Values {
    let (export, settlement) = (&config.export, &config.settlement);
    let rates: Vec<String> =
        export.exchange_rates.iter().map(|(currency, rate)| format!("{currency}={rate}")).collect();
    [
        ("export.additional_variants", export.additional_variants.join(", ")),
        ("export.exchange_rates", rates.join(", ")),
        ("export.unpriced_wait_hours", export.unpriced_wait_hours.to_string()),
        ("settlement.rap_cut_off", settlement.rap_cut_off.to_string()),
        ("settlement.tap_deadline", settlement.tap_deadline.to_string()),
        ("settlement.tap_start", settlement.tap_start.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn of_delivery(delivery: &config::Delivery) -> Values {
    let kind = match delivery.kind {
        DeliveryKind::None => "none",
        DeliveryKind::Directory => "directory",
        DeliveryKind::Regulator => "regulator",
    };
    let mut all = vec![("delivery.kind", kind.to_owned())];
    if delivery.kind == DeliveryKind::Regulator {
        all.extend([
            ("delivery.sftp_host", delivery.sftp_host.clone()),
            ("delivery.sftp_port", delivery.sftp_port.to_string()),
            ("delivery.sftp_user", delivery.sftp_user.clone()),
            ("delivery.sftp_directory", delivery.sftp_directory.clone()),
            ("delivery.sftp_host_fingerprints", delivery.sftp_host_fingerprints.join(", ")),
            (
                "delivery.rest_url",
                delivery.rest_url.as_deref().map(without_query).unwrap_or_default().to_owned(),
            ),
        ]);
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What follows the path of a URL may be a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Records settings until the term is over.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(settings: &RegulatorSettings, proposer: &Proposer) -> Result<(), ProposalError> {
    loop {
        let rows = settings.rows(&proposer.state());
        if rows.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let count = rows.len();
        if let Reply::Rejected(rejection) = proposer.append_rows("config", rows).await? {
            tracing::error!(severity = "SEV2", %rejection, "changed settings can't be recorded");
            tokio::time::sleep(REFUSED_PAUSE).await;
        } else {
            tracing::info!(count, "the ledger has the settings in force");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{ExchangeRate, TimeOfDay};
    use crate::metrics::Metrics;
    use crate::test_support::node::TestNode;
    use cdr_core::Hour;
    use serde_json::Value;

    /// Records what differs; key, previous and new value of each.
    async fn recorded(settings: &RegulatorSettings, node: &TestNode) -> Vec<(String, Value, String)> {
        let rows = settings.rows(&node.proposer.state());
        let shown = |row: &SystemRow| {
            let body: Value = serde_json::from_slice(row.1.as_ref().unwrap()).unwrap();
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            (text("configKey"), body["previousValue"].clone(), text("newValue"))
        };
        let changes = rows.iter().map(shown).collect();
        let reply = node.proposer.append_rows("test", rows).await.unwrap();
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
        assert!(settings.rows(&node.proposer.state()).is_empty(), "once");
        changes
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_regulator_gets_and_when_is_recorded_whichever_way_it_changes() {
        let node = TestNode::begin(Clock::replay(Hour(493_525).start())).await;
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "no key").unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut config = Config::default();
        let settings = |config: &Config| {
            let channels = CurrentChannels::open(&config.delivery, metrics.clone()).unwrap();
            RegulatorSettings::new(config, Arc::new(channels))
        };
        let first = recorded(&settings(&config), &node).await;
        assert_eq!(first.len(), 5, "{first:?}");
        assert!(first.iter().all(|(_, previous, _)| previous.is_null()), "{first:?}");
        assert!(first.contains(&("delivery.kind".to_owned(), Value::Null, "none".to_owned())), "{first:?}");

        // A restart with another configuration.
        config.export.exchange_rates =
            BTreeMap::from([("USD".to_owned(), ExchangeRate("70.25".parse().unwrap()))]);
        config.settlement.tap_start = TimeOfDay::at(0, 45);
        let change =
            |key: &str, previous: Option<&str>, new: &str| (key.to_owned(), json!(previous), new.to_owned());
        let restarted = settings(&config);
        assert_eq!(
            recorded(&restarted, &node).await,
            [
                change("export.exchange_rates", None, "USD=70.25"),
                change("settlement.tap_start", Some("00:30"), "00:45")
            ]
        );

        // Channels exchanged while it runs.
        let directory = config::Delivery {
            kind: DeliveryKind::Directory,
            directory_path: Some(dir.path().join("drop")),
            ..config::Delivery::default()
        };
        restarted.channels.exchange(&directory).unwrap();
        assert_eq!(recorded(&restarted, &node).await, [change("delivery.kind", Some("none"), "directory")]);
    }

    #[test]
    fn receivers_are_named_without_secrets_and_paths() {
        let delivery = config::Delivery {
            kind: DeliveryKind::Regulator,
            sftp_host: "drop.example.net".to_owned(),
            sftp_user: "cdr".to_owned(),
            sftp_host_fingerprints: vec!["SHA256:a".to_owned(), "SHA256:b".to_owned()],
            sftp_key_files: vec!["/secret/key".into()],
            rest_url: Some("https://api.example.net/upload?token=secret".to_owned()),
            ..config::Delivery::default()
        };
        let values = of_delivery(&delivery);
        assert_eq!(values["delivery.sftp_host_fingerprints"], "SHA256:a, SHA256:b");
        assert_eq!(values["delivery.rest_url"], "https://api.example.net/upload");
        assert!(!format!("{values:?}").contains("secret"), "{values:?}");
        let mut all = fixed(&Config::default());
        all.extend(values);
        assert!(all.keys().eq(OWN), "{all:?}");
    }
}
