//! Who may use a `VkDeviceMemory` right now.
//!
//! Nothing else may use one while `vkMapMemory` or `vkUnmapMemory` works on it (it is externally
//! synchronised there). Binding to it is such a use, and of one block many threads bind at once.

use std::sync::OnceLock;

use vkmem_engine::MemoryHandle;
use vkmem_engine::lock::{RwLock, RwLockReadGuard, RwLockWriteGuard, rank};

/// So many memory objects apart do not wait for each other, as a rule.
const LOCKS: usize = 32;

/// See [`wait_by`].
static WAIT: OnceLock<Wait> = OnceLock::new();

/// Runs what waits.
type Wait = fn(&mut (dyn FnMut() + Send));

/// How to wait for another thread that is in a call of the driver, for programs that hold a lock of their
/// own around the calls of this crate: what is given runs a wait without it. The other thread may be in a
/// debug callback of the driver's that needs that lock. The first one counts.
pub fn wait_by(wait: Wait) {
    WAIT.get_or_init(|| wait);
}

/// Runs what may wait for another thread that is in a call of the driver, as [`wait_by`] says.
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

/// On a line of the cache of its own.
#[derive(Default)]
#[repr(align(64))]
struct Lock(MemoryLock);

/// A lock for each memory object, shared by a few.
#[derive(Default)]
pub(crate) struct MemoryLocks([Lock; LOCKS]);

impl MemoryLocks {
    #[inline]
    fn of(&self, memory: MemoryHandle) -> &MemoryLock {
        // Fibonacci hashing: handles are addresses or count up.
        let hash = memory.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> 59) as usize % LOCKS].0
    }

    /// While something is bound to it, or asked of it.
    #[inline]
    pub fn shared(&self, memory: MemoryHandle) -> RwLockReadGuard<'_, (), rank::MemoryUse> {
        let lock = self.of(memory);
        // Nobody waits behind one who waits to map: that one may wait for another who is here already.
        lock.try_read_recursive().unwrap_or_else(|| wait_for(lock))
    }

    /// While it is mapped or unmapped.
    pub fn alone(&self, memory: MemoryHandle) -> RwLockWriteGuard<'_, (), rank::MemoryUse> {
        self.of(memory).write()
    }
}

#[cold]
fn wait_for(lock: &MemoryLock) -> RwLockReadGuard<'_, (), rank::MemoryUse> {
    loop {
        waiting(|| drop(lock.read_recursive()));
        // Not held while the lock of the program is taken again.
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
        wait_by(|wait| {
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
