//! Which pools run low and want their next block.

use crate::handle::Home;
use crate::lock::{Condvar, Mutex, rank};

#[derive(Default)]
struct Asked {
    homes: Vec<Home>,
    stop: bool,
}

/// Who has asked for a block.
#[derive(Default)]
pub(crate) struct PrefetchQueue {
    asked: Mutex<Asked, rank::PrefetchQueue>,
    changed: Condvar,
}

impl PrefetchQueue {
    /// Asks for a block. Called without any lock of an arena.
    pub fn ask(&self, home: Home) {
        self.asked.lock().homes.push(home);
        self.changed.notify_one();
    }

    /// No more are given out, and whoever waits for one goes on.
    pub fn stop(&self) {
        let mut asked = self.asked.lock();
        asked.stop = true;
        asked.homes.clear();
        self.changed.notify_one();
    }

    /// The next one; `None` at the end.
    pub fn next(&self) -> Option<Home> {
        let mut asked = self.asked.lock();
        loop {
            if asked.stop {
                return None;
            }
            if let Some(home) = asked.homes.pop() {
                return Some(home);
            }
            self.changed.wait(&mut asked);
        }
    }
}
