//! [`Reclaimer`]: a thread that gives memory back to the driver, for callers that have no time for that: the
//! `vkFreeMemory` of a block of 256 MiB takes some milliseconds on some drivers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::lock::{Condvar, Mutex, rank};

/// A driver call to be made later, or several.
type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    works: VecDeque<Work>,
    /// Whether the thread is in a driver call.
    is_busy: bool,
    /// Whether the thread ends once nothing is left.
    stop: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting, rank::ReclaimQueue>,
    /// There is something to do.
    added: Condvar,
    /// Nothing is left to do.
    done: Condvar,
}

/// Driver calls that a thread makes one after the other, in their order. The thread is started by the first.
#[derive(Default)]
pub(crate) struct Reclaimer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>, rank::ReclaimThread>,
}

impl Reclaimer {
    /// Makes driver calls in the thread, or at once if there is none: after [`stop`](Self::stop), and without
    /// host memory.
    pub fn add(&self, work: Work) {
        if !self.has_thread() {
            return work();
        }
        let mut waiting = self.queue.waiting.lock();
        if waiting.stop || waiting.works.try_reserve(1).is_err() {
            drop(waiting);
            return work();
        }
        waiting.works.push_back(work);
        drop(waiting);
        self.queue.added.notify_one();
    }

    /// Starts the thread, unless it runs; returns whether it does.
    fn has_thread(&self) -> bool {
        let mut thread = self.thread.lock();
        if thread.is_none() && !self.queue.waiting.lock().stop {
            let queue = self.queue.clone();
            let new = thread::Builder::new().name("vk_mem reclaim".into());
            *thread = new.spawn(move || queue.run()).ok();
        }
        thread.is_some()
    }

    /// Waits until all driver calls have been made; returns whether there were any to wait for. Not to be called
    /// from one of them.
    pub fn finish(&self) -> bool {
        // In checked builds this ensures that the caller may wait for a driver call.
        if self.thread.lock().is_none() {
            return false;
        }
        let mut waiting = self.queue.waiting.lock();
        let has_waited = waiting.is_pending();
        while waiting.is_pending() {
            self.queue.done.wait(&mut waiting);
        }
        has_waited
    }

    /// Makes all driver calls that wait, and ends the thread. Does nothing the second time.
    pub fn stop(&self) {
        self.queue.waiting.lock().stop = true;
        self.queue.added.notify_one();
        // Taken out first, so that the lock is not held while joining.
        let thread = self.thread.lock().take();
        // The thread itself drops the last reference if what it frees outlives the allocator.
        if let Some(thread) = thread.filter(|it| it.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Ends the thread without the driver calls that wait, and waits for the one that it may be in: for a device
    /// that may be gone.
    pub fn abandon(&self) {
        let works = {
            let mut waiting = self.queue.waiting.lock();
            waiting.stop = true;
            std::mem::take(&mut waiting.works)
        };
        // Dropping them would make the calls.
        std::mem::forget(works);
        self.stop();
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Waiting {
    fn is_pending(&self) -> bool {
        self.is_busy || !self.works.is_empty()
    }
}

impl Queue {
    fn run(&self) {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(work) = waiting.works.pop_front() {
                waiting.is_busy = true;
                drop(waiting);
                // A panic was already printed; those who wait must not wait for ever.
                let _ = catch_unwind(AssertUnwindSafe(work));
                waiting = self.waiting.lock();
                waiting.is_busy = false;
                if waiting.works.is_empty() {
                    self.done.notify_all();
                }
            } else if waiting.stop {
                return;
            } else {
                self.added.wait(&mut waiting);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_adds_does_not_wait_and_who_finishes_does() {
        let it = Reclaimer::default();
        assert!(!it.finish(), "there is nothing to wait for");
        let (go, goes) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let first = tell.clone();
        it.add(Box::new(move || {
            goes.recv_timeout(LONG).expect("the others were added meanwhile");
            first.send(0).expect("it is heard");
        }));
        for number in 1..4 {
            let tell = tell.clone();
            it.add(Box::new(move || tell.send(number).expect("it is heard")));
        }
        assert_eq!(told.try_iter().count(), 0);
        go.send(()).expect("the first one waits");
        assert!(it.finish());
        assert_eq!(Vec::from_iter(told.try_iter()), [0, 1, 2, 3]);
        assert!(!it.finish(), "all were made");
    }

    #[test]
    fn the_end_makes_what_waits_and_later_calls_are_made_at_once() {
        let (tell, told) = mpsc::channel();
        let it = Reclaimer::default();
        for number in 0..100 {
            let tell = tell.clone();
            it.add(Box::new(move || tell.send(number).expect("it is heard")));
        }
        it.stop();
        assert_eq!(Vec::from_iter(told.try_iter()), Vec::from_iter(0..100));
        let here = thread::current().id();
        it.add(Box::new(move || assert_eq!(thread::current().id(), here)));
        assert!(!it.finish());
    }

    #[test]
    fn nothing_is_called_once_the_device_may_be_gone() {
        let it = Reclaimer::default();
        let (go, goes) = mpsc::channel();
        let (begin, began) = mpsc::channel();
        it.add(Box::new(move || {
            begin.send(()).expect("it is heard");
            goes.recv_timeout(LONG).expect("the end waits for this");
        }));
        it.add(Box::new(|| unreachable!("the device is gone")));
        began.recv_timeout(LONG).expect("the first one began");
        thread::scope(|scope| {
            scope.spawn(|| it.abandon());
            while !it.queue.waiting.lock().stop {
                thread::yield_now();
            }
            go.send(()).expect("it waits");
        });
        assert!(it.thread.lock().is_none());
    }

    #[test]
    fn a_panic_does_not_keep_others_waiting() {
        let it = Reclaimer::default();
        it.add(Box::new(|| panic!("a driver's callback")));
        let (tell, told) = mpsc::channel();
        it.add(Box::new(move || tell.send(()).expect("it is heard")));
        it.finish();
        assert_eq!(told.try_iter().count(), 1);
    }
}
