//! What handlers read from, and the bounds on how many do at once.
//!
//! Every read takes the same steps: [`Ledger::read`] lets the caller in and reads the query, the handler reads what else
//! it needs, and [`Read::on_store`] waits until this replica is as current as requested and then reads the store.

use super::access::Caller;
use super::answer::Answer;
use super::error::ApiError;
use super::input::Input;
use crate::acts::{Act, Desk, PATIENCE};
use crate::clock::Clock;
use crate::config::Config;
use crate::events::NumberHash;
use crate::events::signing_key::SigningKey;
use crate::export::{ExportFiles, Schemas};
use crate::metrics::Metrics;
use axum::http::Uri;
use cdr_core::CdrId;
use cdr_raft::Node;
use cdr_storage::Store;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A replica's ledger, as the API reads it.
pub struct Ledger {
    pub(in crate::api) store: Store,
    pub(in crate::api) node: Node,
    pub(in crate::api) clock: Clock,
    pub(in crate::api) metrics: Arc<Metrics>,
    pub(in crate::api) desk: Desk,
    pub(in crate::api) rap_cut_off: jiff::civil::Time,
    pub(in crate::api) max_body_bytes: usize,
    /// How long a list looks for more before it answers what it found.
    pub(in crate::api) scan_budget: Duration,
    /// Schema variants of settlement files, and who gets files.
    pub(in crate::api) schemas: Arc<Schemas>,
    /// The bytes of settlement files; none on a replica that makes none.
    pub(in crate::api) files: Option<ExportFiles>,
    /// Public halves of the keys that sign events, as JSON Web Keys.
    pub(in crate::api) event_keys: Arc<Vec<serde_json::Value>>,
    /// How the live feed's events name numbers.
    pub(in crate::api) numbers: NumberHash,
    /// Live feeds that may still be opened.
    pub(in crate::api) feeds: Arc<Semaphore>,
    reads: Lane,
    verifications: Lane,
}

/// Blocking work of one kind: how much of it at once, and how long each.
struct Lane {
    permits: Arc<Semaphore>,
    patience: Duration,
}

/// What kind of work a handler does on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Work {
    /// Looks something up.
    Read,
    /// Goes through whole hours.
    Verification,
}

/// Whether a read must see everything acknowledged before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Consistency {
    /// It must.
    Linearizable,
    /// What this replica has is enough.
    Stale,
}

impl Consistency {
    /// From the parameter `consistency`.
    pub(in crate::api) fn of(input: &Input) -> Result<Self, ApiError> {
        let parse = |text: &str| match text {
            "linearizable" => Some(Self::Linearizable),
            "stale" => Some(Self::Stale),
            _ => None,
        };
        Ok(input.parsed("consistency", "linearizable or stale", parse)?.unwrap_or(Self::Linearizable))
    }
}

impl Ledger {
    /// A replica's store and node, read within the bounds of `config.api`.
    pub fn new(
        store: Store,
        node: Node,
        clock: Clock,
        metrics: Arc<Metrics>,
        desk: Desk,
        config: &Config,
    ) -> Self {
        let api = &config.api;
        let lane = |at_once: u32, patience_ms: u64| Lane {
            permits: Arc::new(Semaphore::new(at_once as usize)),
            patience: Duration::from_millis(patience_ms),
        };
        Self {
            store,
            node,
            clock,
            metrics,
            desk,
            rap_cut_off: config.settlement.rap_cut_off.0,
            max_body_bytes: api.max_body_bytes as usize,
            scan_budget: Duration::from_millis(api.scan_budget_ms),
            schemas: Arc::default(),
            files: None,
            event_keys: Arc::default(),
            numbers: NumberHash::default(),
            feeds: Arc::new(Semaphore::new(api.max_live_feeds as usize)),
            reads: lane(api.max_concurrent_reads, api.request_timeout_ms),
            verifications: lane(api.max_concurrent_verifications, api.verification_timeout_ms),
        }
    }

    /// The same, with events that name numbers so.
    #[must_use]
    pub fn naming_numbers(mut self, numbers: NumberHash) -> Self {
        self.numbers = numbers;
        self
    }

    /// The same, showing with which key events are signed.
    #[must_use]
    pub fn with_event_key(mut self, key: Option<&SigningKey>) -> Self {
        let jwk = |key: &SigningKey| {
            key.public_jwk()
                .inspect_err(|error| tracing::error!(%error, "the key of events can't be shown"))
                .ok()
        };
        self.event_keys = Arc::new(key.and_then(jwk).into_iter().collect());
        self
    }

