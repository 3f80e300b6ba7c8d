//! What only the leader does. Each worker reads from the replicated state what is still to be done, does it,
//! and proposes a command that records it; every step may run twice without harm, and nothing is kept in a
//! worker's memory only.

mod clock_watch;
mod consume;
mod deliver;
mod export;
mod integrity;
mod leadership;
mod priceless;
mod rating;
mod reconcile;
mod registry;
mod relay;
mod reprice;
mod rerate;
mod retry;
mod rules;
mod seal;
mod settings;
mod sign;
mod tariffs;
mod turns;

pub use consume::ConsumerSettings;
#[cfg(test)]
pub(crate) use consume::reads;
pub use deliver::{Deliveries, sidecar};
pub use export::Exports;
pub use integrity::{Integrity, IntegrityError};
pub use leadership::{Leadership, LedgerSettings, lead_when_elected};
pub use relay::Relay;
pub use settings::RegulatorSettings;

use std::time::Duration;

/// An error that may mean that the term is over.
trait EndsTerm: std::error::Error {
    fn ends_term(&self) -> bool;
}

/// Pause between the attempts of a worker that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
