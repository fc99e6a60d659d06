//! [`PrefetchQueue`]: the pools that run low and request their next block.

use crate::handle::PoolKey;
use crate::lock::{Condvar, Mutex, rank};

#[derive(Default)]
struct Asked {
    pool_keys: Vec<PoolKey>,
    stop: bool,
}

/// Requests of pools for a block.
#[derive(Default)]
pub(crate) struct PrefetchQueue {
    asked: Mutex<Asked, rank::PrefetchQueue>,
    changed: Condvar,
}

impl PrefetchQueue {
    /// Requests a block for a pool. Must be called without an arena's lock.
    pub fn ask(&self, pool_key: PoolKey) {
        self.asked.lock().pool_keys.push(pool_key);
        self.changed.notify_one();
    }

    /// Drops all requests and wakes the waiting thread, for which [`next`](Self::next) then returns
    /// `None`.
    pub fn stop(&self) {
        let mut asked = self.asked.lock();
        asked.stop = true;
        asked.pool_keys.clear();
        self.changed.notify_one();
    }

    /// Waits for a request and returns its pool; `None` after [`stop`](Self::stop).
    pub fn next(&self) -> Option<PoolKey> {
        let mut asked = self.asked.lock();
        loop {
            if asked.stop {
                return None;
            }
            if let Some(pool_key) = asked.pool_keys.pop() {
                return Some(pool_key);
            }
            self.changed.wait(&mut asked);
        }
    }
}
