//! Which TAP recording entity an operator has.

use super::error::PricingError;
use crate::config::Operator;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Recording entities by operator.
pub type Entities = BTreeMap<String, Arc<str>>;

/// Source of recording entities. Asking for one that is known never waits.
pub trait EntitySource: Send + Sync + 'static {
    /// The last known recording entity of an operator; it may be older than an [`Self::invalidate`].
    fn recording_entity(&self, operator_id: &str) -> Option<Arc<str>>;

    /// The registry reports that the operator has changed: its entity is fetched again, and until then is not used
    /// for current.
    fn invalidate(&self, operator_id: &str);

    /// The current entities of operators, asking the registry in one call for those that are unknown or invalidated.
    /// An operator that the registry does not know is left out.
    fn resolve<'a>(&'a self, operator_ids: &'a [&'a str]) -> BoxFuture<'a, Result<Entities, PricingError>>;
}

/// Recording entities of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfiguredEntities(Entities);

impl ConfiguredEntities {
    /// Those of `operators`.
    pub fn new(operators: &[Operator]) -> Self {
        Self(operators.iter().map(|o| (o.id.clone(), Arc::from(o.recording_entity.as_str()))).collect())
    }
}

impl EntitySource for ConfiguredEntities {
    fn recording_entity(&self, operator_id: &str) -> Option<Arc<str>> {
        self.0.get(operator_id).cloned()
    }

    /// Nothing: the configuration does not change while the node runs.
    fn invalidate(&self, _operator_id: &str) {}

    fn resolve<'a>(&'a self, operator_ids: &'a [&'a str]) -> BoxFuture<'a, Result<Entities, PricingError>> {
        let known = operator_ids.iter().filter_map(|id| Some(((*id).to_owned(), self.recording_entity(id)?)));
        Box::pin(std::future::ready(Ok(known.collect())))
    }
}
