//! Statistics, budgets, figures for errors, and consistency checks.

use std::collections::LinkedList;

use super::Allocator;
use crate::error::{Error, FailureFigures};
use crate::eviction::EvictionStatistics;
use crate::handle::PoolId;
use crate::heap::ledger::{HeapBudget, HeapUsage};
use crate::heap::memory_events::{MemoryEvent, WakeUp};
use crate::pools::pool::Pool;
use crate::recording::{Told, is_active};
use crate::statistics::{PoolStatistics, Statistics};
use crate::words::bytes;

impl Allocator {
    /// Counts the blocks, allocations and unused ranges of a custom pool. O(regions).
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn statistics_of_pool(&self, id: PoolId) -> Result<Statistics, Error> {
        Ok(self.pools.get(id)?.statistics())
    }

    /// Counts the blocks, allocations and unused ranges of a memory type, including custom pools.
    /// O(regions).
    pub fn statistics_of_type(&self, memory_type_index: u32) -> Statistics {
        let mut statistics = self.pools.defaults[memory_type_index as usize].statistics();
        self.pools.each_custom(|pool| {
            if pool.rules().memory_type_index == memory_type_index {
                statistics.add(&pool.statistics());
            }
        });
        statistics
    }

    /// Counts every pool once, the default ones first, so that different sums over the result agree with
    /// each other even if other threads allocate meanwhile. O(regions).
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn statistics_of_pools(&self) -> Result<Vec<PoolStatistics>, Error> {
        let (mut all, mut failed) = (Vec::new(), false);
        self.pools.each(|pool| {
            failed = failed || all.try_reserve(1).is_err();
            if failed {
                return;
            }
            all.push(PoolStatistics {
                pool_key: pool.pool_key(),
                memory_type_index: pool.rules().memory_type_index,
                statistics: pool.statistics(),
            });
        });
        if failed {
            return Err(Error::NoHostMemory("the statistics of all pools"));
        }
        Ok(all)
    }

