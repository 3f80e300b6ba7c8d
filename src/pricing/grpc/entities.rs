//! Recording entities, as the operator registry gives them.

use super::call::Caller;
use super::wire::v1::GetRecordingEntityRequest;
use super::wire::v1::operator_registry_service_client::OperatorRegistryServiceClient;
use super::{Answered, GrpcSettings, MAX_ANSWER_BYTES, ServiceStatus, until_next, wire};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pricing::PricingError;
use crate::pricing::entities::{Entities, EntitySource};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

const METHOD: &str = "GetRecordingEntity";
/// Most operators in one call.
const MAX_OPERATORS: usize = 1_000;
/// Invalidations that arrive within this time are fetched together.
const GATHER: Duration = Duration::from_millis(100);

/// What is known of an operator.
#[derive(Clone, Debug, Default)]
struct Known {
    entity: Option<Arc<str>>,
    /// Counts invalidations, so that an answer to a question from before one does not pass for current.
    generation: u64,
    /// Generation that `entity` answers.
    answered: Option<u64>,
}

impl Known {
    fn is_current(&self) -> bool {
        self.answered == Some(self.generation)
    }
}

/// Recording entities from the operator registry. Known ones are read from memory; [`GrpcEntities::run`] keeps them
/// new.
#[derive(Debug)]
pub struct GrpcEntities {
    settings: GrpcSettings,
    caller: Caller,
    answered: Answered,
    known: Mutex<BTreeMap<String, Known>>,
    invalidated: Notify,
}

impl GrpcEntities {
    /// A source at an endpoint; nothing is called yet. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`PricingError`] if the endpoint or a file can't be used.
    pub fn new(settings: GrpcSettings, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, PricingError> {
        let (endpoint, tls) = (&settings.endpoint, &settings.tls);
        let caller = Caller::new("OperatorRegistryService", endpoint, tls, settings.call, metrics.clone())?;
        let answered = Answered::new("operator_registry", clock, metrics);
        let known = settings.operator_ids.iter().map(|id| (id.clone(), Known::default())).collect();
        Ok(Self { settings, caller, answered, known: Mutex::new(known), invalidated: Notify::new() })
    }

    /// Keeps everything that was ever requested up to date, for ever; what was invalidated at once.
    pub async fn run(self: Arc<Self>) {
        loop {
            let all: Vec<String> = self.known().keys().cloned().collect();
            let is_ok = self.ask_in_background(&all).await;
            let next = tokio::time::Instant::now() + until_next(&self.settings, is_ok);
            while tokio::time::timeout_at(next, self.invalidated.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
                if !self.ask_in_background(&self.outdated()).await {
                    tokio::time::sleep(until_next(&self.settings, false)).await;
                    break;
                }
            }
        }
    }

    /// How the registry is doing.
    pub fn status(&self) -> ServiceStatus {
        self.answered.status(&self.caller)
    }

    async fn ask_in_background(&self, operator_ids: &[String]) -> bool {
        let outcome = self.ask(operator_ids).await;
        self.answered.note(outcome.as_ref().copied());
        if let Err(error) = &outcome {
            tracing::warn!(%error, "recording entities are not refreshed");
        }
        outcome.is_ok()
    }

    fn outdated(&self) -> Vec<String> {
        let known = self.known();
        known.iter().filter(|(_, known)| !known.is_current()).map(|(id, _)| id.clone()).collect()
    }

    async fn ask(&self, operator_ids: &[String]) -> Result<(), PricingError> {
        for chunk in operator_ids.chunks(MAX_OPERATORS) {
            let generations: Vec<u64> =
                chunk.iter().map(|id| self.known().entry(id.clone()).or_default().generation).collect();
            let message = GetRecordingEntityRequest { operator_ids: chunk.to_vec() };
            let answer = self
                .caller
                .call(METHOD, &message, |channel, request| async move {
                    let client = OperatorRegistryServiceClient::new(channel);
                    client.max_decoding_message_size(MAX_ANSWER_BYTES).get_recording_entity(request).await
                })
                .await?;
            let found = wire::entities(answer.entities, chunk)
                .map_err(|e| self.caller.malformed(METHOD, e.to_string()))?;
            let mut known = self.known();
            for (id, generation) in chunk.iter().zip(generations) {
                let entry = known.entry(id.clone()).or_default();
                // An answer to an older question may come after that to a newer one.
                if entry.answered.is_none_or(|answered| answered <= generation) {
                    entry.entity = found.get(id).cloned();
                    entry.answered = Some(generation);
                }
            }
        }
        Ok(())
    }

    async fn resolved(&self, operator_ids: &[&str]) -> Result<Entities, PricingError> {
        let outdated: Vec<String> = {
            let known = self.known();
            let current = |id: &str| known.get(id).is_some_and(Known::is_current);
            operator_ids.iter().filter(|id| !current(id)).map(|id| (*id).to_owned()).collect()
        };
        self.ask(&outdated).await?;
        let entity = |id: &&str| Some(((*id).to_owned(), self.recording_entity(id)?));
        Ok(operator_ids.iter().filter_map(entity).collect())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EntitySource for GrpcEntities {
    fn recording_entity(&self, operator_id: &str) -> Option<Arc<str>> {
        self.known().get(operator_id)?.entity.clone()
    }

    fn invalidate(&self, operator_id: &str) {
        self.known().entry(operator_id.to_owned()).or_default().generation += 1;
        self.invalidated.notify_one();
    }

    fn resolve<'a>(&'a self, operator_ids: &'a [&'a str]) -> BoxFuture<'a, Result<Entities, PricingError>> {
        Box::pin(self.resolved(operator_ids))
    }
}
