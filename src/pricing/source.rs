//! Where prices and recording entities come from, as the configuration says.

use super::entities::{ConfiguredEntities, EntitySource};
use super::grpc::{BreakerSettings, CallSettings, GrpcEntities, GrpcPricing, GrpcSettings, TlsFiles};
use super::{Pricing, PricingError, TablePricing};
use crate::clock::Clock;
use crate::config::{self, Config, PricingSource};
use crate::metrics::Metrics;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Prices and recording entities, and what keeps them new.
pub struct Sources {
    /// Prices.
    pub pricing: Arc<dyn Pricing>,
    /// Recording entities.
    pub entities: Arc<dyn EntitySource>,
    /// Runs for the life of the node, whether or not it leads, so that a new leader has prices at once.
    pub background: Vec<BoxFuture<'static, ()>>,
}

impl Sources {
    /// The sources that the configuration names; nothing is called yet. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`PricingError`] if a table, an endpoint or a file can't be used.
    pub fn new(config: &Config, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Self, PricingError> {
        match config.pricing.source {
            PricingSource::Tables => Ok(Self {
                pricing: Arc::new(TablePricing::new(config.pricing.tables.clone())?),
                entities: Arc::new(ConfiguredEntities::new(&config.operators.list)),
                background: Vec::new(),
            }),
            PricingSource::Grpc => Self::from_services(config, clock, metrics),
        }
    }

    fn from_services(config: &Config, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Self, PricingError> {
        let billing = settings(config);
        let registry_endpoint = config.pricing.registry_endpoint.clone();
        let endpoint = registry_endpoint.unwrap_or_else(|| billing.endpoint.clone());
        let registry = GrpcSettings { endpoint, ..billing.clone() };
        let horizon = Duration::from_secs(u64::from(config.ingest.dedup_horizon_hours) * 3_600);
        let pricing = Arc::new(GrpcPricing::new(billing, horizon, clock.clone(), metrics.clone())?);
        let entities = Arc::new(GrpcEntities::new(registry, clock.clone(), metrics.clone())?);
        Ok(Self {
            pricing: pricing.clone(),
            entities: entities.clone(),
            background: vec![Box::pin(pricing.run()), Box::pin(entities.run())],
        })
    }
}

fn settings(config: &Config) -> GrpcSettings {
    let pricing = &config.pricing;
    let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let config::Pricing { deadline_ms, refresh_ms, retries, breaker_failures, breaker_open_ms, .. } =
        *pricing;
    GrpcSettings {
        endpoint: pricing.endpoint.clone().unwrap_or_default(),
        tls: TlsFiles {
            ca_file: file(&pricing.ca_file),
            cert_file: file(&pricing.cert_file),
            key_file: file(&pricing.key_file),
        },
        call: CallSettings {
            deadline: Duration::from_millis(deadline_ms),
            retries,
            breaker: BreakerSettings {
                failures: breaker_failures,
                open: Duration::from_millis(breaker_open_ms),
            },
        },
        refresh: Duration::from_millis(refresh_ms),
        operator_ids: config.operators.list.iter().map(|operator| operator.id.clone()).collect(),
    }
}
