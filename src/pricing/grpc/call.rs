//! One way to call a service: deadline for each attempt, pauses between them, and the breaker before each.

use super::backoff::{pause, random};
use super::breaker::{Breaker, BreakerSettings, BreakerState};
use super::channel::{Connector, TlsFiles};
use crate::causes::chain;
use crate::metrics::Metrics;
use crate::pricing::PricingError;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// How long a call may take and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSettings {
    /// Longest time of one attempt, connecting included.
    pub deadline: Duration,
    /// Attempts after the first that failed.
    pub retries: u32,
    /// When the service is not called.
    pub breaker: BreakerSettings,
}

/// A service that is reached at one endpoint.
#[derive(Debug)]
pub(super) struct Caller {
    service: &'static str,
    settings: CallSettings,
    connector: Connector,
    breaker: Mutex<Breaker>,
    began: Instant,
    metrics: Arc<Metrics>,
}

impl Caller {
    pub(super) fn new(
        service: &'static str,
        endpoint: &str,
        files: &TlsFiles,
        settings: CallSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, PricingError> {
        let connector = Connector::new(endpoint, files, settings.deadline)?;
        let breaker = Mutex::new(Breaker::new(settings.breaker));
        Ok(Self { service, settings, connector, breaker, began: Instant::now(), metrics })
    }

    /// What the breaker admits.
    pub(super) fn breaker_state(&self) -> BreakerState {
        self.breaker().state()
    }

    /// Sends what `send` makes of a channel and a request until it is answered, or the attempts are used up, or the
    /// breaker opens.
    ///
    /// # Errors
    /// [`PricingError::BreakerOpen`], [`PricingError::Unavailable`], or [`PricingError::Refused`], which is not tried
    /// again.
    pub(super) async fn call<M: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        method: &'static str,
        message: &M,
        mut send: impl FnMut(Channel, Request<M>) -> F,
    ) -> Result<T, PricingError> {
        let mut attempts = 0;
        loop {
            self.admit(method)?;
            let mut request = Request::new(message.clone());
            request.set_timeout(self.settings.deadline);
            let sent = send(self.connector.channel(), request);
            let answer = tokio::time::timeout(self.settings.deadline, sent).await;
            attempts += 1;
            let why = match answer {
                Ok(Ok(response)) => {
                    self.answered(method, "ok");
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) if is_answer(status.code()) => {
                    self.answered(method, "refused");
                    return Err(self.refused(method, &status));
                }
                Ok(Err(status)) => chain(&status),
                Err(_) => format!("no answer within {} ms", self.settings.deadline.as_millis()),
            };
            self.failed(method);
            if attempts > self.settings.retries {
                return Err(PricingError::Unavailable { service: self.service, method, attempts, why });
            }
            tracing::debug!(service = self.service, method, attempts, why, "trying again");
            tokio::time::sleep(pause(attempts, random())).await;
        }
    }

    /// An answer that can't be used.
    pub(super) fn malformed(&self, method: &'static str, why: String) -> PricingError {
        self.metrics.pricing_call(self.service, method, "malformed");
        PricingError::Malformed { service: self.service, method, why }
    }

    fn refused(&self, method: &'static str, status: &Status) -> PricingError {
        let (code, why) = (format!("{:?}", status.code()), status.message().to_owned());
        PricingError::Refused { service: self.service, method, code, why }
    }

    fn admit(&self, method: &'static str) -> Result<(), PricingError> {
        let admitted = self.breaker().admit(self.began.elapsed());
        self.show_breaker();
        admitted.map_err(|shut| {
            self.metrics.pricing_call(self.service, method, "breaker_open");
            PricingError::BreakerOpen {
                service: self.service,
                retry_in_ms: shut.retry_in.as_millis() as u64,
                failures: shut.failures,
            }
        })
    }

    fn answered(&self, method: &'static str, outcome: &'static str) {
        self.breaker().succeeded();
        self.metrics.pricing_call(self.service, method, outcome);
        self.show_breaker();
    }

    fn failed(&self, method: &'static str) {
        self.breaker().failed(self.began.elapsed());
        self.metrics.pricing_call(self.service, method, "failed");
        self.show_breaker();
    }

    fn show_breaker(&self) {
        let state = match self.breaker_state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.metrics.pricing_breaker(self.service, state);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for an answer of a service that is up and would answer the same again; everything else may pass.
fn is_answer(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}
