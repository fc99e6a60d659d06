//! [`World`]: allocators and objects of a replay.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{
    Algorithm, AllocationCreateFlags, AllocationId, Allocator, AllocatorOptions, DeviceInfo,
    DeviceMemory, Error, EvictionOwner, PoolCreateInfo, PoolId, SimulatedDevice,
};

use super::driver::{Behind, Budgets, Driver};
use super::gauges::Gauges;
use super::losses::LossWatcher;
use super::mapping::TypeMapping;
use super::objects::{Live, LivePool, LiveVirtual, Run, Space, Table};
use super::rules::device_of;
use super::settings::{ReplayDevice, ReplaySettings};
use crate::description::{BUDGETS, NO, STAYS_MAPPED};
use crate::event::{Call, Kind, PLACED, STATE};
use crate::numbering::{Numbering, makes_allocation};
use crate::trace::Trace;

/// The most allocators of a trace that are played: a file cannot ask for more.
const ALLOCATORS: usize = 64;
/// The most blocks that pools of a trace allocate when they are created.
const POOL_BLOCKS: u32 = 1 << 20;

/// Numbers of allocations by their allocators and ids.
type Numbers = Mutex<HashMap<(u16, AllocationId), u32>, rank::ReplayObject>;

/// An allocator of a replay with its device.
pub(super) struct Instance {
    pub allocator: Allocator,
    pub driver: Arc<Driver>,
    pub options: AllocatorOptions,
    pub losses: Arc<LossWatcher>,
    /// Pools that stand for the default pools, by memory type, if another algorithm is to divide them.
    routes: Vec<OnceLock<Option<PoolId>>>,
    pub closed: AtomicBool,
}

/// All that a replay plays on. Objects are found by their recorded numbers.
pub(super) struct World {
    pub trace: Arc<Trace>,
    pub settings: ReplaySettings,
    /// Whether a recording of this library has to come out as it was recorded.
    pub is_exact: bool,
    /// The device of the replay.
    pub info: DeviceInfo,
    pub mapping: Option<TypeMapping>,
    /// Whether the engine itself told the events.
    pub is_told: bool,
    /// Whether the trace tells what the driver reported as usage and budget.
    has_budgets: bool,
    pub gauges: Arc<Gauges>,
    instances: Vec<OnceLock<Result<Box<Instance>, Error>>>,
    pub allocations: Arc<Table<Live>>,
    pub pools: Table<LivePool>,
    pub spaces: Table<Space>,
    pub virtuals: Table<LiveVirtual>,
    pub runs: Table<Run>,
    /// The allocations that each run of the trace moves.
    proposals: OnceLock<HashSet<(u32, u32)>>,
    /// The allocations that the program ever refused to let move.
    unmovable: OnceLock<HashSet<u32>>,
    /// Blocks that pools may still allocate when they are created: a file cannot ask for more.
    pool_blocks: AtomicU32,
    /// Numbers of allocations by their ids, where those may change or be lost.
    pub numbers: Option<Numbers>,
}

fn has(trace: &Trace, kind: Kind) -> bool {
    trace.columns().kinds().contains(&(kind as u8))
}

/// Returns whether a trace says where allocations went, unless it has none.
fn says_places(trace: &Trace) -> bool {
    let is_placed = |flags: &u8| flags & PLACED != 0;
    trace.columns().flags().iter().any(is_placed) || !has(trace, Kind::Allocate)
}

