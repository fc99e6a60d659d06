//! [`EndQuarantine`]: who gives out freed memory again when its quarantine is over.

use crate::handle::PoolKey;

/// Pools whose quarantine can end.
pub(crate) trait EndQuarantine: Send + Sync {
    /// Gives out again what is overdue in a pool. May call the driver.
    fn end_overdue(&self, pool_key: PoolKey);
}
