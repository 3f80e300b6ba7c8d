//! Brings later rules of the ledger into force, one version after the other, once the configuration of the leader allows them
//! and every replica, learners included, has just said that it knows them.

use crate::metrics::Metrics;
use crate::proposer::{ProposalError, Proposer, SystemRow};
use cdr_core::canonical::to_jcs;
use cdr_core::command::Reply;
use cdr_core::row::SystemKind;
use cdr_core::rules::{RULES_SETTING, Rules};
use cdr_core::setting::SettingChange;
use std::time::Duration;

/// How often the rules in force are compared with those that may be.
const PAUSE: Duration = Duration::from_secs(1);
/// Under this name `/health/ready` says what keeps rules from coming into force.
const HEALTH: &str = "rules";

/// Raises the rules up to `upto`, and returns never but with the term.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(upto: Rules, proposer: &Proposer, metrics: &Metrics) -> Result<(), ProposalError> {
    let mut waiting_for = None;
    loop {
        let in_force = proposer.rules();
        if in_force >= upto {
            metrics.dependency(HEALTH, Ok(()));
        } else if let Err(obstacle) = raise(Rules(in_force.0 + 1), proposer).await? {
            let obstacle = format!("rules version {} waits: {obstacle}", in_force.0 + 1);
            if waiting_for.as_ref() != Some(&obstacle) {
                tracing::warn!(obstacle, "later rules can't come into force yet");
            }
            metrics.dependency(HEALTH, Err(obstacle.clone()));
            waiting_for = Some(obstacle);
        } else {
            continue;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One version further; the inner error is what it waits for.
async fn raise(rules: Rules, proposer: &Proposer) -> Result<Result<(), String>, ProposalError> {
    // Nobody joins between the last look at who knows them and the row.
    let _unchanged = match proposer.node().keep_membership_for(rules).await {
        Ok(unchanged) => unchanged,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Reply::Rejected(rejection) = proposer.raise_rules(rules, row(rules, proposer)).await? {
        return Ok(Err(rejection.to_string()));
    }
    tracing::info!(%rules, "rules of the ledger are in force from now on");
    Ok(Ok(()))
}

fn row(rules: Rules, proposer: &Proposer) -> SystemRow {
    let change = SettingChange {
        actor_user_id: "system:rules".to_owned(),
        approver_user_id: None,
        config_key: RULES_SETTING.to_owned(),
        content: None,
        new_value: rules.to_string(),
        previous_value: proposer.state().settings.get(RULES_SETTING).map(str::to_owned),
        reason: "cluster.rules_upto allows them, and every replica knows them".to_owned(),
        ticket_id: None,
    };
    (SystemKind::Config, to_jcs(&change))
}
