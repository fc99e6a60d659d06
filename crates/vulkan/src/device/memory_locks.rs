//! [`MemoryLocks`]: synchronises access to each `VkDeviceMemory`.
//!
//! During `vkMapMemory` and `vkUnmapMemory` a memory object is externally synchronised: nothing else may
//! use it. Binding to it is such a use, and many threads bind to one block at the same time.

use std::sync::OnceLock;

use vkmem_engine::MemoryHandle;
use vkmem_engine::lock::{RwLock, RwLockReadGuard, RwLockWriteGuard, rank};

/// Number of locks; with this many, different memory objects rarely share one.
const LOCKS: usize = 32;

/// The function that was passed to [`set_wait`].
static WAIT: OnceLock<Wait> = OnceLock::new();

/// Runs what waits.
type Wait = fn(&mut (dyn FnMut() + Send));

/// Sets how a thread waits for another one that is in a driver call, for programs that hold a lock of
/// their own around calls of this crate: `wait` runs the given function without that lock. The other
/// thread may be in a debug callback of the driver that needs it. Only the first call has an effect.
pub fn set_wait(wait: Wait) {
    WAIT.get_or_init(|| wait);
}

/// Runs what may wait for another thread that is in a driver call, by the function of [`set_wait`].
#[cold]
pub(crate) fn waiting(run: impl FnOnce() + Send) {
    let mut run = Some(run);
    let mut once = || run.take().into_iter().for_each(|run| run());
    match WAIT.get() {
        Some(by) => by(&mut once),
        None => once(),
    }
}

type MemoryLock = RwLock<(), rank::MemoryUse>;

/// A lock in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Lock(MemoryLock);

/// Reader-writer locks for memory objects; several objects share one.
#[derive(Default)]
pub(crate) struct MemoryLocks([Lock; LOCKS]);

impl MemoryLocks {
    #[inline]
    fn of(&self, memory: MemoryHandle) -> &MemoryLock {
        // Fibonacci hashing: handles are addresses or consecutive numbers.
        let hash = memory.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> 59) as usize % LOCKS].0
    }

    /// Locks a memory object for binding or querying; may be held by many threads.
    #[inline]
    pub fn shared(&self, memory: MemoryHandle) -> RwLockReadGuard<'_, (), rank::MemoryUse> {
        let lock = self.of(memory);
        // Recursive: a thread that waits to map must not block readers, because it may wait for a reader
        // that is blocked otherwise.
        lock.try_read_recursive().unwrap_or_else(|| wait_for(lock))
    }

    /// Locks a memory object for mapping or unmapping, exclusively.
    pub fn alone(&self, memory: MemoryHandle) -> RwLockWriteGuard<'_, (), rank::MemoryUse> {
        self.of(memory).write()
    }
}

#[cold]
fn wait_for(lock: &MemoryLock) -> RwLockReadGuard<'_, (), rank::MemoryUse> {
    loop {
        waiting(|| drop(lock.read_recursive()));
        // Not held while the program's own lock is taken again.
        if let Some(guard) = lock.try_read_recursive() {
            return guard;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_binds_while_somebody_maps() {
        static WAITS: AtomicUsize = AtomicUsize::new(0);
        set_wait(|wait| {
            WAITS.fetch_add(1, Ordering::Relaxed);
            wait();
        });
        let (locks, memory) = (MemoryLocks::default(), MemoryHandle(0x5000));
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            let alone = locks.alone(memory);
            for _ in 0..2 {
                scope.spawn(|| {
                    let _shared = locks.shared(memory);
                    inside.fetch_add(1, Ordering::Relaxed);
                });
            }
            while WAITS.load(Ordering::Relaxed) < 2 {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(inside.load(Ordering::Relaxed), 0);
            drop(alone);
        });
        assert_eq!(inside.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_waits_to_map_stops_nobody() {
        let (locks, memory) = (MemoryLocks::default(), MemoryHandle(7));
        let first = locks.shared(memory);
        thread::scope(|scope| {
            let mapping = scope.spawn(|| drop(locks.alone(memory)));
            thread::sleep(Duration::from_millis(20));
            drop(locks.shared(memory));
            assert!(!mapping.is_finished());
            drop(first);
        });
    }
}
