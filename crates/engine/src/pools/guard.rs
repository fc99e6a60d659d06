//! [`Guard`]: what an arena keeps for debugging.

use std::sync::Arc;

use crate::debugging::options::DebugOptions;
use crate::handle::{PoolKey, SlotKey};
use crate::pools::filled::Filled;
use crate::pools::margin::Margins;
use crate::pools::quarantine::{Quarantine, Quarantines};

/// What an arena keeps for debugging: margins and the quarantine.
pub(crate) struct Guard {
    /// The margins of the pool.
    pub margins: Margins,
    /// Bytes of the margins of all live regions.
    pub margin_bytes: u64,
    /// Regions whose margins hold the pattern.
    pub filled: Filled,
    /// Freed regions that are not given out again yet; each is live under a key that nobody else knows.
    pub quarantine: Option<Quarantine<()>>,
    pub shared: Arc<Quarantines>,
    pub pool_key: PoolKey,
}

impl Guard {
    /// Returns what is kept with these options; `None` if they ask for nothing.
    pub fn new(
        debug: &DebugOptions,
        shared: &Arc<Quarantines>,
        pool_key: PoolKey,
    ) -> Option<Box<Self>> {
        let margins = Margins::new(debug.margin);
        let quarantine = debug.quarantine.map(Quarantine::new);
        (margins.are_on() || quarantine.is_some()).then(|| {
            Box::new(Self {
                margins,
                margin_bytes: 0,
                filled: Filled::default(),
                quarantine,
                shared: shared.clone(),
                pool_key,
            })
        })
    }

    /// Returns the number of live regions that are no allocations, and the bytes of all live regions that no
    /// allocation asked for.
    pub fn held(&self) -> (u64, u64) {
        let (count, bytes) = self.quarantine.as_ref().map_or((0, 0), Quarantine::held);
        (count, bytes + self.margin_bytes)
    }

    /// Returns whether a live region was freed and is in quarantine.
    pub fn is_quarantined(&self, key: SlotKey) -> bool {
        self.quarantine.as_ref().is_some_and(|it| it.contains(key))
    }
}
