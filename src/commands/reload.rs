//! What a running replica reads again at SIGHUP: the configuration's log filter, the key set of bearer tokens, and the
//! certificates of the API.

use crate::config::{self, Config};
use crate::replica::Replica;
use std::path::Path;

/// Sets another log filter; says why it can't.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Reads `file` and puts in force what can change while a replica runs. What can't be read or used stays as it is.
/// `running` becomes the configuration that is in force.
pub fn reload(file: &Path, running: &mut Config, replica: &Replica, set_log_filter: &SetLogFilter) {
    match config::load(file) {
        Err(error) => {
            let file = file.display();
            tracing::error!(%file, %error, "SIGHUP: the configuration can't be used; the one in force stays");
        }
        Ok(new) => apply(&new, running, set_log_filter),
    }
    match replica.reload_token_keys() {
        Ok(()) => tracing::info!("SIGHUP: the key set of bearer tokens is read again"),
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the key set of bearer tokens can't be used; the keys in use stay");
        }
    }
    if let Err(error) = replica.reload_api_certificates() {
        tracing::error!(%error, "SIGHUP: the API's certificates can't be used; those in use stay");
    }
}

fn apply(new: &Config, running: &mut Config, set_log_filter: &SetLogFilter) {
    let level = new.observability.log_level.clone();
    if level != running.observability.log_level {
        match set_log_filter(&level) {
            Ok(()) => {
                running.observability.log_level.clone_from(&level);
                tracing::warn!(level, "SIGHUP: observability.log_level is in force");
            }
            Err(why) => tracing::error!(level, why, "SIGHUP: observability.log_level can't be used"),
        }
    }
    let later = new.sections_that_differ(running);
    if later.is_empty() {
        tracing::info!("SIGHUP: nothing else has changed in the configuration");
    } else {
        tracing::warn!(sections = later.join(", "), "SIGHUP: changes in these sections need a restart");
    }
}
