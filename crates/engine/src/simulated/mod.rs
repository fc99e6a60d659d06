//! A device without a driver: heaps, types and limits of any GPU, real host memory behind its
//! memory objects, and a strict eye on the contract of [`DeviceMemory`].
//!
//! What breaks the contract is noted in [`SimulatedDevice::violations`] and answered with an
//! error, not a panic: a panic would unwind through whatever locks the caller holds, and hide the
//! mistake behind a second one.

mod access;
mod calls;
mod external;
mod info;
mod payload;
mod profiles;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::{
    DedicatedTarget, DeviceError, DeviceInfo, DeviceMemory, DriverBudget, HostAddress,
    MemoryAllocateInfo, MemoryHandle, MemoryPropertyFlags, MemoryRange,
};
use crate::error::Error;
use crate::lock::{Mutex, rank};

use crate::words::bytes;
use calls::Calls;
pub use calls::{Call, CallRecord};
pub use info::{check_info, simulated_info};
pub use payload::SimulatedPayload;
pub use profiles::{profile_info, profile_names};
pub use store::HostBytes;
use store::LazyStore;

/// What a call answers that broke the contract: `VK_ERROR_VALIDATION_FAILED_EXT`.
pub const VALIDATION_FAILED: DeviceError = DeviceError::Other(-1_000_011_001);

/// Memory handles spell "MEM" in their upper bytes, so that they are known when seen in a log.
const HANDLE_TAG: u64 = 0x4D45_4D00_0000_0000;

/// Mapped addresses are aligned to a page at least, as those of drivers are.
const PAGE: u64 = 4096;

/// What is known of a live memory object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedMemory {
    /// Its type.
    pub memory_type_index: u32,
    /// In bytes.
    pub size: u64,
    /// The resource it was allocated for.
    pub dedicated: Option<DedicatedTarget>,
    /// Between `map` and `unmap`.
    pub mapped: bool,
    /// `VkExternalMemoryHandleTypeFlags` that it can be exported as.
    pub export_handle_types: u32,
    /// The `VkExternalMemoryHandleTypeFlagBits` that it was imported as; 0 for memory of its own.
    pub import_handle_type: u32,
}

#[derive(Debug)]
struct Object {
    public: SimulatedMemory,
    /// The call that has this object to itself at the moment: map, unmap or free.
    running: Option<Call>,
    /// What the host sees through a mapping.
    host: Arc<LazyStore>,
    /// What the device sees. The same as `host` unless the type is non-coherent.
    device: Arc<LazyStore>,
    /// What the host saw at its last flush or invalidate: a byte that differs from `host` was written
    /// since. The same as `host` unless the type is non-coherent.
    synchronised: Arc<LazyStore>,
}

#[derive(Debug)]
struct Objects {
    live: HashMap<u64, Object>,
    /// Handles below this one were given out.
    next_handle: u64,
    heap_bytes: Vec<u64>,
    /// Of other programs.
    occupied: Vec<u64>,
}

#[derive(Debug)]
enum BudgetSource {
    Unknown,
    Fixed(Vec<DriverBudget>),
    /// Own usage is counted; these are the budgets.
    Live(Vec<u64>),
}

/// A device that answers without a driver.
///
/// Calls take no time unless [`set_latency`](Self::set_latency) says so, and fail only where a
/// limit is met or a failure was asked for.
#[derive(Debug)]
pub struct SimulatedDevice {
    info: DeviceInfo,
    calls: Calls,
    objects: Mutex<Objects, rank::SimulatedObjects>,
    budget: Mutex<BudgetSource, rank::SimulatedBudget>,
    violations: Mutex<Vec<String>, rank::SimulatedViolations>,
    counts_objects: AtomicBool,
}

impl SimulatedDevice {
    /// A device of these heaps, types and limits.
    ///
    /// # Panics
    /// When no device could be like that; [`try_new`](Self::try_new) gives an error instead.
    pub fn new(info: DeviceInfo) -> Self {
        Self::try_new(info).expect("the description of a device")
    }

    /// The same, for descriptions that come from outside.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names what no device could be like; see [`check_info`]. Limits of 0
    /// count as unknown, as those of a driver do.
    pub fn try_new(mut info: DeviceInfo) -> Result<Self, Error> {
        info.limits = info.limits.without_zeros();
        check_info(&info)?;
        let heaps = info.heaps.len();
        Ok(Self {
            info,
            calls: Calls::new(),
            objects: Mutex::new(Objects {
                live: HashMap::new(),
                next_handle: HANDLE_TAG + 1,
                heap_bytes: vec![0; heaps],
                occupied: vec![0; heaps],
            }),
            budget: Mutex::new(BudgetSource::Unknown),
            violations: Mutex::new(Vec::new()),
            counts_objects: AtomicBool::new(true),
        })
    }

