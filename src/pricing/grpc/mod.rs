//! Prices and recording entities from services over gRPC with mutual TLS (`config/proto`).
//!
//! The services are polled in the background. Their last answer stays in force while they are unavailable; only its age
//! grows, which the metrics and the health report show.

mod backoff;
mod breaker;
mod call;
mod channel;
mod entities;
mod snapshot;
mod wire;

pub use breaker::{BreakerSettings, BreakerState};
pub use call::CallSettings;
pub use channel::TlsFiles;
pub use entities::GrpcEntities;
pub use snapshot::GrpcPricing;

use super::PricingError;
use crate::clock::Clock;
use crate::metrics::Metrics;
use backoff::{random, spread};
use call::Caller;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Largest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcSettings {
    /// `https://host:port`.
    pub endpoint: String,
    /// Certificates of both sides.
    pub tls: TlsFiles,
    /// Deadline, attempts and breaker.
    pub call: CallSettings,
    /// How often the service is polled.
    pub refresh: Duration,
    /// Operators that are requested.
    pub operator_ids: Vec<String>,
}

/// How a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Time since the service last confirmed or gave what is in force; none before the first time.
    pub age: Option<Duration>,
    /// What its breaker admits.
    pub breaker: BreakerState,
}

/// Remembers when a service last answered, and updates the metrics.
#[derive(Debug)]
struct Answered {
    dependency: &'static str,
    clock: Clock,
    metrics: Arc<Metrics>,
    last: Mutex<Option<Instant>>,
}

impl Answered {
    fn new(dependency: &'static str, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { dependency, clock, metrics, last: Mutex::default() }
    }

    /// Takes note of how asking for everything went.
    fn note(&self, outcome: Result<(), &PricingError>) {
        if outcome.is_ok() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.metrics.pricing_answered(self.dependency, self.clock.now());
        }
        let known = match self.age() {
            Some(age) => format!("its answer of {} s ago stays in force", age.as_secs()),
            None => "it has not answered yet".to_owned(),
        };
        self.metrics.dependency(self.dependency, outcome.map_err(|error| format!("{error}; {known}")));
    }

    fn age(&self) -> Option<Duration> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    fn status(&self, caller: &Caller) -> ServiceStatus {
        ServiceStatus { age: self.age(), breaker: caller.breaker_state() }
    }
}

/// The pause before the next poll: a little spread, and after a failure not longer than the breaker is
/// open.
fn until_next(settings: &GrpcSettings, is_ok: bool) -> Duration {
    let full = if is_ok { settings.refresh } else { settings.refresh.min(settings.call.breaker.open) };
    spread(full * 9 / 10, full, random())
}
