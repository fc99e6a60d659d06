//! [`SimulatedDevice`]: a device without a driver. It has heaps, types and limits of any GPU, real host
//! memory behind its memory objects, and checks the contract of [`DeviceMemory`].
//!
//! A violation of the contract is recorded in [`SimulatedDevice::violations`] and answered with an error
//! instead of a panic: a panic would unwind through the locks that the caller holds and hide the mistake
//! behind a second one.

mod access;
mod calls;
mod external;
mod info;
mod payload;
mod poison;
mod profiles;
mod reports;
mod store;
mod unmapped;
mod violation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::{
    DedicatedTarget, DeviceError, DeviceInfo, DeviceMemory, DriverBudget, HostAddress,
    MemoryAllocateInfo, MemoryHandle, MemoryPropertyFlags, MemoryRange,
};
use crate::error::Error;
use crate::key_map::KeyMap;
use crate::lock::{Mutex, rank};

use crate::words::bytes;
use calls::Calls;
pub use calls::{Call, CallRecord};
pub use info::{check_info, simulated_info};
pub use payload::SimulatedPayload;
pub use profiles::{profile_info, profile_names};
pub use store::HostBytes;
use store::LazyStore;
use unmapped::Unmapped;
pub use violation::{Finding, Violation, ViolationKind};

/// The result of a call that violated the contract: `VK_ERROR_VALIDATION_FAILED_EXT`.
pub const VALIDATION_FAILED: DeviceError = DeviceError::Other(-1_000_011_001);

/// Memory handles spell "MEM" in their upper bytes, to be recognised in a log.
const HANDLE_TAG: u64 = 0x4D45_4D00_0000_0000;

/// Minimum alignment of mapped addresses in bytes: a page, as with drivers.
const PAGE: u64 = 4096;

/// The state of a live memory object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedMemory {
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Size in bytes.
    pub size: u64,
    /// The resource that the memory is dedicated to.
    pub dedicated: Option<DedicatedTarget>,
    /// Whether it is mapped.
    pub mapped: bool,
    /// `VkExternalMemoryHandleTypeFlags` that it can be exported as.
    pub export_handle_types: u32,
    /// The `VkExternalMemoryHandleTypeFlagBits` that it was imported as; 0 if it was allocated.
    pub import_handle_type: u32,
}

#[derive(Debug)]
struct Object {
    public: SimulatedMemory,
    /// The call that uses the object exclusively at the moment: map, unmap or free.
    running: Option<Call>,
    /// The bytes that the host sees through a mapping.
    host: Arc<LazyStore>,
    /// The bytes that the device sees; the store of `host` unless the type is non-coherent.
    device: Arc<LazyStore>,
    /// The bytes that the host saw at its last flush or invalidate: a byte of `host` that differs was
    /// written since. The store of `host` unless the type is non-coherent.
    synchronised: Arc<LazyStore>,
}

#[derive(Debug)]
struct Objects {
    live: KeyMap<u64, Object>,
    /// The next handle; all lower ones have been used.
    next_handle: u64,
    heap_bytes: Vec<u64>,
    /// Bytes of each heap that other processes hold.
    occupied: Vec<u64>,
}

#[derive(Debug)]
enum BudgetSource {
    Unknown,
    Fixed(Vec<DriverBudget>),
    /// The budget of each heap; usage is counted.
    Live(Vec<u64>),
}

/// A simulated device.
///
/// Calls take no time unless [`set_latency`](Self::set_latency) sets one, and fail only if a limit is
/// exceeded or a failure was requested.
#[derive(Debug)]
pub struct SimulatedDevice {
    info: DeviceInfo,
    calls: Calls,
    objects: Mutex<Objects, rank::SimulatedObjects>,
    budget: Mutex<BudgetSource, rank::SimulatedBudget>,
    violations: Mutex<Vec<Violation>, rank::SimulatedViolations>,
    counts_objects: AtomicBool,
    unmapped: Unmapped,
}

impl SimulatedDevice {
    /// Creates a device with these heaps, types and limits.
    ///
    /// # Panics
    /// If no device can have these; [`try_new`](Self::try_new) returns an error instead.
    pub fn new(info: DeviceInfo) -> Self {
        Self::try_new(info).expect("the description of a device")
    }

