//! Programming errors, counted wherever they happen: in a handler, on a thread for blocking work, in a stream that is
//! being written, in a worker. A request that dies of one is not the only one that is of interest.

use super::MetricsError;
use prometheus::IntCounter;
use std::sync::OnceLock;

/// One for the process: a panic does not show which of its replicas it belongs to.
static PANICS: OnceLock<IntCounter> = OnceLock::new();

/// The counter of panics. From the first call on it counts them all, and they are reported as before.
///
/// # Errors
/// [`MetricsError`] if the counter can't be made.
pub(super) fn counter() -> Result<IntCounter, MetricsError> {
    let new =
        IntCounter::new("cdr_api_panics_total", "Programming errors (panics) anywhere in this process")?;
    let counted = PANICS.get_or_init(|| {
        let (counter, report) = (new.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            counter.inc();
            report(info);
        }));
        new
    });
    Ok(counted.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn panics_count_on_every_kind_of_thread() {
        let (panics, of_another) = (counter().unwrap(), counter().unwrap());
        let before = panics.get();
        assert!(tokio::task::spawn_blocking(|| panic!("on a thread for blocking work")).await.is_err());
        assert!(tokio::spawn(async { panic!("in a task") }).await.is_err());
        assert!(std::thread::spawn(|| panic!("on a thread")).join().is_err());
        // Other tests of this process may panic, too.
        assert!(panics.get() >= before + 3);
        assert!(of_another.get() >= before + 3);
    }
}
