//! [`Hold`]: a block that stays mapped while a request gets its place.

use std::sync::Arc;

use crate::error::Error;
use crate::pools::memory_object::MemoryObject;

/// A map of a block that is counted while a request that is to be mapped takes its place there.
pub(super) struct Hold(Option<Arc<MemoryObject>>);

impl Hold {
    pub fn map(memory: Option<Arc<MemoryObject>>) -> Result<Self, Error> {
        if let Some(memory) = &memory {
            memory.map()?;
        }
        Ok(Self(memory))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(memory) = &self.0 {
            memory.unmap(1);
        }
    }
}