    /// Counts the blocks, allocations and unused ranges of all pools. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for index in 0..self.pools.defaults.len() {
            total.add(&self.statistics_of_type(index as u32));
        }
        total
    }

    /// Counts evictable and lost allocations of all memory types. O(pools).
    pub fn total_eviction_statistics(&self) -> EvictionStatistics {
        self.eviction.statistics(|_| true)
    }

    /// Queries the driver for usage and budget of all heaps, if it reports them. To be called once per
    /// frame; the engine counts changes in between itself.
    pub fn refresh_budget(&self) {
        self.setup.ledger.refresh();
        self.trim_over_budget();
        if is_active() {
            self.recorder().tell_now(&Told::QueryBudget { trims: true });
        }
        if self.prefetcher.is_some() {
            self.pools.each(Pool::retry_prefetch);
        }
    }

    /// Sets the share of a heap's budget that [`take_pressed`](Self::take_pressed) reports; `None`
    /// switches it off.
    pub fn set_pressure_threshold(&self, share: Option<f64>) {
        self.setup.ledger.set_pressure_threshold(share);
    }

    /// Returns and clears a bit mask: bit i if the usage of heap i has reached the threshold since the
    /// last call; [`PAST_ALLOCATION_COUNT`](crate::PAST_ALLOCATION_COUNT), once, if more memory objects
    /// are live than the device allows; [`MEMORY_EVENTS`](crate::MEMORY_EVENTS) if there are events to
    /// take; [`LOSSES`](crate::LOSSES) after [`note_losses`](Self::note_losses).
    pub fn take_pressed(&self) -> u32 {
        self.setup.ledger.take_pressed()
    }

    /// Lets the next [`take_pressed`](Self::take_pressed) report [`LOSSES`](crate::LOSSES), for the owner of
    /// allocations that were lost.
    pub fn note_losses(&self) {
        self.setup.ledger.note_losses();
    }

    /// Starts recording an event for each memory object that is allocated or freed, on any thread, and
    /// calls `wake_up` for the first one in an empty list; `None` stops it.
    pub fn watch_memory(&self, wake_up: Option<WakeUp>) {
        self.setup.ledger.watch_memory(wake_up);
    }

    /// Returns and removes the events since the last call, in the order in which they happened.
    pub fn take_memory_events(&self) -> LinkedList<MemoryEvent> {
        self.setup.ledger.take_memory_events()
    }

    /// Returns usage and budget of every heap. O(pools), except for a query of the driver after 30
    /// changes.
    pub fn heap_budgets(&self) -> Vec<HeapBudget> {
        if self.setup.ledger.refresh_if_old() && is_active() {
            self.recorder().tell_now(&Told::QueryBudget { trims: false });
        }
        let ledger = &self.setup.ledger;
        let budget_of = |(heap, in_use): (u32, HeapUsage)| {
            let (block_count, block_bytes) = ledger.held(heap);
            let (usage, budget) = ledger.usage_and_budget(heap);
            let HeapUsage { allocation_count, allocation_bytes, .. } = in_use;
            HeapBudget {
                block_count,
                block_bytes,
                allocation_count,
                allocation_bytes,
                usage,
                budget,
            }
        };
        (0..).zip(self.heap_usage()).map(budget_of).collect()
    }

    /// Returns how much of every heap the pools hold and what is in use of it. O(pools).
    pub fn heap_usage(&self) -> Vec<HeapUsage> {
        let info = self.device().info();
        let mut heaps = vec![HeapUsage::default(); info.heaps.len()];
        self.pools.each(|pool| {
            let heap = info.heap_of(pool.rules().memory_type_index) as usize;
            heaps[heap].add(&pool.usage());
        });
        heaps
    }

    /// Returns an error if no heap could ever hold `size` bytes, so that callers can refuse a resource
    /// before creating it.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]
    #[inline]
    pub fn check_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.largest_heap { Ok(()) } else { Err(self.larger_than_any_heap(size)) }
    }

    #[cold]
    fn larger_than_any_heap(&self, size: u64) -> Error {
        let reason = format!("the largest heap has {}", bytes(self.largest_heap));
        let figures = FailureFigures { size, can_never_succeed: true, ..FailureFigures::default() };
        Error::OutOfDeviceMemory { reason, figures }
    }

    /// Returns an error if all heaps together could not hold `size` bytes, the sum of several requests.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`]
    pub fn check_total(&self, size: u64) -> Result<(), Error> {
        let heaps = &self.device().info().heaps;
        let total = heaps.iter().fold(0u64, |total, heap| total.saturating_add(heap.size));
        if size <= total {
            return Ok(());
        }
        let reason = format!("all heaps together have {}", bytes(total));
        let figures = FailureFigures { size, can_never_succeed: true, ..FailureFigures::default() };
        Err(Error::OutOfDeviceMemory { reason, figures })
    }

    /// Returns the figures for an error about `size` bytes, with the state of the heap if the memory type
    /// is known.
    pub fn figures(&self, memory_type_index: Option<u32>, size: u64) -> FailureFigures {
        match memory_type_index {
            Some(index) => self.setup.ledger.figures(index, size),
            None => FailureFigures { size, ..FailureFigures::default() },
        }
    }

    /// Returns the bytes of bookkeeping. O(pools).
    pub fn metadata_bytes(&self) -> usize {
        let mut bytes = 0;
        self.pools.each(|pool| bytes += pool.metadata_bytes());
        bytes
    }

    /// Checks all invariants and returns the first one that is broken. O(regions).
    pub fn validate(&self) -> Result<(), String> {
        let mut checked = Ok(());
        self.pools.each(|pool| {
            if checked.is_ok() {
                let memory_type = pool.rules().memory_type_index;
                checked = pool
                    .validate()
                    .map_err(|broken| format!("memory type {memory_type}: {broken}"));
            }
        });
        checked
    }
}
