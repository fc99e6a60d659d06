//! Says in the error of a request without room what could be lost, and why it was not.

use super::registry::Eviction;
use super::rule::Reach;
use crate::error::human_bytes;
use crate::handle::PoolKey;
use crate::pools::pool::Pool;
use crate::request::{AllocationCreateFlags, AllocationCreateInfo, Evict};
use crate::words::counted;

impl Eviction {
    /// Returns why what may be lost in a pool, or for a default pool in its heap, was not taken away for a request;
    /// `None` if nothing there may be lost.
    pub fn why_not(&self, pool: &Pool, create_info: &AllocationCreateInfo) -> Option<String> {
        let (key, heap) = (pool.pool_key(), pool.heap());
        let groups = self.groups(|group| match key {
            PoolKey::Custom(_) => group.key.pool == key,
            PoolKey::Default(_) => group.heap == heap,
        })?;
        let bytes: u64 = groups.iter().map(|group| group.lock().counts.evictable.1).sum();
        if bytes == 0 {
            return None;
        }
        let why = if !create_info.flags.contains(AllocationCreateFlags::CAN_MAKE_OTHER_LOST) {
            "to requests with CAN_MAKE_OTHER_LOST".to_owned()
        } else if let Some(reach) = Reach::of(create_info) {
            let age = groups.iter().map(|group| reach.age(group.frames_in_use)).min()?;
            match age.saturating_sub(self.frame()) {
                0 => {
                    let priority = match create_info.evict {
                        Evict::LowerPriority => ", or has no lower priority",
                        _ => "",
                    };
                    let frames = counted(age, "frame");
                    format!(
                        "but too much of it is held, or was used less than {frames} ago{priority}"
                    )
                }
                left => {
                    let frames = counted(left, "more frame");
                    format!("but {frames} must begin before (set_current_frame_index)")
                }
            }
        } else {
            "but evict forbids it".to_owned()
        };
        Some(format!("{} may be lost, {why}", human_bytes(bytes)))
    }
}
