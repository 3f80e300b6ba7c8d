//! A bound on the time of every step.

use crate::delivery::error::{DeliveryError, ErrorClass, Place};
use std::time::Duration;

/// Waits for one step, but not for ever.
pub(super) async fn within<T>(
    place: &Place,
    limit: Duration,
    step: &str,
    future: impl Future<Output = T>,
) -> Result<T, DeliveryError> {
    let late = |_| place.error(ErrorClass::Unreachable, format!("{step} took longer than {limit:?}"));
    tokio::time::timeout(limit, future).await.map_err(late)
}
