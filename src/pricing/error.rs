//! Why a source of prices gave none.

use super::book::BookError;
use std::path::PathBuf;

/// Why a source could not be set up or called.
#[derive(Debug, thiserror::Error)]
pub enum PricingError {
    /// A certificate or key file can't be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The endpoint, or what its files hold, can't be used.
    #[error("{endpoint} can't be used: {why}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// Why.
        why: String,
    },
    /// The service did not answer, in none of the attempts.
    #[error("{service}.{method} failed {attempts} time(s), the last time because: {why}")]
    Unavailable {
        /// The service.
        service: &'static str,
        /// Its method.
        method: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        why: String,
    },
    /// The service has failed so often that it is not called for a while.
    #[error("{service} is not called for {retry_in_ms} ms: it failed {failures} times in a row")]
    BreakerOpen {
        /// The service.
        service: &'static str,
        /// When it will be tried again, milliseconds.
        retry_in_ms: u64,
        /// Failures in a row.
        failures: u32,
    },
    /// The service answered that it will not.
    #[error("{service}.{method} was refused ({code}): {why}")]
    Refused {
        /// The service.
        service: &'static str,
        /// Its method.
        method: &'static str,
        /// The gRPC status code.
        code: String,
        /// What it answered.
        why: String,
    },
    /// The answer can't be used; what was known before stays.
    #[error("{service}.{method} returned a response that can't be used: {why}")]
    Malformed {
        /// The service.
        service: &'static str,
        /// Its method.
        method: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The tables are not a price list.
    #[error(transparent)]
    Book(#[from] BookError),
}
