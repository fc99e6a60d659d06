//! Figures: statistics, budgets, what an error says of memory, checks.

use std::collections::LinkedList;

use super::Allocator;
use crate::error::{Error, FailureFigures};
use crate::handle::PoolId;
use crate::heap::ledger::HeapBudget;
use crate::heap::memory_events::{MemoryEvent, WakeUp};
use crate::pools::pool::Pool;
use crate::statistics::{PoolStatistics, Statistics};
use crate::words::bytes;

impl Allocator {
    /// Counts a pool. O(regions).
    pub fn statistics_of_pool(&self, id: PoolId) -> Result<Statistics, Error> {
        Ok(self.pools.get(id)?.statistics())
    }

    /// Counts a memory type, custom pools included. O(regions).
    pub fn statistics_of_type(&self, memory_type_index: u32) -> Statistics {
        let mut statistics = self.pools.defaults[memory_type_index as usize].statistics();
        self.pools.each_custom(|pool| {
            if pool.rules().memory_type_index == memory_type_index {
                statistics.add(&pool.statistics());
            }
        });
        statistics
    }

    /// Counts every pool once, the default ones first: sums over these agree with each other, though
    /// others allocate meanwhile. O(regions).
    pub fn statistics_of_pools(&self) -> Result<Vec<PoolStatistics>, Error> {
        let (mut all, mut failed) = (Vec::new(), false);
        self.pools.each(|pool| {
            failed = failed || all.try_reserve(1).is_err();
            if failed {
                return;
            }
            all.push(PoolStatistics {
                home: pool.home(),
                memory_type_index: pool.rules().memory_type_index,
                statistics: pool.statistics(),
            });
        });
        if failed {
            return Err(Error::NoHostMemory("the statistics of all pools"));
        }
        Ok(all)
    }

    /// Counts everything. O(regions).
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for index in 0..self.pools.defaults.len() {
            total.add(&self.statistics_of_type(index as u32));
        }
        total
    }

    /// Asks the driver for usage and budget of all heaps, where it knows them. To be called once a
    /// frame; allocations in between count from there.
    pub fn refresh_budget(&self) {
        self.setup.ledger.refresh();
        self.trim_over_budget();
        if self.prefetcher.is_some() {
            self.pools.each(Pool::retry_prefetch);
        }
    }

    /// From which share of its budget on a heap counts as pressed; `None`: none does.
    pub fn set_pressure_threshold(&self, share: Option<f64>) {
        self.setup.ledger.set_pressure_threshold(share);
    }

    /// Bit i: the usage of heap i has come to the threshold since this was asked last.
    /// [`PAST_ALLOCATION_COUNT`](crate::PAST_ALLOCATION_COUNT), once: more memory objects live than the
    /// device says it allows. [`MEMORY_EVENTS`](crate::MEMORY_EVENTS): there are some to take.
    pub fn take_pressed(&self) -> u32 {
        self.setup.ledger.take_pressed()
    }

    /// Keeps an event for each memory object that the driver gives or takes back from now on, whatever
    /// thread it happens on, and calls `wake_up` when there is a first one; with `None` no longer.
    pub fn watch_memory(&self, wake_up: Option<WakeUp>) {
        self.setup.ledger.watch_memory(wake_up);
    }

    /// The events since this was called last, in the order in which they happened.
    pub fn take_memory_events(&self) -> LinkedList<MemoryEvent> {
        self.setup.ledger.take_memory_events()
    }

    /// Usage and budget of every heap. Quick enough for every frame.
    pub fn heap_budgets(&self) -> Vec<HeapBudget> {
        self.setup.ledger.refresh_if_old();
        let info = self.device().info();
        let mut budgets: Vec<HeapBudget> = (0..info.heaps.len() as u32)
            .map(|heap| {
                let (block_count, block_bytes) = self.setup.ledger.held(heap);
                let (usage, budget) = self.setup.ledger.usage_and_budget(heap);
                HeapBudget { block_count, block_bytes, usage, budget, ..HeapBudget::default() }
            })
            .collect();
        let mut count = |pool: &Pool| {
            let heap = info.heap_of(pool.rules().memory_type_index) as usize;
            let (allocations, bytes) = pool.live();
            budgets[heap].allocation_count += allocations;
            budgets[heap].allocation_bytes += bytes;
        };
        self.pools.each(&mut count);
        budgets
    }

    /// An error if no heap could ever hold `size` bytes. Lets callers refuse a resource before the
    /// driver has to.
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

    /// Checks requests of `size` bytes in all: an error if all heaps together could not hold them.
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

    /// Figures for an error about `size` bytes: of a memory type and its heap where it is known.
    pub fn figures(&self, memory_type_index: Option<u32>, size: u64) -> FailureFigures {
        match memory_type_index {
            Some(index) => self.setup.ledger.figures(index, size),
            None => FailureFigures { size, ..FailureFigures::default() },
        }
    }

    /// Bytes of bookkeeping.
    pub fn metadata_bytes(&self) -> usize {
        let mut bytes = 0;
        self.pools.each(|pool| bytes += pool.metadata_bytes());
        bytes
    }

    /// Walks everything and says what is broken. O(regions).
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
