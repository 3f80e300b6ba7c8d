//! The book of prices, as the billing service gives it.

use super::call::Caller;
use super::wire;
use super::wire::v1::pricing_service_client::PricingServiceClient;
use super::wire::v1::{GetPricingSnapshotRequest, PricingSnapshot};
use super::{Answered, GrpcSettings, MAX_ANSWER_BYTES, ServiceStatus, until_next};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pricing::shared::SharedBook;
use crate::pricing::{PriceBook, Pricing, PricingError};
use cdr_core::tariff::TariffTable;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const METHOD: &str = "GetPricingSnapshot";

/// Prices from the billing service. Prices are read from the last book; [`GrpcPricing::run`] keeps it new.
#[derive(Debug)]
pub struct GrpcPricing {
    settings: GrpcSettings,
    /// Events may be this old and still be recorded, so the versions that were valid then are requested too.
    horizon: Duration,
    clock: Clock,
    caller: Caller,
    answered: Answered,
    book: SharedBook,
    /// Etag of the snapshot in force; locked while a newer one is fetched, so that snapshots never overtake each other.
    etag: Mutex<Option<String>>,
}

impl GrpcPricing {
    /// A source at an endpoint; nothing is called yet. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`PricingError`] if the endpoint or a file can't be used.
    pub fn new(
        settings: GrpcSettings,
        horizon: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, PricingError> {
        let (endpoint, tls) = (&settings.endpoint, &settings.tls);
        let caller = Caller::new("PricingService", endpoint, tls, settings.call, metrics.clone())?;
        let answered = Answered::new("pricing", clock.clone(), metrics);
        let (book, etag) = (SharedBook::default(), Mutex::default());
        Ok(Self { settings, horizon, clock, caller, answered, book, etag })
    }

    /// Keeps the book new, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let outcome = self.refresh().await;
            if let Err(error) = &outcome {
                tracing::warn!(%error, "prices are not refreshed");
            }
            tokio::time::sleep(until_next(&self.settings, outcome.is_ok())).await;
        }
    }

    /// How the service is doing.
    pub fn status(&self) -> ServiceStatus {
        self.answered.status(&self.caller)
    }

    async fn refresh(&self) -> Result<(), PricingError> {
        let mut etag = self.etag.lock().await;
        let outcome = self.fetch_snapshot(&mut etag).await;
        self.answered.note(outcome.as_ref().copied());
        outcome
    }

    async fn fetch_snapshot(&self, etag: &mut Option<String>) -> Result<(), PricingError> {
        let snapshot = self.ask(None, etag.clone()).await?;
        if snapshot.not_modified {
            return match etag {
                Some(_) => Ok(()),
                None => Err(self.malformed("not_modified, though no etag was sent".to_owned())),
            };
        }
        if snapshot.etag.is_empty() {
            return Err(self.malformed("a snapshot without an etag".to_owned()));
        }
        let tables = wire::tables(snapshot.tables).map_err(|e| self.malformed(e.to_string()))?;
        let book =
            self.book.replace(|old| old.with_in_force(tables)).map_err(|e| self.malformed(e.to_string()))?;
        let newest = book.tables().next().map(|table| table.version.as_str());
        tracing::info!(tables = book.tables().len(), newest, etag = snapshot.etag, "new prices");
        *etag = Some(snapshot.etag);
        Ok(())
    }

    async fn fetch(&self, version: &str) -> Result<Option<Arc<TariffTable>>, PricingError> {
        if let Some(known) = self.book.load().table(version) {
            return Ok(Some(known.clone()));
        }
        let snapshot = match self.ask(Some(version.to_owned()), None).await {
            Err(PricingError::Refused { code, .. }) if code == "NotFound" => return Ok(None),
            other => other?,
        };
        let mut tables = wire::tables(snapshot.tables).map_err(|e| self.malformed(e.to_string()))?;
        let (Some(table), true) = (tables.pop(), tables.is_empty()) else {
            return Err(self.malformed(format!(
                "table {version} was requested, and the response does not hold exactly one"
            )));
        };
        if table.version != version {
            return Err(
                self.malformed(format!("table {} was received, {version} was requested", table.version))
            );
        }
        let book =
            self.book.replace(|old| old.with_named(table)).map_err(|e| self.malformed(e.to_string()))?;
        Ok(book.table(version).cloned())
    }

    async fn ask(
        &self,
        table_id: Option<String>,
        known_etag: Option<String>,
    ) -> Result<PricingSnapshot, PricingError> {
        let at_ms = (self.clock.now().0 - self.horizon.as_millis() as i64).max(0);
        let operator_ids = self.settings.operator_ids.clone();
        let message = GetPricingSnapshotRequest { operator_ids, at_ms, table_id, known_etag };
        self.caller
            .call(METHOD, &message, |channel, request| async move {
                let mut client =
                    PricingServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.get_pricing_snapshot(request).await
            })
            .await
    }

    fn malformed(&self, why: String) -> PricingError {
        self.caller.malformed(METHOD, why)
    }
}

impl Pricing for GrpcPricing {
    fn book(&self) -> Arc<PriceBook> {
        self.book.load()
    }

    fn refresh_now(&self) -> BoxFuture<'_, Result<(), PricingError>> {
        Box::pin(self.refresh())
    }

    fn fetch_table<'a>(
        &'a self,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<TariffTable>>, PricingError>> {
        Box::pin(self.fetch(version))
    }
}
