//! Faults of the program: memory is filled when it is created and freed, and what nobody may write is checked.

mod check_slices;
mod debugger;
mod facing;
pub mod heap_watch;
mod listener;
mod moment;
pub mod raising;
pub mod read;
mod records;
mod report;
mod running;
pub mod settings;
mod slices;
mod state;
mod text;

use std::sync::Arc;

use vkmem_engine::{PoolId, PoolKey};

use crate::lifetime::ownership::AllocatorState;
use debugger::AllocatorDebugger;
use settings::DebugSettings;

/// Begins what an allocator does to find faults. To be called once, before anything is created.
pub fn begin(allocator: &Arc<AllocatorState>, settings: DebugSettings) {
    if settings.watches_memory() {
        AllocatorDebugger::of(allocator, settings);
    }
}

/// Begins that for a pool with settings of its own, before anything is created in it. The engine must have begun what
/// the allocator does, if that does anything.
pub fn begin_pool(allocator: &Arc<AllocatorState>, pool: PoolId, settings: DebugSettings) {
    // A pool that does less than its allocator needs a note of that, too.
    if settings.watches_memory() || allocator.debugger().is_some() {
        let debugger = AllocatorDebugger::of(allocator, DebugSettings::default());
        debugger.add_pool(PoolKey::Custom(pool), settings);
    }
}
