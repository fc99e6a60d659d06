//! [`Rule`]: which evictable allocations may be taken away.

use super::stamps::Stamp;
use crate::request::{AllocationCreateInfo, Evict};

/// A priority in 256 steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Priority(pub u8);

impl Priority {
    /// Converts a priority from 0 to 1.
    pub fn new(priority: f32) -> Self {
        Self((priority.clamp(0.0, 1.0) * 255.0).round() as u8)
    }
}

/// Which evictable allocations of a pool may be taken away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The last frame of use with which one may go.
    newest: u64,
    /// Only those of a lower priority may go.
    below: Option<Priority>,
}

/// How far a request goes, whatever the pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    unused_for: u64,
    below: Option<Priority>,
}

impl Reach {
    /// Returns how far a request may go; `None` if it may take nothing.
    pub fn of(create_info: &AllocationCreateInfo) -> Option<Self> {
        if !create_info.may_evict() {
            return None;
        }
        let below = Some(Priority::new(create_info.priority.unwrap_or(0.5)));
        Some(match create_info.evict {
            Evict::Never => return None,
            Evict::Idle => Self::default(),
            Evict::LowerPriority => Self { below, ..Self::default() },
            Evict::Frames(frames) => Self { unused_for: u64::from(frames), ..Self::default() },
        })
    }

    /// Returns for how many frames what is taken from a pool was not used.
    pub fn age(&self, frames_in_use: u64) -> u64 {
        self.unused_for.max(frames_in_use.saturating_add(1))
    }

    /// Returns the rule for a pool; `None` if nothing is old enough yet.
    pub fn rule(&self, frame: u64, frames_in_use: u64) -> Option<Rule> {
        let newest = frame.checked_sub(self.age(frames_in_use))?;
        Some(Rule { newest, below: self.below })
    }
}

impl Rule {
    /// Returns whether an allocation with this stamp may go.
    #[inline]
    pub fn allows(&self, stamp: Stamp, priority: Priority) -> bool {
        stamp.is_live() && stamp.frame() <= self.newest && self.allows_priority(priority)
    }

    pub fn allows_priority(&self, priority: Priority) -> bool {
        self.below.is_none_or(|below| priority < below)
    }

    pub fn newest(&self) -> u64 {
        self.newest
    }
}
