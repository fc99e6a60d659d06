//! [`Prefetcher`]: a thread that allocates the next block of a pool before it is needed.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use crate::error::Error;
use crate::lock::{Mutex, rank};
use crate::pools::prefetch_queue::PrefetchQueue;
use crate::pools::registry::Pools;

/// The prefetch thread, while it runs.
pub(crate) struct Prefetcher {
    queue: Arc<PrefetchQueue>,
    thread: Mutex<Option<JoinHandle<()>>, rank::PrefetchThread>,
}

impl Prefetcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the system cannot start a thread.
    pub fn start(queue: Arc<PrefetchQueue>, pools: &Arc<Pools>) -> Result<Self, Error> {
        // A weak reference: dropping the allocator must stop the thread, so the thread must not keep its
        // pools alive.
        let (theirs, pools) = (queue.clone(), Arc::downgrade(pools));
        let thread = thread::Builder::new().name("vk_mem prefetch".into());
        let thread = thread.spawn(move || run(&theirs, &pools)).map_err(|error| {
            Error::InvalidArgument(format!("the system gives no thread for prefetch: {error}"))
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Stops the thread and waits for the driver call that it may be in. Does nothing the second time.
    pub fn stop(&self) {
        self.queue.stop();
        // Taken out first, so that the lock is not held while joining.
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // An error means that the thread panicked, which was already printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(queue: &PrefetchQueue, pools: &Weak<Pools>) {
    while let Some(pool_key) = queue.next() {
        let Some(pools) = pools.upgrade() else { return };
        pools.prefetch(pool_key);
    }
}
