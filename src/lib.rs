//! The outside world of the ledger: one module per job.
//!
//! | module | job |
//! |---|---|
//! | [`dlr`] | delivery receipts: reading and checking them |
//! | [`ingest`] | receipts become canonical CDRs in the log |
//! | [`pricing`] | what a message costs: price lists of the configuration, or services over gRPC |
//! | [`acts`] | what people ask for: adjustments, bulk jobs, notes; taken in by any replica |
//! | [`workers`] | what only the leader does: sealing, signing, watching the clock |
//! | [`export`] | settlement files: which are due and what they hold |
//! | [`signer`] | who signs seals |
//! | [`delivery`] | files on their way to the regulator: SFTP, its REST interface, or a directory |
//! | [`proposer`] | the way into the log, in the name of one term |
//! | [`events`] | what is told to others: payloads, ids, signatures |
//! | [`outbox`] | events read out of the store, for relay and live feed |
//! | [`jobs`] | bulk jobs that the state holds no more, told from their rows |
//! | [`api`], [`auth`] | the HTTP interface and who may use it |
//! | `texts` | how long the texts of others may be, and of which characters |
//! | [`key_files`], [`tls`] | keys and certificates, and the connections that they secure |
//! | [`config`], [`clock`], [`zone`], [`metrics`] | settings, time, the settlement zone, figures |
//! | [`masking`] | subscribers' numbers, hidden in answers and events |
//! | [`agreement`] | what a configuration may not say otherwise than the ledger |
//! | [`reloaded`] | settings that change while a replica runs, for the ledger |
//! | [`restriction`] | what a replica does that takes no commands |
//! | [`replica`] | one replica put together |
//! | [`generate`], [`commands`] | sample days, the subcommands |
//!
//! The modules do not call one another's work: they meet through commands to the log and watermarks in its state.

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
