//! [`Names`]: names of allocations, stored apart from the regions, because most allocations have none.

use crate::error::Error;
use crate::handle::AllocationId;
use crate::key_map::KeyMap;
use crate::lock::{Mutex, rank};

const NO_ROOM: Error = Error::NoHostMemory("a name");

fn copy(name: &str) -> Result<String, Error> {
    let mut copied = String::new();
    copied.try_reserve_exact(name.len()).map_err(|_| NO_ROOM)?;
    copied.push_str(name);
    Ok(copied)
}

/// Names by allocation id.
#[derive(Debug, Default)]
pub struct Names {
    names: Mutex<KeyMap<AllocationId, Box<str>>, rank::Names>,
}

impl Names {
    /// Returns the name of an allocation, if it has one.
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn get(&self, id: AllocationId) -> Result<Option<String>, Error> {
        self.names.lock().get(&id).map(|name| copy(name)).transpose()
    }

    /// Sets the name of an allocation.
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn set(&self, id: AllocationId, name: &str) -> Result<(), Error> {
        let name = copy(name)?.into_boxed_str();
        let mut names = self.names.lock();
        names.try_reserve(1).map_err(|_| NO_ROOM)?;
        names.insert(id, name);
        Ok(())
    }

    /// Gives the name of an allocation to another one; returns false if it has none or there is no host
    /// memory.
    pub fn hand_over(&self, from: AllocationId, to: AllocationId) -> bool {
        let mut names = self.names.lock();
        if names.try_reserve(1).is_err() {
            return false;
        }
        let name = names.remove(&from);
        name.is_some_and(|name| {
            names.insert(to, name);
            true
        })
    }

    /// Removes the name of an allocation that was freed and returns it.
    pub fn take(&self, id: AllocationId) -> Option<String> {
        self.names.lock().remove(&id).map(String::from)
    }

    /// Removes the name of an allocation that was freed.
    pub fn remove(&self, id: AllocationId) {
        self.names.lock().remove(&id);
    }
}