    /// Creates a device from a description that the caller does not control.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names what no device can have; see [`check_info`]. Limits of 0 count as
    /// unknown, as with a driver.
    pub fn try_new(mut info: DeviceInfo) -> Result<Self, Error> {
        info.limits = info.limits.without_zeros();
        check_info(&info)?;
        let heaps = info.heaps.len();
        Ok(Self {
            info,
            calls: Calls::new(),
            objects: Mutex::new(Objects {
                live: KeyMap::default(),
                next_handle: HANDLE_TAG + 1,
                heap_bytes: vec![0; heaps],
                occupied: vec![0; heaps],
            }),
            budget: Mutex::new(BudgetSource::Unknown),
            violations: Mutex::new(Vec::new()),
            counts_objects: AtomicBool::new(true),
            unmapped: Unmapped::default(),
        })
    }

    /// Creates a device like an existing one; `name` is one of [`profile_names`](Self::profile_names).
    pub fn profile(name: &str) -> Option<Self> {
        profile_info(name).map(Self::new)
    }

    /// Returns the names of all profiles.
    pub fn profile_names() -> &'static [&'static str] {
        profile_names()
    }

    // ---- Failures, latencies, log -------------------------------------------------------------

    /// Makes the `n`th fallible call from now (0 is the next one) fail, whatever its function.
    pub fn fail_call(&self, n: u64, error: DeviceError) {
        self.calls.fail_call(n, error);
    }

    /// Makes the next `count` calls of one function fail; `u64::MAX` makes all fail.
    ///
    /// # Panics
    /// If the function cannot fail ([`Call::is_fallible`]).
    pub fn fail_next(&self, call: Call, count: u64, error: DeviceError) {
        assert!(call.is_fallible(), "{} cannot fail", call.name());
        self.calls.fail_next(call, count, error);
    }

    /// Cancels all failures that have not happened yet.
    pub fn clear_failures(&self) {
        self.calls.clear_failures();
    }

    /// Sets the minimum duration of all later calls of one function.
    pub fn set_latency(&self, call: Call, latency: Duration) {
        self.calls.set_latency(Some(call), latency);
    }

    /// Sets the minimum duration of all later calls.
    pub fn set_latency_of_all(&self, latency: Duration) {
        self.calls.set_latency(None, latency);
    }

    /// Starts or stops recording calls; off at first. Stopping keeps the records.
    pub fn record_log(&self, on: bool) {
        self.calls.record(on);
    }

    /// Returns the recorded calls, the oldest first; at most the newest 65,536.
    pub fn log(&self) -> Vec<CallRecord> {
        self.calls.log()
    }

    /// Removes all records.
    pub fn clear_log(&self) {
        self.calls.clear_log();
    }

    /// Returns the number of calls of one function, recorded or not, failed or not.
    pub fn call_count(&self, call: Call) -> u64 {
        self.calls.count(call)
    }

    /// Returns the number of fallible calls, by which [`fail_call`](Self::fail_call) counts.
    pub fn fallible_call_count(&self) -> u64 {
        self.calls.fallible_count()
    }

    /// Registers a call that a layer above simulates, so that it shares counts, records, latencies and
    /// failures.
    ///
    /// # Errors
    /// The failure that was requested.
    pub fn enter(&self, call: Call) -> Result<(), DeviceError> {
        self.enter_about(call, &[])
    }

    /// Like [`enter`](Self::enter), and records the memory ranges that the call is about.
    ///
    /// # Errors
    /// The failure that was requested.
    pub fn enter_about(&self, call: Call, ranges: &[MemoryRange]) -> Result<(), DeviceError> {
        self.calls.begin(call, ranges, None).map(drop)
    }

    // ---- Counts and violations ----------------------------------------------------------------

    /// Returns the number of memory objects that were allocated and not freed.
    pub fn live_memory_objects(&self) -> usize {
        self.objects.lock().live.len()
    }

    /// Returns the bytes of live memory objects in one heap.
    pub fn live_bytes(&self, heap: u32) -> u64 {
        self.objects.lock().heap_bytes[heap as usize]
    }

    /// Returns the state of a live memory object.
    pub fn memory(&self, memory: MemoryHandle) -> Option<SimulatedMemory> {
        self.objects.lock().live.get(&memory.0).map(|object| object.public)
    }

    /// Asserts that the contract was not violated.
    ///
    /// # Panics
    /// If it was.
    #[track_caller]
    pub fn assert_no_violations(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the device saw violations: {violations:#?}");
    }

    /// Asserts that the contract was not violated and no memory object is live.
    ///
    /// # Panics
    /// If it was, or if one is.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_no_violations();
        let live = self.live_memory_objects();
        assert_eq!(live, 0, "memory objects that were never freed");
    }

    // ---- Budget -------------------------------------------------------------------------------

    /// Sets the result of [`budget`](DeviceMemory::budget), one entry per heap; `None`, the default,
    /// stands for a driver without `VK_EXT_memory_budget`.
    pub fn set_budget(&self, budget: Option<Vec<DriverBudget>>) {
        *self.budget.lock() = budget.map_or(BudgetSource::Unknown, BudgetSource::Fixed);
    }

    /// Sets the budget of each heap in bytes. Usage is then counted, and what other processes
    /// [`occupy`](Self::occupy) is subtracted from the budget.
    pub fn set_live_budget(&self, budgets: Vec<u64>) {
        *self.budget.lock() = BudgetSource::Live(budgets);
    }

    /// Sets the bytes of a heap that other processes hold: allocations fail that much earlier.
    pub fn occupy(&self, heap: u32, bytes: u64) {
        self.objects.lock().occupied[heap as usize] = bytes;
    }

    // ---- Limits -------------------------------------------------------------------------------

    /// Sets whether `maxMemoryAllocationCount` is enforced, as it is by default; some drivers allow more
    /// memory objects than they report.
    pub fn enforce_allocation_count(&self, enforce: bool) {
        self.counts_objects.store(enforce, Ordering::Relaxed);
    }

    // ---- Inside -------------------------------------------------------------------------------

    /// Returns why a handle is not live.
    fn unknown(objects: &Objects, memory: MemoryHandle) -> Finding {
        if memory.0 > HANDLE_TAG && memory.0 < objects.next_handle {
            let text = format!("memory {:#x} was freed already", memory.0);
            Finding::new(ViolationKind::UseAfterFree, text)
        } else {
            format!("memory {:#x} was never allocated", memory.0).into()
        }
    }

    /// Marks an object as used exclusively by a call. `Err` describes the violation.
    fn take_hold(&self, call: Call, memory: MemoryHandle) -> Result<SimulatedMemory, Finding> {
        let mut objects = self.objects.lock();
        let Some(object) = objects.live.get_mut(&memory.0) else {
            return Err(Self::unknown(&objects, memory));
        };
        if let Some(other) = object.running {
            let other = other.name();
            return Err(format!("memory {:#x} is in a {other} of another thread", memory.0).into());
        }
        object.running = Some(call);
        Ok(object.public)
    }

    fn let_go(&self, memory: MemoryHandle) {
        if let Some(object) = self.objects.lock().live.get_mut(&memory.0) {
            object.running = None;
        }
    }

    /// Marks an object as used exclusively, counts the call and sleeps for its latency. Returns
    /// `Ok(None)` if the call violated the contract and must do nothing; on a requested failure the
    /// object is released again.
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
                self.report(call, what);
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

    /// Returns what is invalid about a request for memory, regardless of what is allocated.
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

    /// Allocates the memory, if the limits allow it.
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

    /// Refuses imports: only a layer above knows which payload a handle refers to.
    fn allocate(&self, info: &MemoryAllocateInfo) -> Result<MemoryHandle, DeviceError> {
        self.allocate_on(info, || match info.import {
            None => Ok(None),
            Some(_) => Err(DeviceError::InvalidExternalHandle),
        })
    }

    fn free(&self, memory: MemoryHandle) {
        // `Free` cannot fail, so only a violation ends it here.
        if let Ok(Some(public)) = self.hold_and_begin(Call::Free, memory, |_| None) {
            let mut objects = self.objects.lock();
            let heap_index = self.info.heap_of(public.memory_type_index) as usize;
            objects.heap_bytes[heap_index] -= public.size;
            let object = objects.live.remove(&memory.0);
            // After releasing the lock: returning pages to the system takes time.
            drop(objects);
            if let Some(object) = &object {
                self.keep_freed(object);
            }
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
        // Outside the lock: creating a large store takes time.
        let store = host.and_then(|host| host.get());
        if let Some(store) = &store {
            store.restore();
        }
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
        let Ok(Some(_)) = held else { return };
        let host = {
            let objects = self.objects.lock();
            objects.live.get(&memory.0).and_then(|object| self.to_poison(object))
        };
        // Outside the lock: copying a large store takes time.
        if let Some(store) = host.and_then(|host| host.peek()) {
            store.poison();
        }
        if let Some(object) = self.objects.lock().live.get_mut(&memory.0) {
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

    fn may_stay_mapped(&self) -> bool {
        !self.poisons_unmapped()
    }

    fn budget(&self) -> Option<Vec<DriverBudget>> {
        if matches!(*self.budget.lock(), BudgetSource::Unknown) {
            return None;
        }
        // `Budget` cannot fail; it is recorded and has a latency like any other call.
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
