//! Seeded histories of three replicas on virtual time: the consensus layer, a log of the same contract as the
//! real one that loses what was not synced, and the ledger's own `apply`.
//!
//! Every history is replayed by its seed: `CDR_SIM_SEED=17 cargo test --release --workspace --test raft -- sim::`.
//! Checked: an acknowledged command is at its acknowledged index on every replica, with the reply that was
//! given; every replica has the same digest at every index; every message is in the ledger exactly once.

mod checks;
mod commands;
mod disk;
mod network;
mod replica;
mod simulation;
mod state;

use simulation::run;

/// Histories of a run, unless `CDR_SIM_SEEDS` says another number.
const SEEDS: u64 = 200;

/// Seeds whose history is run twice.
const REPLAYED: u64 = 5;

#[test]
fn replicas_never_diverge() {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("CDR_SIM_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds = number("CDR_SIM_SEEDS").unwrap_or(SEEDS);
    let start = std::time::Instant::now();
    let mut total = simulation::Outcome::default();
    for seed in 1..=seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let Ok(outcome) = outcome else { panic!("seed {seed} fails: run it alone with CDR_SIM_SEED={seed}") };
        if seed <= REPLAYED {
            assert_eq!(run(seed), outcome, "seed {seed} does not replay");
        }
        total.virtual_ms += outcome.virtual_ms;
        total.acknowledged += outcome.acknowledged;
        total.crashes += outcome.crashes;
        total.snapshots_installed += outcome.snapshots_installed;
        total.rows += outcome.rows;
    }
    println!("{seeds} seeds in {:.1} s: {total:?}", start.elapsed().as_secs_f64());
    assert!(total.acknowledged > 20 * seeds, "hardly anything was committed");
    assert!(
        total.crashes > seeds && total.snapshots_installed > 0 && total.rows > 0,
        "hardly anything happened"
    );
}
