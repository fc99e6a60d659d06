//! [`Pools`]: the default pool of each memory type, and the custom pools.

use std::sync::Arc;

use crate::check::check_pool;
use crate::error::Error;
use crate::handle::{PoolId, PoolKey};
use crate::lock::{RwLock, rank};
use crate::pools::memory_object::Release;
use crate::pools::overdue::EndQuarantine;
use crate::pools::pool::Pool;
use crate::pools::setup::Setup;
use crate::request::PoolCreateInfo;
use crate::slot_map::SlotMap;
use crate::words::{bytes, counted};

impl EndQuarantine for Pools {
    fn end_overdue(&self, pool_key: PoolKey) {
        self.with_pool(pool_key, |pool| Some(pool.end_quarantine(false)));
    }
}

/// All pools of an allocator.
pub(crate) struct Pools {
    /// The default pools, indexed by memory type.
    pub defaults: Vec<Pool>,
    /// The custom pools; `None` while one is being created.
    custom: RwLock<SlotMap<Option<Arc<Pool>>>, rank::Pools>,
}

impl Pools {
    /// Creates the default pools.
    pub fn new(setup: &Setup) -> Self {
        let types = setup.device.info().types.len() as u32;
        let defaults = (0..types).map(|index| Pool::of_type(setup, index)).collect();
        Self { defaults, custom: RwLock::default() }
    }

    /// Creates a custom pool and allocates its first blocks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for invalid rules; those of the driver calls; [`Error::NoHostMemory`].
    pub fn create(&self, setup: &Setup, rules: &PoolCreateInfo) -> Result<PoolId, Error> {
        check_pool(setup.device.info(), |heap| setup.ledger.limit(heap), rules)?;
        // The key is needed first, as allocations of the pool contain it. No caller has it yet.
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

    /// Destroys a custom pool and frees its memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it has live allocations; [`Error::UseAfterFree`] if the id is stale.
    pub fn destroy(&self, id: PoolId) -> Result<(), Error> {
        let mut custom = self.custom.write();
        let pool = custom.get(id.0).and_then(Option::as_ref).ok_or(Error::UseAfterFree)?;
        let (count, size) = pool.live();
        if count > 0 {
            let verb = if count == 1 { "is" } else { "are" };
            let reserved = match pool.arena().is_moving() {
                true => "; places that a defragmentation has reserved count, until it ends",
                false => "",
            };
            return Err(Error::InvalidArgument(format!(
                "there {verb} {} of {} in the pool{reserved}",
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

    /// Returns a custom pool.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn get(&self, id: PoolId) -> Result<Arc<Pool>, Error> {
        let custom = self.custom.read();
        custom.get(id.0).and_then(Option::as_ref).cloned().ok_or(Error::UseAfterFree)
    }

    /// Calls `run` with a pool; `None` if the pool does not exist.
    #[inline]
    pub fn with_pool<R>(
        &self,
        pool_key: PoolKey,
        run: impl FnOnce(&Pool) -> Option<R>,
    ) -> Option<R> {
        let custom;
        let pool = match pool_key {
            PoolKey::Default(index) => self.defaults.get(index as usize)?,
            PoolKey::Custom(id) => {
                custom = self.get(id).ok()?;
                &*custom
            }
        };
        // One call site for both, so that it is inlined.
        run(pool)
    }

    /// Calls `run` with each custom pool, under a lock; it must not call the driver.
    pub fn each_custom(&self, mut run: impl FnMut(&Pool)) {
        for (_, pool) in self.custom.read().iter() {
            if let Some(pool) = pool {
                run(pool);
            }
        }
    }

    /// Calls `run` with each pool, under a lock; it must not call the driver.
    pub fn each(&self, mut run: impl FnMut(&Pool)) {
        self.defaults.iter().for_each(&mut run);
        self.each_custom(run);
    }

    /// Removes retained empty blocks of the pools for which `wanted` returns true; those of
    /// `min_block_count` only if `all`.
    pub fn release_empties(&self, wanted: impl Fn(&Pool) -> bool, all: bool) -> Release {
        let mut release = Release::default();
        self.each(|pool| {
            if wanted(pool) {
                pool.release_empties(all, &mut release);
            }
        });
        release
    }

    /// Allocates the next block of a pool if it still runs low.
    pub fn prefetch(&self, pool_key: PoolKey) {
        // A pool that was destroyed meanwhile needs none.
        self.with_pool(pool_key, |pool| {
            pool.prefetch();
            Some(())
        });
    }
}