impl World {
    pub fn new(trace: Arc<Trace>, settings: ReplaySettings) -> Self {
        let of_trace = trace.clone();
        let trace = &*of_trace;
        let recorded = device_of(trace.description());
        let info = match &settings.device {
            ReplayDevice::AsRecorded => recorded.clone(),
            ReplayDevice::Simulated(info) => info.clone(),
            ReplayDevice::Other(device) => device.info().clone(),
        };
        let of_calls =
            |kind, number: fn(&Call<'_>) -> Option<u32>| Numbering::of_calls(trace, kind, number);
        let can_be_lost =
            |flags: AllocationCreateFlags| flags.contains(AllocationCreateFlags::CAN_BECOME_LOST);
        let tracks = has(trace, Kind::BeginDefragmentation)
            || has(trace, Kind::MakeEvictable)
            || trace.dictionary().requests().iter().any(|it| can_be_lost(it.flags));
        Self {
            is_exact: settings.is_as_recorded()
                // Virtual blocks have none.
                && (trace.description().device.is_some() || !has(trace, Kind::CreateAllocator))
                && says_places(trace)
                // What existed before may have got its place in any way.
                && !trace.columns().flags().iter().any(|flags| flags & STATE != 0),
            mapping: TypeMapping::new(&recorded, &info),
            info,
            is_told: trace.description().is_told(),
            has_budgets: has(trace, Kind::Budget),
            gauges: Arc::default(),
            instances: (0..ALLOCATORS).map(|_| OnceLock::new()).collect(),
            allocations: Arc::new(Table::new(Numbering::of_objects(trace, makes_allocation))),
            pools: Table::new(of_calls(Kind::CreatePool, |call| match call {
                Call::CreatePool { pool, .. } => *pool,
                _ => None,
            })),
            spaces: Table::new(of_calls(Kind::CreateSpace, |call| match call {
                Call::CreateSpace { space, .. } => Some(*space),
                _ => None,
            })),
            virtuals: Table::new(Numbering::of_objects(trace, |it| it == Kind::VirtualAllocate)),
            runs: Table::new(of_calls(Kind::BeginDefragmentation, |call| match call {
                Call::BeginDefragmentation { run, .. } => Some(*run),
                _ => None,
            })),
            pool_blocks: AtomicU32::new(POOL_BLOCKS),
            proposals: OnceLock::new(),
            unmovable: OnceLock::new(),
            numbers: tracks.then(|| Mutex::new(HashMap::new())),
            trace: of_trace.clone(),
            settings,
        }
    }

    /// Returns an allocator, which is created when it is first needed. `None` if it could not be, or is closed.
    #[inline]
    pub fn instance(&self, number: u16) -> Option<&Instance> {
        let slot = self.instances.get(usize::from(number))?;
        let made = match slot.get() {
            Some(made) => made,
            None => slot.get_or_init(|| self.create(number, None).map(Box::new)),
        };
        made.as_deref().ok().filter(|it| !it.closed.load(Relaxed))
    }

    /// Creates an allocator with options of its own; does nothing if it exists.
    ///
    /// # Errors
    /// Those of [`Allocator::new`].
    pub fn create_instance(
        &self,
        number: u16,
        options: Option<&AllocatorOptions>,
    ) -> Result<(), Error> {
        let Some(slot) = self.instances.get(usize::from(number)) else { return Ok(()) };
        let made = slot.get_or_init(|| self.create(number, options).map(Box::new));
        made.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Returns all allocators that were created, with their numbers.
    pub fn instances(&self) -> impl Iterator<Item = (u16, &Instance)> {
        let made = (0..).zip(&self.instances);
        made.filter_map(|(number, slot)| Some((number, slot.get()?.as_deref().ok()?)))
    }

    /// Returns whether an allocator can be created with the settings, whatever the trace says of its own.
    ///
    /// # Errors
    /// Those of [`Allocator::new`].
    pub fn check_options(&self) -> Result<(), Error> {
        self.create(0, Some(&AllocatorOptions::default())).map(drop)
    }

    fn create(&self, number: u16, options: Option<&AllocatorOptions>) -> Result<Instance, Error> {
        let settings = &self.settings;
        let recorded = options.or(self.trace.description().options.as_ref()).cloned();
        let recorded = recorded.unwrap_or_default();
        let is_same = matches!(settings.device, ReplayDevice::AsRecorded);
        let limits = if is_same { recorded.heap_size_limits.clone() } else { Vec::new() };
        let options = AllocatorOptions {
            preferred_block_size: settings.block_size.or(recorded.preferred_block_size),
            preferred_small_heap_block_size: settings
                .small_heap_block_size
                .or(recorded.preferred_small_heap_block_size),
            heap_size_limits: settings.heap_size_limits.clone().unwrap_or(limits),
            empty_block_retention: settings.retention.unwrap_or(recorded.empty_block_retention),
            exceed_allocation_count: settings
                .exceed_allocation_count
                .unwrap_or(recorded.exceed_allocation_count),
            prefetch: settings.prefetch,
            frames_in_use: settings.frames_in_use.unwrap_or(recorded.frames_in_use),
            debug: settings.debug.unwrap_or(recorded.debug),
        };
        let (behind, kind): (Arc<dyn DeviceMemory>, _) = match &settings.device {
            ReplayDevice::Other(device) => (device.clone(), Behind::Real),
            _ => {
                let device = SimulatedDevice::try_new(self.info.clone())?;
                // The recorded driver may have allowed more than it reported.
                device.enforce_allocation_count(!options.exceed_allocation_count);
                (Arc::new(device), Behind::Simulated(number))
            }
        };
        let budgets = match &settings.budgets {
            Some(budgets) => Budgets::Fixed(budgets.clone()),
            None if self.has_budgets && is_same => Budgets::Recorded,
            None if is_same && self.says_no(BUDGETS) => Budgets::None,
            None => Budgets::Device,
        };
        let (info, gauges) = (self.info.clone(), self.gauges.clone());
        let stays_mapped = !is_same || !self.says_no(STAYS_MAPPED);
        let flags = (settings.records, stays_mapped);
        let driver = Driver::new(info, behind, kind, budgets, flags, gauges);
        let driver = Arc::new(driver);
        let allocator = Allocator::new(driver.clone(), &options)?;
        let losses = Arc::new(LossWatcher::new(self.allocations.clone()));
        let routes = (0..self.info.types.len()).map(|_| OnceLock::new()).collect();
        let closed = AtomicBool::new(false);
        Ok(Instance { allocator, driver, options, losses, routes, closed })
    }

    fn says_no(&self, setting: &str) -> bool {
        self.trace.description().setting(setting) == Some(NO)
    }

    /// Returns the pool that stands for the default pool of a memory type, if another algorithm than TLSF is asked for.
    /// `created` is told of a new one.
    pub fn route(
        &self,
        instance: &Instance,
        memory_type: u32,
        created: impl FnOnce(&PoolCreateInfo),
    ) -> Option<PoolId> {
        let algorithm = self.settings.algorithm.filter(|it| *it != Algorithm::Tlsf)?;
        let slot = instance.routes.get(memory_type as usize)?;
        *slot.get_or_init(|| {
            let info = PoolCreateInfo {
                memory_type_index: memory_type,
                block_size: self.settings.block_size,
                algorithm,
                fallback: true,
                ..PoolCreateInfo::default()
            };
            let made = instance.allocator.create_pool(&info).ok()?;
            created(&info);
            Some(made)
        })
    }

    /// Returns whether a pool may allocate so many blocks when it is created.
    pub fn take_pool_blocks(&self, count: u32) -> bool {
        let taken = |left: u32| left.checked_sub(count);
        self.pool_blocks.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Returns whether a run of the trace moves an allocation. O(events) once.
    pub fn is_proposed(&self, run: u32, allocation: u32) -> bool {
        let all = self.proposals.get_or_init(|| {
            let kinds = self.trace.columns().kinds().iter().enumerate();
            let proposed = kinds.filter(|(_, kind)| **kind == Kind::ProposeMove as u8);
            let pair = |(index, _)| match self.trace.event(index).call {
                Call::ProposeMove { run, allocation, .. } => Some((run, allocation)),
                _ => None,
            };
            proposed.filter_map(pair).collect()
        });
        all.contains(&(run, allocation))
    }

    /// Returns whether the program ever refused to let an allocation move. O(events) once.
    pub fn is_unmovable(&self, allocation: u32) -> bool {
        let all = self.unmovable.get_or_init(|| {
            let kinds = self.trace.columns().kinds().iter().enumerate();
            let refused = kinds.filter(|(_, kind)| **kind == Kind::RefuseMoves as u8);
            let numbers = |(index, _)| match self.trace.event(index).call {
                Call::RefuseMoves { allocations, .. } => allocations.iter().collect(),
                _ => Vec::new(),
            };
            refused.flat_map(numbers).collect()
        });
        all.contains(&allocation)
    }

    /// Returns the virtual allocations that are live. O(n) for n that the trace creates.
    pub fn live_virtuals(&self) -> Vec<LiveVirtual> {
        let mut all = Vec::new();
        self.virtuals.each(|it| all.push(*it));
        // Some ended with their block.
        all.retain(|it| {
            let found = self.spaces.with(it.space, |space| match space {
                Space::Block(block) => block.info(it.key).is_ok(),
                // The number and the handles of a block that was removed may be those of another one now.
                Space::Set(set, added) => {
                    set.info(it.block, it.key).is_ok()
                        && added.get(&it.block).is_some_and(|added| *added < it.event)
                }
            });
            found == Some(true)
        });
        all
    }

    /// Returns the numbers of all virtual blocks and sets that the trace creates. O(events).
    pub fn created_spaces(&self) -> Vec<u32> {
        let kinds = self.trace.columns().kinds().iter().enumerate();
        let created = kinds.filter(|(_, kind)| **kind == Kind::CreateSpace as u8);
        let number = |(index, _)| match self.trace.event(index).call {
            Call::CreateSpace { space, .. } => Some(space),
            _ => None,
        };
        created.filter_map(number).collect()
    }

    /// Lets an allocator take evictable allocations away, and notes which.
    pub fn watch_losses(&self, instance: &Instance) {
        let owner: Arc<dyn EvictionOwner> = instance.losses.clone();
        instance.allocator.set_eviction_owner(Some(owner));
    }
}
