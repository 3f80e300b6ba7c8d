//! Notice of a broken connection.
//!
//! The client reconnects by itself and says nothing to those who wait for an answer: they would wait for their whole
//! time-out. A waiting call holds a [`Token`] from before its request, and gives up soon after the connection broke.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::unavailable;
use crate::BusError;

/// Answers that were on their way when the connection broke may still be read for this long.
const GRACE: Duration = Duration::from_millis(250);

/// Counts the breaks of one connection.
#[derive(Debug, Clone)]
pub(super) struct Breaks {
    count: Arc<watch::Sender<u64>>,
}

impl Breaks {
    pub(super) fn new() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }

    /// The connection broke.
    pub(super) fn note(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    /// A token that notices breaks from now on.
    pub(super) fn token(&self) -> Token {
        Token { count: self.count.subscribe() }
    }

    /// Runs `work`, and gives it up when the connection breaks meanwhile.
    pub(super) async fn guard<T>(
        &self,
        operation: &'static str,
        target: &str,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        self.token().guard(operation, target, work).await
    }
}

/// Notices whether the connection broke since the token was made.
#[derive(Debug)]
pub(super) struct Token {
    count: watch::Receiver<u64>,
}

impl Token {
    /// Returns when the connection is broken.
    pub(super) async fn broken(&mut self) {
        if self.count.changed().await.is_err() {
            // There is no one left to count.
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn guard<T>(
        mut self,
        operation: &'static str,
        target: &str,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let given_up = async {
            self.broken().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = given_up => Err(unavailable(operation, target, &"the connection broke")),
        }
    }
}
