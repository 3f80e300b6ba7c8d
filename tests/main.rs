//! The tests that need the whole service, in one binary: it is linked once, and a test is chosen by its module, as in
//! `cargo test --release --workspace --test suite -- relay::`.
#![allow(missing_docs, clippy::unwrap_used)]

mod api;
mod commands;
mod consumers;
mod delivery;
mod events;
mod exports;
mod hsm;
mod identity;
mod jetstream;
mod mtls;
mod operators;
mod power_loss;
mod pricing;
mod receipts;
mod relay;
mod reload;
mod replica_tls;
mod rerate;
mod settings;
mod settlement;
mod upgrades;
