//! Faults of the program: memory is filled when it is created and freed, and what nobody may write is checked.

pub mod read;
pub mod settings;

use std::sync::Arc;

use vkmem_engine::PoolId;

use crate::lifetime::ownership::AllocatorState;
use settings::DebugSettings;

/// Begins what an allocator does to find faults. To be called once, before anything is created.
pub fn begin(_state: &Arc<AllocatorState>, _settings: DebugSettings) {}

/// Begins that for a pool with settings of its own, before anything is created in it.
pub fn begin_pool(_state: &Arc<AllocatorState>, _pool: PoolId, _settings: DebugSettings) {}
