//! Blocking work inside asynchronous code.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work`, which blocks, without holding up the other tasks of a multi-threaded runtime.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
