//! Taking the next block from the driver before somebody needs it: a thread that arenas call when
//! they run low.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use crate::error::Error;
use crate::lock::{Mutex, rank};
use crate::pools::prefetch_queue::PrefetchQueue;
use crate::pools::registry::Pools;

/// The thread, while it runs.
pub(crate) struct Prefetcher {
    queue: Arc<PrefetchQueue>,
    thread: Mutex<Option<JoinHandle<()>>, rank::PrefetchThread>,
}

impl Prefetcher {
    /// Starts it.
    pub fn start(queue: Arc<PrefetchQueue>, pools: &Arc<Pools>) -> Result<Self, Error> {
        // Weak: an allocator that is dropped stops the thread, not the other way round.
        let (theirs, pools) = (queue.clone(), Arc::downgrade(pools));
        let thread = thread::Builder::new().name("vk_mem prefetch".into());
        let thread = thread.spawn(move || run(&theirs, &pools)).map_err(|error| {
            Error::InvalidArgument(format!("the system gives no thread for prefetch: {error}"))
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it, and waits for the call of the driver that it may be in. Nothing happens the second
    /// time.
    pub fn stop(&self) {
        self.queue.stop();
        // Taken first, so that nobody waits with the lock.
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // It has nothing to say but that it panicked, which it has said.
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
    while let Some(home) = queue.next() {
        let Some(pools) = pools.upgrade() else { return };
        pools.prefetch(home);
    }
}
