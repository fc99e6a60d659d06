//! All pools of an allocator: the default one of each memory type, and custom ones.

use std::sync::Arc;

use crate::check::check_pool;
use crate::error::Error;
use crate::handle::{Home, PoolId};
use crate::lock::{RwLock, rank};
use crate::pools::memory_object::Release;
use crate::pools::pool::Pool;
use crate::pools::setup::Setup;
use crate::request::PoolCreateInfo;
use crate::slot_map::SlotMap;
use crate::words::{bytes, counted};

/// See the module.
pub(crate) struct Pools {
    /// By memory type.
    pub defaults: Vec<Pool>,
    /// Empty while one is being made.
    custom: RwLock<SlotMap<Option<Arc<Pool>>>, rank::Pools>,
}

impl Pools {
    /// The default ones.
    pub fn new(setup: &Setup) -> Self {
        let types = setup.device.info().types.len() as u32;
        let defaults = (0..types).map(|index| Pool::of_type(setup, index)).collect();
        Self { defaults, custom: RwLock::default() }
    }

    /// Makes a custom one, and takes its first blocks from the driver.
    pub fn create(&self, setup: &Setup, rules: &PoolCreateInfo) -> Result<PoolId, Error> {
        check_pool(setup.device.info(), |heap| setup.ledger.limit(heap), rules)?;
        // The key first: allocations of the pool carry it. Nobody knows it yet.
        let mut custom = self.custom.write();
        if !custom.try_reserve() {
            return Err(Error::NoHostMemory("a pool"));
        }
        let placeholder = custom.insert(None);
        drop(custom);
        let id = PoolId(placeholder);
        let made = Pool::custom(setup, id, *rules);
        let mut custom = self.custom.write();
        match made {
            Ok(pool) => {
                if let Some(slot) = custom.get_mut(id.0) {
                    *slot = Some(Arc::new(pool));
                }
                Ok(id)
            }
            Err(error) => {
                custom.remove(id.0);
                Err(error)
            }
        }
    }

    /// Gives a custom pool's memory back. Refused while something lives in it.
    pub fn destroy(&self, id: PoolId) -> Result<(), Error> {
        let mut custom = self.custom.write();
        let pool = custom.get(id.0).and_then(Option::as_ref).ok_or(Error::UseAfterFree)?;
        let (count, size) = pool.live();
        if count > 0 {
            return Err(Error::InvalidArgument(format!(
                "there is {} of {} in the pool",
                counted(count, "allocation"),
                bytes(size)
            )));
        }
        let pool = custom.remove(id.0);
        // The driver is called without the lock.
        drop(custom);
        drop(pool);
        Ok(())
    }

    /// A custom one.
    pub fn get(&self, id: PoolId) -> Result<Arc<Pool>, Error> {
        let custom = self.custom.read();
        custom.get(id.0).and_then(Option::as_ref).cloned().ok_or(Error::UseAfterFree)
    }

    /// Runs something on the pool of a home, if it is there.
    #[inline]
    pub fn in_home<R>(&self, home: Home, run: impl FnOnce(&Pool) -> Option<R>) -> Option<R> {
        let custom;
        let pool = match home {
            Home::Default(index) => self.defaults.get(index as usize)?,
            Home::Custom(id) => {
                custom = self.get(id).ok()?;
                &*custom
            }
        };
        // One call for both, so that it is inlined.
        run(pool)
    }

    /// Runs something on each custom one; it must not call the driver.
    pub fn each_custom(&self, mut run: impl FnMut(&Pool)) {
        for (_, pool) in self.custom.read().iter() {
            if let Some(pool) = pool {
                run(pool);
            }
        }
    }

    /// Runs something on every pool; it must not call the driver.
    pub fn each(&self, mut run: impl FnMut(&Pool)) {
        self.defaults.iter().for_each(&mut run);
        self.each_custom(run);
    }

    /// Collects empty blocks that are kept, of the pools that `wanted` says; `all` takes those of
    /// `min_block_count`, too.
    pub fn release_empties(&self, wanted: impl Fn(&Pool) -> bool, all: bool) -> Release {
        let mut release = Release::default();
        self.each(|pool| {
            if wanted(pool) {
                pool.release_empties(all, &mut release);
            }
        });
        release
    }

    /// Takes the next block of a pool, if it still runs low.
    pub fn prefetch(&self, home: Home) {
        // A pool that was destroyed meanwhile needs none.
        self.in_home(home, |pool| {
            pool.prefetch();
            Some(())
        });
    }
}
