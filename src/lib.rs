//! The service around the ledger: one room per job, in ranks. A room uses what stands above it in this table, and nothing
//! below or beside its group; `tests/repository` holds them to it.
//!
//! | rank | group | rooms |
//! |---|---|---|
//! | 0 | foundation | [`config`], [`clock`], [`zone`], [`ids`], [`metrics`]; [`key_files`], [`tls`]; [`scopes`], [`auth`]: who may use the API; `texts`, [`masking`], [`names`]: what texts of others may hold, whose numbers are hidden, which names rows carry; `causes` |
//! | 1 | ledger | [`proposer`]: the way into the log, in the name of one term; [`acts`]: what people ask for, at any replica; [`jobs`]: bulk jobs of long ago; [`restriction`], [`reloaded`]: what a replica reports of itself |
//! | 2 | intake | [`dlr`], [`ingest`]: receipts become canonical CDRs in the log; [`pricing`]: what a message costs |
//! | 2 | settlement | [`export`]: settlement files, which are due and what they hold; [`delivery`]: their way to the regulator |
//! | 2 | outward | [`events`], [`outbox`]: what is published: payloads, ids, signatures |
//! | 2 | trust | [`signer`]: who signs seals and files |
//! | 3 | leader | [`workers`]: what only the leader does; [`agreement`]: what a configuration may not say otherwise than the ledger |
//! | 3 | api | [`api`]: the HTTP interface |
//! | 4 | replica | [`replica`]: one replica put together |
//! | 5 | cli | [`commands`], [`generate`]: the subcommands, sample days |
//!
//! Rooms of one rank do not call one another's work: they meet through commands to the log and watermarks in its state.
//! TAP and RAP files are made by [`cdr_tap`], messages carried by [`cdr_bus`], files checked by [`cdr_verify`].

pub mod acts;
pub mod agreement;
pub mod api;
pub mod auth;
mod causes;
pub mod clock;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod dlr;
pub mod events;
pub mod export;
pub mod generate;
pub mod ids;
pub mod ingest;
pub mod jobs;
pub mod key_files;
pub mod masking;
pub mod metrics;
pub mod names;
pub mod outbox;
pub mod pricing;
pub mod proposer;
pub mod reloaded;
pub mod replica;
pub mod restriction;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod schema_bounds;
pub mod scopes;
pub mod signer;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod test_support;
mod texts;
pub mod tls;
pub mod workers;
pub mod zone;
