//! Taking the next block from the driver before somebody needs it: a thread that arenas call when
//! they run low.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::handle::Home;
use crate::pools::registry::Pools;

#[derive(Default)]
struct Asked {
    homes: Vec<Home>,
    stop: bool,
}

/// Who has asked for a block.
#[derive(Default)]
pub(crate) struct PrefetchQueue {
    asked: Mutex<Asked>,
    news: Condvar,
}

impl PrefetchQueue {
    /// Asks for a block. Called without any lock of an arena.
    pub fn ask(&self, home: Home) {
        self.asked.lock().homes.push(home);
        self.news.notify_one();
    }

    fn stop(&self) {
        let mut asked = self.asked.lock();
        asked.stop = true;
        asked.homes.clear();
        self.news.notify_one();
    }

    /// The next one; `None` at the end.
    fn next(&self) -> Option<Home> {
        let mut asked = self.asked.lock();
        loop {
            if asked.stop {
                return None;
            }
            if let Some(home) = asked.homes.pop() {
                return Some(home);
            }
            self.news.wait(&mut asked);
        }
    }
}

/// The thread, while it runs.
pub(crate) struct Prefetcher {
    queue: Arc<PrefetchQueue>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
