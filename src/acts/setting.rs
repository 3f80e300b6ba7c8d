//! Settings of a replica that it put in force while it runs.

use super::appended::{Appended, jcs, object};
use super::{Act, ActError, NodeSetting};
use cdr_core::LedgerState;
use cdr_core::audit::AuditRecord;
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use serde_json::json;

/// The row that records the setting. What it follows is what the ledger has: a replica may have been started with
/// another value than the one that was recorded last.
///
/// # Errors
/// [`ActError::Refused`] if the ledger has that value already.
pub(super) fn recorded(state: &LedgerState, setting: &NodeSetting, act: &Act) -> Result<Appended, ActError> {
    let config_key = format!("node.{}.{}", setting.node_id, setting.name);
    let previous = state.settings.get(&config_key);
    if previous == Some(setting.value.as_str()) {
        return Err(ActError::Refused { why: format!("{config_key} has that value in the ledger") });
    }
    let change = SettingChange {
        actor_user_id: act.actor.clone(),
        approver_user_id: None,
        previous_value: previous.map(str::to_owned),
        new_value: setting.value.clone(),
        content: Some(json!({"inForceBefore": setting.before, "nodeId": setting.node_id})),
        reason: act.reason.clone().unwrap_or_default(),
        ticket_id: None,
        config_key: config_key.clone(),
    };
    let audit = AuditRecord {
        entry_type: "CONFIG_RELOADED".to_owned(),
        details: object(json!({
            "configKey": config_key, "newValue": setting.value, "nodeId": setting.node_id,
        })),
        ..AuditRecord::default()
    };
    Ok(Appended { kind: SystemKind::Config, body: jcs(&change)?, audit })
}
