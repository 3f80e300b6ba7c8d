//! What workers sign with: calls the signer off the async threads, waits for a device that is unavailable, and counts.
//!
//! An unavailable device is retried after pauses that double (US-CDR-012). How long it has been unavailable is a metric;
//! after [`ALARM_AFTER`] it is SEV1. A refusal of the device is reported to the caller at once: nothing but a person can
//! change it.

use super::{SignError, Signer};
use crate::metrics::Metrics;
use cdr_core::key::PublicKey;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a device may be unavailable before somebody is paged.
pub const ALARM_AFTER: Duration = Duration::from_secs(3600);

/// Signs for workers. Clones share everything.
#[derive(Clone)]
pub struct Signing {
    signer: Arc<dyn Signer>,
    metrics: Arc<Metrics>,
    first_pause: Duration,
}

impl Signing {
    /// Signs with `signer`, and reports the outcome to `metrics`.
    pub fn new(signer: Arc<dyn Signer>, metrics: Arc<Metrics>) -> Self {
        Self { signer, metrics, first_pause: FIRST_PAUSE }
    }

    /// Name of the key that is configured to sign.
    pub fn active_key_id(&self) -> &str {
        self.signer.active_key_id()
    }

    /// The public half of a key, as soon as the device answers.
    ///
    /// # Errors
    /// [`SignError`], never a temporary one.
    pub async fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError> {
        let key_id = key_id.to_owned();
        self.ask(move |signer| signer.public_key(&key_id)).await
    }

    /// Signature over `message` by the key of this name, as soon as the device answers.
    ///
    /// # Errors
    /// [`SignError`], never a temporary one.
    pub async fn sign(&self, key_id: &str, message: Vec<u8>) -> Result<[u8; 64], SignError> {
        let key_id = key_id.to_owned();
        self.ask(move |signer| signer.sign(&key_id, &message)).await
    }

    /// Until what is returned is dropped, this node signs; then how the device is shows elsewhere.
    pub fn on_duty(&self) -> OnDuty {
        OnDuty(self.metrics.clone())
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl Fn(&dyn Signer) -> Result<T, SignError> + Clone + Send + 'static,
    ) -> Result<T, SignError> {
        let mut pauses = Pauses(self.first_pause);
        let (mut away_since, mut alarmed) = (None, false);
        loop {
            let (signer, ask) = (self.signer.clone(), ask.clone());
            let asked = tokio::task::spawn_blocking(move || ask(&*signer)).await;
            let error = match asked.unwrap_or_else(|died| Err(unfinished(&died))) {
                Ok(answer) => {
                    self.metrics.signer_answers();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if !error.is_temporary() {
                self.metrics.signer_refuses(error.to_string());
                return Err(error);
            }
            self.metrics.signer_is_away(error.to_string());
            let away = away_since.get_or_insert_with(Instant::now).elapsed();
            let pause = pauses.next_pause();
            if away >= ALARM_AFTER && !alarmed {
                alarmed = true;
                tracing::error!(severity = "SEV1", %error, ?away, "nothing can be signed for an hour");
            } else {
                tracing::warn!(%error, ?pause, "the signer is unavailable; retrying");
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// As long as this exists, this node signs.
#[must_use]
pub struct OnDuty(Arc<Metrics>);

impl Drop for OnDuty {
    fn drop(&mut self) {
        self.0.signer_rests();
    }
}

/// The process ends, or the signer has a fault.
fn unfinished(died: &tokio::task::JoinError) -> SignError {
    SignError::Unavailable { what: "the signer".to_owned(), why: died.to_string() }
}

/// Pauses that double up to [`LONGEST_PAUSE`].
struct Pauses(Duration);

impl Pauses {
    fn next_pause(&mut self) -> Duration {
        let next = (self.0 * 2).min(LONGEST_PAUSE);
        std::mem::replace(&mut self.0, next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::key::Algorithm;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let mut pauses = Pauses(FIRST_PAUSE);
        let seconds: Vec<u64> = (0..11).map(|_| pauses.next_pause().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    /// Away for some asks, then it signs key `good` and refuses any other.
    struct Flaky(AtomicU32);

    impl Flaky {
        fn asked(&self, key_id: &str) -> Result<(), SignError> {
            let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            match (left, key_id) {
                (Ok(_), _) => {
                    Err(SignError::Unavailable { what: "token t".to_owned(), why: "gone".to_owned() })
                }
                (Err(_), "good") => Ok(()),
                (Err(_), _) => {
                    Err(SignError::Key { key_id: key_id.to_owned(), why: "it is not there".to_owned() })
                }
            }
        }
    }

    impl Signer for Flaky {
        fn active_key_id(&self) -> &'static str {
            "good"
        }

        fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError> {
            self.asked(key_id)?;
            let base = [[0x58].as_slice(), &[0x66; 31]].concat();
            Ok(PublicKey::new(Algorithm::Ed25519, &base).unwrap())
        }

        fn sign(&self, key_id: &str, _: &[u8]) -> Result<[u8; 64], SignError> {
            self.asked(key_id).map(|()| [7; 64])
        }
    }

    #[tokio::test]
    async fn a_device_that_is_away_is_waited_for_and_a_refusal_is_told() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let first_pause = Duration::from_millis(1);
        let signer = Arc::new(Flaky(AtomicU32::new(3)));
        let signing = Signing { signer: signer.clone(), metrics: metrics.clone(), first_pause };
        assert_eq!(signing.sign("good", b"m".to_vec()).await.unwrap(), [7; 64]);
        assert_eq!(metrics.dependencies()["signer"], Ok(()));
        let error = signing.sign("other", b"m".to_vec()).await.unwrap_err();
        assert_eq!(error.to_string(), "key other: it is not there");
        assert_eq!(metrics.dependencies()["signer"], Err("key other: it is not there".to_owned()));
        signer.0.store(2, Ordering::SeqCst);
        assert!(signing.public_key("good").await.is_ok());
        assert_eq!(metrics.dependencies()["signer"], Ok(()));
    }
}
