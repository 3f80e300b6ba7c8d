//! How many clusters run beside each other in one test binary: on two cores more of them would starve one another, and
//! elections would follow.

use std::sync::{Condvar, Mutex};

/// Clusters that run at the same time.
const CLUSTERS: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a cluster, as long as it is held.
pub struct Turn(());

impl Turn {
    /// Waits until fewer clusters than [`CLUSTERS`] run.
    pub fn wait() -> Self {
        let running = RUNNING.lock().unwrap();
        let mut running = ENDED.wait_while(running, |running| *running >= CLUSTERS).unwrap();
        *running += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap() -= 1;
        ENDED.notify_one();
    }
}
