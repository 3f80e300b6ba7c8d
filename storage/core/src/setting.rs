//! Regulator-facing settings: what is in force is a fold over `config` rows.
//!
//! A `config` row with a `configKey` changes one setting, and says from what to what, who did it and why. What the
//! value names may be in the row, too, so that the ledger alone has it: a price list, for example.

use crate::command::Rejection;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most settings at once.
pub const MOST_SETTINGS: usize = 10_000;

/// The body of a `config` row that changes a setting (`cdr.config.changed.v1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingChange {
    /// Who changed it: a person, or a worker's name.
    pub actor_user_id: String,
    /// Who approved, where that was needed.
    pub approver_user_id: Option<String>,
    /// The setting.
    pub config_key: String,
    /// What the value names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// Its value from now on.
    pub new_value: String,
    /// Its value before; none if it had none.
    pub previous_value: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// Ticket that requested it.
    pub ticket_id: Option<String>,
}

/// The settings in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Settings(Arc<BTreeMap<String, String>>);

impl Settings {
    /// The value of a setting.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Applies a change.
    ///
    /// # Errors
    /// [`Rejection::Illegal`] if it does not change what is in force.
    pub(crate) fn fold(&mut self, change: SettingChange) -> Result<(), Rejection> {
        let SettingChange { config_key, new_value, previous_value, .. } = change;
        let illegal = |why: &str| Err(Rejection::Illegal { why: format!("setting {config_key}: {why}") });
        if self.get(&config_key) != previous_value.as_deref() {
            return illegal("the value in force is not the one to be changed");
        }
        if previous_value.as_ref() == Some(&new_value) {
            return illegal("nothing would change");
        }
        if previous_value.is_none() && self.0.len() >= MOST_SETTINGS {
            return illegal("there are too many settings");
        }
        Arc::make_mut(&mut self.0).insert(config_key, new_value);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_from_what_to_what() {
        let mut settings = Settings::default();
        let change = |previous: Option<&str>, new: &str| SettingChange {
            actor_user_id: "a".to_owned(),
            approver_user_id: None,
            config_key: "k".to_owned(),
            content: None,
            new_value: new.to_owned(),
            previous_value: previous.map(str::to_owned),
            reason: "r".to_owned(),
            ticket_id: None,
        };
        assert!(settings.fold(change(Some("x"), "1")).is_err());
        settings.fold(change(None, "1")).unwrap();
        for (previous, new) in [(None, "2"), (Some("2"), "3"), (Some("1"), "1")] {
            assert!(settings.fold(change(previous, new)).is_err(), "{previous:?} {new}");
        }
        settings.fold(change(Some("1"), "2")).unwrap();
        assert_eq!((settings.get("k"), settings.get("l")), (Some("2"), None));
    }
}