    /// A device like one that exists; one of [`profile_names`](Self::profile_names).
    pub fn profile(name: &str) -> Option<Self> {
        profile_info(name).map(Self::new)
    }

    /// The names that [`profile`](Self::profile) knows.
    pub fn profile_names() -> &'static [&'static str] {
        profile_names()
    }

    // ---- Failures, latencies, log -------------------------------------------------------------

    /// Makes the `n`th fallible call from now (0 is the next one), of whatever kind, fail.
    pub fn fail_call(&self, n: u64, error: DeviceError) {
        self.calls.fail_call(n, error);
    }

    /// Makes the next `count` calls of one kind fail; `u64::MAX` is always.
    ///
    /// # Panics
    /// When calls of this kind cannot fail ([`Call::is_fallible`]).
    pub fn fail_next(&self, call: Call, count: u64, error: DeviceError) {
        assert!(call.is_fallible(), "{} cannot fail", call.name());
        self.calls.fail_next(call, count, error);
    }

    /// Forgets the failures that have not happened yet.
    pub fn clear_failures(&self) {
        self.calls.clear_failures();
    }

    /// Makes every later call of one kind take at least this long.
    pub fn set_latency(&self, call: Call, latency: Duration) {
        self.calls.set_latency(Some(call), latency);
    }

    /// Makes every later call of any kind take at least this long.
    pub fn set_latency_of_all(&self, latency: Duration) {
        self.calls.set_latency(None, latency);
    }

    /// Switches the recording of calls; it is off at first. Records stay when it is switched off.
    pub fn record_log(&self, on: bool) {
        self.calls.record(on);
    }

    /// The recorded calls, oldest first; the newest 65,536.
    pub fn log(&self) -> Vec<CallRecord> {
        self.calls.log()
    }

    /// Forgets the recorded calls.
    pub fn clear_log(&self) {
        self.calls.clear_log();
    }

    /// How many calls of one kind were made, recorded or not, failed or not.
    pub fn call_count(&self, call: Call) -> u64 {
        self.calls.count(call)
    }

    /// How many fallible calls were made: what [`fail_call`](Self::fail_call) counts by.
    pub fn fallible_call_count(&self) -> u64 {
        self.calls.fallible_count()
    }

    /// Reports a call that a layer above simulates, so that it shares the count, the log, the
    /// latencies and the failures.
    ///
    /// # Errors
    /// The failure that was asked for.
    pub fn enter(&self, call: Call) -> Result<(), DeviceError> {
        self.enter_about(call, &[])
    }

    /// The same, with the memory that the call is about, for the log.
    ///
    /// # Errors
    /// The failure that was asked for.
    pub fn enter_about(&self, call: Call, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.calls.begin(call, ranges, None).map(drop)
    }

    // ---- Counts and violations ----------------------------------------------------------------

    /// Memory objects that were allocated and not freed.
    pub fn live_memory_objects(&self) -> usize {
        self.objects.lock().live.len()
    }

    /// Bytes of them in one heap.
    pub fn live_bytes(&self, heap: u32) -> u64 {
        self.objects.lock().heap_bytes[heap as usize]
    }

    /// Type, size and state of a live memory object.
    pub fn memory(&self, memory: MemoryHandle) -> Option<SimulatedMemory> {
        self.objects.lock().live.get(&memory.0).map(|object| object.public)
    }

    /// Every breach of the contract so far.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// The breaches so far, which are then forgotten: for tests that provoke them.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.violations.lock())
    }

    /// Notes a breach that a layer above found.
    pub fn report_violation(&self, call: Call, what: impl AsRef<str>) {
        self.violations.lock().push(format!("{}: {}", call.name(), what.as_ref()));
    }

    /// # Panics
    /// When the contract was breached.
    #[track_caller]
    pub fn assert_no_violations(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the device saw violations: {violations:#?}");
    }

    /// # Panics
    /// When the contract was breached, or memory objects are left.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_no_violations();
        let live = self.live_memory_objects();
        assert_eq!(live, 0, "memory objects that were never freed");
    }

    // ---- Budget -------------------------------------------------------------------------------

    /// What [`budget`](DeviceMemory::budget) answers from now on; `None`, as at first, is a driver
    /// without `VK_EXT_memory_budget`. One entry a heap.
    pub fn set_budget(&self, budget: Option<Vec<DriverBudget>>) {
        *self.budget.lock() = budget.map_or(BudgetSource::Unknown, BudgetSource::Fixed);
    }

    /// Budgets of the heaps in bytes, one entry a heap. Usage is then counted, and what others
    /// [`occupy`](Self::occupy) taken off the budget.
    pub fn set_live_budget(&self, budgets: Vec<u64>) {
        *self.budget.lock() = BudgetSource::Live(budgets);
    }

    /// Bytes of a heap that other programs hold from now on: allocations fail that much earlier.
    pub fn occupy(&self, heap: u32, bytes: u64) {
        self.objects.lock().occupied[heap as usize] = bytes;
    }

    // ---- Limits -------------------------------------------------------------------------------

    /// Whether `maxMemoryAllocationCount` is kept to, as at first: some drivers give more memory objects
    /// than they say.
    pub fn enforce_allocation_count(&self, enforce: bool) {
        self.counts_objects.store(enforce, Ordering::Relaxed);
    }

    // ---- Inside -------------------------------------------------------------------------------

    /// Why a handle is not live, for people.
    fn unknown(objects: &Objects, memory: MemoryHandle) -> String {
        if memory.0 > HANDLE_TAG && memory.0 < objects.next_handle {
            format!("memory {:#x} was freed already", memory.0)
        } else {
            format!("memory {:#x} was never allocated", memory.0)
        }
    }

    /// Takes an object for a call that needs it to itself. `Err` says what is wrong with that.
    fn take_hold(&self, call: Call, memory: MemoryHandle) -> Result<SimulatedMemory, String> {
        let mut objects = self.objects.lock();
        let Some(object) = objects.live.get_mut(&memory.0) else {
            return Err(Self::unknown(&objects, memory));
        };
        if let Some(other) = object.running {
            let other = other.name();
            return Err(format!("memory {:#x} is in a {other} of another thread", memory.0));
        }
        object.running = Some(call);
        Ok(object.public)
    }

    fn let_go(&self, memory: MemoryHandle) {
        if let Some(object) = self.objects.lock().live.get_mut(&memory.0) {
            object.running = None;
        }
    }

    /// Takes hold, counts and waits. `Ok(None)` when the call broke the contract and must do
    /// nothing; on a failure that was asked for, the object is free again.
    fn hold_and_begin(
        &self,
        call: Call,
        memory: MemoryHandle,
        wrong: impl FnOnce(&SimulatedMemory) -> Option<&'static str>,
    ) -> Result<Option<SimulatedMemory>, DeviceError> {
        let held = self.take_hold(call, memory);
        let size = held.as_ref().map_or(0, |public| public.size);
        let begun = self.enter_about(call, &[MemoryRange { memory, offset: 0, size }]);
        let public = match held {
            Ok(public) => public,
            Err(what) => {
                self.report_violation(call, what);
                return Ok(None);
            }
        };
        if let Some(what) = wrong(&public) {
            self.report_violation(call, format!("memory {:#x} {what}", memory.0));
            self.let_go(memory);
            return Ok(None);
        }
        begun.inspect_err(|_| self.let_go(memory)).map(|()| Some(public))
    }

    /// What is wrong with a request for memory, whatever else is allocated.
    fn wrong_request(&self, info: &MemoryAllocateInfo) -> Option<(String, DeviceError)> {
        let Some(memory_type) = self.info.types.get(info.memory_type_index as usize) else {
            let what = format!("memory type {} does not exist", info.memory_type_index);
            return Some((what, VALIDATION_FAILED));
        };
        if info.size == 0 {
            return Some(("a size of zero".into(), VALIDATION_FAILED));
        }
        if memory_type.flags.contains(MemoryPropertyFlags::DEVICE_COHERENT_AMD)
            && !self.info.amd_device_coherent
        {
            let what = format!(
                "memory type {} needs VK_AMD_device_coherent_memory",
                info.memory_type_index
            );
            return Some((what, VALIDATION_FAILED));
        }
        let heap = self.info.heaps[memory_type.heap_index as usize].size;
        if info.size > heap {
            let what = format!("{} of a heap that has {heap}", bytes(info.size));
            return Some((what, DeviceError::OutOfDeviceMemory));
        }
        let largest = self.info.limits.max_memory_allocation_size;
        if info.size > largest {
            let what = format!("{}, above maxMemoryAllocationSize {largest}", bytes(info.size));
            return Some((what, DeviceError::OutOfDeviceMemory));
        }
        None
    }

    /// Takes the memory, if the limits let it.
    fn take_memory(
        &self,
        info: &MemoryAllocateInfo,
        payload: Option<&SimulatedPayload>,
    ) -> Result<MemoryHandle, DeviceError> {
        let heap_index = self.info.heap_of(info.memory_type_index) as usize;
        let mut objects = self.objects.lock();
        let most = u64::from(self.info.limits.max_memory_allocation_count);
        if objects.live.len() as u64 >= most && self.counts_objects.load(Ordering::Relaxed) {
            return Err(DeviceError::TooManyObjects);
        }
        let used = objects.heap_bytes[heap_index].saturating_add(objects.occupied[heap_index]);
        if used.saturating_add(info.size) > self.info.heaps[heap_index].size {
            return Err(DeviceError::OutOfDeviceMemory);
        }
        let alignment = PAGE.max(self.info.limits.min_memory_map_alignment);
        let new_store = || Arc::new(LazyStore::new(info.size, alignment));
        let device = payload.map_or_else(new_store, |payload| Arc::clone(&payload.store));
        let (host, synchronised) = if self.info.is_non_coherent(info.memory_type_index) {
            (new_store(), new_store())
        } else {
            (Arc::clone(&device), Arc::clone(&device))
        };
        let handle = objects.next_handle;
        objects.next_handle += 1;
        objects.heap_bytes[heap_index] += info.size;
        let public = SimulatedMemory {
            memory_type_index: info.memory_type_index,
            size: info.size,
            dedicated: info.dedicated,
            mapped: false,
            export_handle_types: info.export_handle_types,
            import_handle_type: info.import.map_or(0, |import| import.handle_type),
        };
        let object = Object { public, running: None, host, device, synchronised };
        objects.live.insert(handle, object);
        Ok(MemoryHandle(handle))
    }
}