    /// The same, for settlement files made by these schema variants; without, it knows none.
    #[must_use]
    pub fn with_schemas(self, schemas: Arc<Schemas>) -> Self {
        Self { schemas, ..self }
    }

    /// The same, giving the bytes of settlement files that `files` has.
    #[must_use]
    pub fn with_files(self, files: ExportFiles) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Lets a read in: the caller has `scope`, and the query holds nothing but `parameters` and `consistency`.
    ///
    /// # Errors
    /// 403 with the scope, 400 naming the parameter.
    pub(in crate::api) fn read(
        &self,
        caller: &Caller,
        scope: &'static str,
        uri: &Uri,
        parameters: &[&str],
    ) -> Result<(Input, Read<'_>), ApiError> {
        caller.require(scope)?;
        let input = Input::of_query(uri, &[parameters, &["consistency"]].concat())?;
        let consistency = Consistency::of(&input)?;
        Ok((input, Read { ledger: self, consistency }))
    }

    /// Waits until this replica is as current as requested; returns the index applied by then.
    ///
    /// # Errors
    /// 503 if no leader confirms it in time.
    pub(in crate::api) async fn barrier(&self, consistency: Consistency) -> Result<u64, ApiError> {
        match consistency {
            Consistency::Stale => Ok(self.node.applied_index()),
            Consistency::Linearizable => {
                self.node.read_barrier().await.map_err(|error| match ApiError::from(error) {
                    ApiError::NotLeader { reason, .. } => {
                        ApiError::NotLeader { leader: self.node.leader(), reason }
                    }
                    other => other,
                })
            }
        }
    }

    /// Performs an act here or at the leader; the row that answers it is on this replica afterwards. The index applied
    /// by then comes with it.
    ///
    /// # Errors
    /// Why it was not performed; 503 if no leader took it in time.
    pub(in crate::api) async fn perform(&self, act: &Act) -> Result<(CdrId, u64), ApiError> {
        let answer = self.desk.perform(act, PATIENCE).await.map_err(|error| match ApiError::from(error) {
            ApiError::NotTaken { reason, .. } => ApiError::NotTaken { leader: self.node.leader(), reason },
            other => other,
        })?;
        Ok((answer, self.barrier(Consistency::Linearizable).await?))
    }

    /// Does blocking work on the store beside the network's threads. If the caller goes away, work that has begun
    /// still counts until it ends.
    ///
    /// # Errors
    /// What `work` says, or 503 if it did not end in time.
    pub(in crate::api) async fn on_store<T: Send + 'static>(
        &self,
        kind: Work,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let lane = match kind {
            Work::Read => &self.reads,
            Work::Verification => &self.verifications,
        };
        let (permits, store) = (lane.permits.clone(), self.store.clone());
        let run = async move {
            let permit = permits.acquire_owned().await.map_err(ApiError::internal)?;
            let blocking = tokio::task::spawn_blocking(move || {
                let _until_done = permit;
                work(&store)
            });
            blocking.await.map_err(ApiError::internal)?
        };
        tokio::time::timeout(lane.patience, run).await.unwrap_or_else(|_| {
            let reason =
                format!("no result within {} ms: request less, or retry later", lane.patience.as_millis());
            Err(ApiError::Unavailable { dependency: "storage", reason })
        })
    }
}

/// A read that was let in.
pub(in crate::api) struct Read<'a> {
    ledger: &'a Ledger,
    consistency: Consistency,
}

impl Read<'_> {
    /// Does `work` on the store once this replica is as current as requested; the index applied before comes with it.
    ///
    /// # Errors
    /// What `work` says, or 503 if no leader confirms the read, or the work does not end, in time.
    pub(in crate::api) async fn on_store<T: Send + 'static>(
        self,
        kind: Work,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, u64), ApiError> {
        let applied_index = self.ledger.barrier(self.consistency).await?;
        Ok((self.ledger.on_store(kind, work).await?, applied_index))
    }

    /// Answers the JSON that `work` writes.
    ///
    /// # Errors
    /// As [`Read::on_store`].
    pub(in crate::api) async fn raw(
        self,
        work: impl FnOnce(&Store) -> Result<Vec<u8>, ApiError> + Send + 'static,
    ) -> Result<Answer, ApiError> {
        let (json, applied_index) = self.on_store(Work::Read, work).await?;
        Ok(Answer::raw(json, applied_index))
    }

    /// Answers the value that `work` gives.
    ///
    /// # Errors
    /// As [`Read::on_store`].
    pub(in crate::api) async fn value<T: Serialize + Send + 'static>(
        self,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Answer, ApiError> {
        let (value, applied_index) = self.on_store(Work::Read, work).await?;
        Answer::of(&value, applied_index)
    }
}
