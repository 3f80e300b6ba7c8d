//! What a running replica reads again at SIGHUP: the configuration's log filter, where files are delivered, the key set
//! of bearer tokens, and the certificates of the API and between replicas. What is put in force is recorded in the ledger.

use crate::config::{self, Config};
use crate::replica::Replica;
use cdr_core::canonical::to_jcs;
use cdr_core::hash::{sha256, to_hex};
use std::path::{Path, PathBuf};

/// Sets another log filter; says why it can't.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What is in force on a running replica, and where it came from.
pub struct Reload<'a> {
    file: PathBuf,
    running: Config,
    /// SHA-256 of the key set, as far as it could be read.
    key_set: Option<String>,
    /// SHA-256 of the API's certificate, where it shows one.
    certificate: Option<String>,
    /// SHA-256 of the certificate for the other replicas, where there is one.
    cluster_certificate: Option<String>,
    set_log_filter: &'a SetLogFilter,
}

impl<'a> Reload<'a> {
    /// A replica runs with `running`, which `file` said.
    pub fn new(file: &Path, running: Config, set_log_filter: &'a SetLogFilter) -> Self {
        let key_set = hash_of(&running.auth.jwks_file);
        let certificate = certificate(&running);
        let cluster_certificate = cluster_certificate(&running);
        Self { file: file.to_owned(), running, key_set, certificate, cluster_certificate, set_log_filter }
    }

    /// Reads everything again and puts in force what can change while a replica runs. What can't be read or used stays
    /// as it is.
    pub fn hang_up(&mut self, replica: &Replica) {
        match config::load(&self.file) {
            Err(error) => {
                let file = self.file.display();
                tracing::error!(%file, %error, "SIGHUP: the configuration can't be used; the one in force stays");
            }
            Ok(new) => {
                self.log_level(&new, replica);
                self.delivery(new.delivery.clone(), replica);
                report(&new.sections_that_differ(&self.running));
            }
        }
        self.token_keys(replica);
        self.api_certificates(replica);
        self.cluster_certificates(replica);
    }

    fn log_level(&mut self, new: &Config, replica: &Replica) {
        let (level, running) = (&new.observability.log_level, &mut self.running.observability.log_level);
        if level == running {
            return;
        }
        match (self.set_log_filter)(level) {
            Ok(()) => {
                let before = std::mem::replace(running, level.clone());
                replica.recorder().record("observability.log_level", before, level.clone());
                tracing::warn!(level, "SIGHUP: observability.log_level is in force");
            }
            Err(why) => tracing::error!(level, why, "SIGHUP: observability.log_level can't be used"),
        }
    }

    fn delivery(&mut self, new: config::Delivery, replica: &Replica) {
        if new == self.running.delivery {
            return;
        }
        match replica.exchange_delivery(&new) {
            Ok(()) => {
                let before = std::mem::replace(&mut self.running.delivery, new);
                replica.recorder().record("delivery", digest(&before), digest(&self.running.delivery));
                tracing::warn!("SIGHUP: [delivery] is in force, from the next attempt on");
            }
            Err(error) => tracing::error!(%error, "SIGHUP: [delivery] can't be used; the one in force stays"),
        }
    }

    fn token_keys(&mut self, replica: &Replica) {
        match replica.reload_token_keys() {
            Ok(()) => {
                let now = hash_of(&self.running.auth.jwks_file);
                record_file(replica, "auth.jwks_file", &mut self.key_set, now);
                tracing::info!("SIGHUP: the key set of bearer tokens is read again");
            }
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the key set of bearer tokens can't be used; the keys in use stay");
            }
        }
    }

    fn cluster_certificates(&mut self, replica: &Replica) {
        match replica.reload_cluster_certificates() {
            Ok(()) => {
                let now = cluster_certificate(&self.running);
                record_file(replica, "cluster.tls_cert_file", &mut self.cluster_certificate, now);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "SIGHUP: the certificates between replicas can't be used; those in use stay"
                );
            }
        }
    }

    fn api_certificates(&mut self, replica: &Replica) {
        match replica.reload_api_certificates() {
            Ok(()) => {
                let now = certificate(&self.running);
                record_file(replica, "api.mtls_cert_file", &mut self.certificate, now);
            }
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the API's certificates can't be used; those in use stay");
            }
        }
    }
}

/// Records that a file holds something else `now`.
fn record_file(replica: &Replica, name: &str, before: &mut Option<String>, now: Option<String>) {
    let before = std::mem::replace(before, now.clone());
    if let Some(now) = now.filter(|now| before.as_ref() != Some(now)) {
        replica.recorder().record(name, before.unwrap_or_default(), now);
    }
}

fn certificate(config: &Config) -> Option<String> {
    config.api.mtls_cert_file.as_deref().and_then(hash_of)
}

fn cluster_certificate(config: &Config) -> Option<String> {
    config.cluster.tls_cert_file.as_deref().and_then(hash_of)
}

fn report(later: &[&str]) {
    if later.is_empty() {
        tracing::info!("SIGHUP: nothing else has changed in the configuration");
    } else {
        tracing::warn!(sections = later.join(", "), "SIGHUP: changes in these sections need a restart");
    }
}

/// SHA-256 of a section: it shows that something changed, and not which hosts and files are named.
fn digest(section: &config::Delivery) -> String {
    to_hex(&sha256(&to_jcs(section).unwrap_or_default()))
}

fn hash_of(file: &Path) -> Option<String> {
    std::fs::read(file).ok().map(|bytes| to_hex(&sha256(&bytes)))
}