impl DeviceMemory for SimulatedDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Without a payload: what an import's handle stands for is a layer's to know.
    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        self.allocate_on(info, || match info.import {
            None => Ok(None),
            Some(_) => Err(DeviceError::InvalidExternalHandle),
        })
    }

    fn free(&self, memory: MemoryHandle) {
        // Infallible, so only a breach keeps it from going on.
        if let Ok(Some(public)) = self.hold_and_begin(Call::Free, memory, |_| None) {
            let mut objects = self.objects.lock();
            let heap_index = self.info.heap_of(public.memory_type_index) as usize;
            objects.heap_bytes[heap_index] -= public.size;
            let object = objects.live.remove(&memory.0);
            // Giving pages back to the host takes time.
            drop(objects);
            drop(object);
        }
    }

    fn map(&self, memory: MemoryHandle) -> Result<HostAddress, DeviceError> {
        let held = self.hold_and_begin(Call::Map, memory, |public| {
            let flags = self.info.flags_of(public.memory_type_index);
            if !flags.contains(MemoryPropertyFlags::HOST_VISIBLE) {
                Some("is not host-visible")
            } else if public.mapped {
                Some("is mapped already")
            } else {
                None
            }
        })?;
        if held.is_none() {
            return Err(DeviceError::MemoryMapFailed);
        }
        let host = self.objects.lock().live.get(&memory.0).map(|object| Arc::clone(&object.host));
        // Outside the lock: making a large store takes time.
        let store = host.and_then(|host| host.get());
        if let Some(object) = self.objects.lock().live.get_mut(&memory.0) {
            object.public.mapped = store.is_some();
            object.running = None;
        }
        store.map(|store| store.address()).ok_or(DeviceError::OutOfHostMemory)
    }

    fn unmap(&self, memory: MemoryHandle) {
        let held = self.hold_and_begin(Call::Unmap, memory, |public| {
            (!public.mapped).then_some("is not mapped")
        });
        if let Ok(Some(_)) = held
            && let Some(object) = self.objects.lock().live.get_mut(&memory.0)
        {
            object.public.mapped = false;
            object.running = None;
        }
    }

    fn flush(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.synchronise(Call::Flush, ranges)
    }

    fn invalidate(&self, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.synchronise(Call::Invalidate, ranges)
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        if matches!(*self.budget.lock(), BudgetSource::Unknown) {
            return None;
        }
        // Infallible; in the log and with a latency as any other call.
        let _ = self.enter(Call::Budget);
        match &*self.budget.lock() {
            BudgetSource::Unknown => None,
            BudgetSource::Fixed(budget) => Some(budget.clone()),
            BudgetSource::Live(budgets) => {
                let objects = self.objects.lock();
                let heaps = objects.heap_bytes.iter().zip(&objects.occupied).zip(budgets);
                let budget = heaps.map(|((usage, occupied), budget)| DriverBudget {
                    usage: *usage,
                    budget: budget.saturating_sub(*occupied),
                });
                Some(budget.collect())
            }
        }
    }
}
