//! Who may use a `VkDeviceMemory` right now.
//!
//! Nothing else may use one while `vkMapMemory` or `vkUnmapMemory` works on it (it is externally
//! synchronised there). Binding to it is such a use, and of one block many threads bind at once.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use vkmem_engine::MemoryHandle;

/// So many memory objects apart do not wait for each other, as a rule.
const LOCKS: usize = 32;

/// On a line of the cache of its own.
#[derive(Default)]
#[repr(align(64))]
struct Lock(RwLock<()>);

/// A lock for each memory object, shared by a few.
#[derive(Default)]
pub(crate) struct MemoryLocks([Lock; LOCKS]);

impl MemoryLocks {
    #[inline]
    fn of(&self, memory: MemoryHandle) -> &RwLock<()> {
        // Fibonacci hashing: handles are addresses or count up.
        let hash = memory.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> 59) as usize % LOCKS].0
    }

    /// While something is bound to it.
    #[inline]
    pub fn shared(&self, memory: MemoryHandle) -> RwLockReadGuard<'_, ()> {
        self.of(memory).read()
    }

    /// While it is mapped or unmapped.
    pub fn alone(&self, memory: MemoryHandle) -> RwLockWriteGuard<'_, ()> {
        self.of(memory).write()
    }
}
