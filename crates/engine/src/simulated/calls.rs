//! Driver calls of a simulated device: counted, recorded, delayed, and made to fail on request.

use std::collections::VecDeque;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::device::{DeviceError, MemoryRange};
use crate::lock::{Mutex, rank};

/// Maximum number of records; older ones are dropped.
const LOG_CAPACITY: usize = 65_536;

/// A function of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Call {
    /// `vkAllocateMemory`
    Allocate,
    /// `vkFreeMemory`
    Free,
    /// `vkMapMemory`
    Map,
    /// `vkUnmapMemory`
    Unmap,
    /// `vkFlushMappedMemoryRanges`
    Flush,
    /// `vkInvalidateMappedMemoryRanges`
    Invalidate,
    /// `vkGetPhysicalDeviceMemoryProperties2` with `VkPhysicalDeviceMemoryBudgetPropertiesEXT`
    Budget,
    /// `vkCreateBuffer`
    CreateBuffer,
    /// `vkDestroyBuffer`
    DestroyBuffer,
    /// `vkGetBufferMemoryRequirements2`
    BufferRequirements,
    /// `vkGetDeviceBufferMemoryRequirements`. Can fail here: a device without it creates a buffer
    /// instead.
    BufferRequirementsOfInfo,
    /// `vkBindBufferMemory`
    BindBuffer,
    /// `vkCreateImage`
    CreateImage,
    /// `vkDestroyImage`
    DestroyImage,
    /// `vkGetImageMemoryRequirements2`
    ImageRequirements,
    /// `vkGetDeviceImageMemoryRequirements`. Can fail here: a device without it creates an image instead.
    ImageRequirementsOfInfo,
    /// `vkBindImageMemory`
    BindImage,
    /// `vkQueueSubmit`
    Submit,
    /// `vkWaitSemaphores`
    WaitSemaphores,
    /// `vkGetMemoryFdKHR`
    ExportFd,
    /// `vkGetMemoryFdPropertiesKHR`
    FdProperties,
    /// `vkGetMemoryHostPointerPropertiesEXT`
    HostPointerProperties,
    /// `vkGetPhysicalDeviceImageFormatProperties2`. Never fails here.
    ImageFormatProperties,
    /// `vkGetImageSubresourceLayout`
    ImageSubresourceLayout,
    /// `vkCopyMemoryToImage`
    CopyMemoryToImage,
    /// `vkCopyImageToMemory`
    CopyImageToMemory,
    /// `vkTransitionImageLayout`
    TransitionImageLayout,
    /// `vkGetDeviceFaultInfoEXT`
    DeviceFaultInfo,
}

impl Call {
    /// All functions.
    pub const ALL: [Self; 28] = [
        Self::Allocate,
        Self::Free,
        Self::Map,
        Self::Unmap,
        Self::Flush,
        Self::Invalidate,
        Self::Budget,
        Self::CreateBuffer,
        Self::DestroyBuffer,
        Self::BufferRequirements,
        Self::BufferRequirementsOfInfo,
        Self::BindBuffer,
        Self::CreateImage,
        Self::DestroyImage,
        Self::ImageRequirements,
        Self::ImageRequirementsOfInfo,
        Self::BindImage,
        Self::Submit,
        Self::WaitSemaphores,
        Self::ExportFd,
        Self::FdProperties,
        Self::HostPointerProperties,
        Self::ImageFormatProperties,
        Self::ImageSubresourceLayout,
        Self::CopyMemoryToImage,
        Self::CopyImageToMemory,
        Self::TransitionImageLayout,
        Self::DeviceFaultInfo,
    ];

    /// Returns the name of the Vulkan function.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocate => "vkAllocateMemory",
            Self::Free => "vkFreeMemory",
            Self::Map => "vkMapMemory",
            Self::Unmap => "vkUnmapMemory",
            Self::Flush => "vkFlushMappedMemoryRanges",
            Self::Invalidate => "vkInvalidateMappedMemoryRanges",
            Self::Budget => "vkGetPhysicalDeviceMemoryProperties2",
            Self::CreateBuffer => "vkCreateBuffer",
            Self::DestroyBuffer => "vkDestroyBuffer",
            Self::BufferRequirements => "vkGetBufferMemoryRequirements2",
            Self::BufferRequirementsOfInfo => "vkGetDeviceBufferMemoryRequirements",
            Self::BindBuffer => "vkBindBufferMemory",
            Self::CreateImage => "vkCreateImage",
            Self::DestroyImage => "vkDestroyImage",
            Self::ImageRequirements => "vkGetImageMemoryRequirements2",
            Self::ImageRequirementsOfInfo => "vkGetDeviceImageMemoryRequirements",
            Self::BindImage => "vkBindImageMemory",
            Self::Submit => "vkQueueSubmit",
            Self::WaitSemaphores => "vkWaitSemaphores",
            Self::ExportFd => "vkGetMemoryFdKHR",
            Self::FdProperties => "vkGetMemoryFdPropertiesKHR",
            Self::HostPointerProperties => "vkGetMemoryHostPointerPropertiesEXT",
            Self::ImageFormatProperties => "vkGetPhysicalDeviceImageFormatProperties2",
            Self::ImageSubresourceLayout => "vkGetImageSubresourceLayout",
            Self::CopyMemoryToImage => "vkCopyMemoryToImage",
            Self::CopyImageToMemory => "vkCopyImageToMemory",
            Self::TransitionImageLayout => "vkTransitionImageLayout",
            Self::DeviceFaultInfo => "vkGetDeviceFaultInfoEXT",
        }
    }

    /// Returns whether the function can return an error and so counts for
    /// [`SimulatedDevice::fail_call`](super::SimulatedDevice::fail_call).
    pub fn is_fallible(self) -> bool {
        !matches!(
            self,
            Self::Free
                | Self::Unmap
                | Self::Budget
                | Self::DestroyBuffer
                | Self::BufferRequirements
                | Self::DestroyImage
                | Self::ImageRequirements
                | Self::ImageFormatProperties
                | Self::ImageSubresourceLayout
        )
    }
}

/// A call that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// 0 for the first call of the device; calls that are not recorded count as well.
    pub number: u64,
    /// The function.
    pub call: Call,
    /// The thread that made the call.
    pub thread: ThreadId,
    /// Time of the start of the call, since the device was created.
    pub began: Duration,
    /// The memory ranges that the call was about. In `Allocate`, the handle is 0 if the call failed.
    pub ranges: Vec<MemoryRange>,
    /// The memory type; only in `Allocate`.
    pub memory_type_index: Option<u32>,
    /// The result of the call.
    pub result: Result<(), DeviceError>,
}

/// Identifies a call while it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct State {
    /// Indexed by [`Call`].
    counts: [u64; Call::ALL.len()],
    latencies: [Duration; Call::ALL.len()],
    calls: u64,
    fallible_calls: u64,
    /// Numbers of fallible calls that are to fail, and their errors.
    failing_numbers: Vec<(u64, DeviceError)>,
    /// Functions that are to fail, how many more times, and the error; in the order of the requests.
    failing_kinds: Vec<(Call, u64, DeviceError)>,
    recording: bool,
    log: VecDeque<CallRecord>,
}

impl State {
    /// Returns the failure that applies to this call and uses it up.
    fn next_failure(&mut self, call: Call) -> Option<DeviceError> {
        if !call.is_fallible() {
            return None;
        }
        let number = self.fallible_calls;
        self.fallible_calls += 1;
        if let Some(at) = self.failing_numbers.iter().position(|(n, _)| *n == number) {
            return Some(self.failing_numbers.remove(at).1);
        }
        let at = self.failing_kinds.iter().position(|(kind, ..)| *kind == call)?;
        let (_, left, error) = &mut self.failing_kinds[at];
        let error = *error;
        *left -= 1;
        if *left == 0 {
            self.failing_kinds.remove(at);
        }
        Some(error)
    }
}

/// Counts, records, latencies and failures of one device.
#[derive(Debug)]
pub(super) struct Calls {
    born: Instant,
    state: Mutex<State, rank::SimulatedCalls>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            state: Mutex::new(State {
                counts: [0; Call::ALL.len()],
                latencies: [Duration::ZERO; Call::ALL.len()],
                calls: 0,
                fallible_calls: 0,
                failing_numbers: Vec::new(),
                failing_kinds: Vec::new(),
                recording: false,
                log: VecDeque::new(),
            }),
        }
    }

    /// Starts a call: counts and records it, sleeps for its latency, and returns whether it is to fail. A
    /// call that fails takes its time as well.
    pub(super) fn begin(
        &self,
        call: Call,
        ranges: &[MemoryRange],
        memory_type_index: Option<u32>,
    ) -> Result<Ticket, DeviceError> {
        let (ticket, failure, latency) = {
            let mut state = self.state.lock();
            let number = state.calls;
            state.calls += 1;
            state.counts[call as usize] += 1;
            let failure = state.next_failure(call);
            if state.recording {
                if state.log.len() == LOG_CAPACITY {
                    state.log.pop_front();
                }
                state.log.push_back(CallRecord {
                    number,
                    call,
                    thread: thread::current().id(),
                    began: self.born.elapsed(),
                    ranges: ranges.to_vec(),
                    memory_type_index,
                    result: failure.map_or(Ok(()), Err),
                });
            }
            (Ticket(number), failure, state.latencies[call as usize])
        };
        // Outside the lock: calls of other threads run meanwhile, as in a driver.
        if !latency.is_zero() {
            thread::sleep(latency);
        }
        failure.map_or(Ok(ticket), Err)
    }

    /// Corrects the record of a call, if there is one, once its result is known.
    pub(super) fn amend(&self, ticket: Ticket, change: impl FnOnce(&mut CallRecord)) {
        let mut state = self.state.lock();
        let found = state.log.binary_search_by_key(&ticket.0, |record| record.number);
        if let Ok(at) = found {
            change(&mut state.log[at]);
        }
    }

    pub(super) fn fail_call(&self, n: u64, error: DeviceError) {
        let mut state = self.state.lock();
        let number = state.fallible_calls.saturating_add(n);
        state.failing_numbers.push((number, error));
    }

    pub(super) fn fail_next(&self, call: Call, count: u64, error: DeviceError) {
        if count > 0 {
            self.state.lock().failing_kinds.push((call, count, error));
        }
    }

    pub(super) fn clear_failures(&self) {
        let mut state = self.state.lock();
        state.failing_numbers.clear();
        state.failing_kinds.clear();
    }

    pub(super) fn set_latency(&self, call: Option<Call>, latency: Duration) {
        let mut state = self.state.lock();
        match call {
            Some(call) => state.latencies[call as usize] = latency,
            None => state.latencies.fill(latency),
        }
    }

    pub(super) fn count(&self, call: Call) -> u64 {
        self.state.lock().counts[call as usize]
    }

    pub(super) fn fallible_count(&self) -> u64 {
        self.state.lock().fallible_calls
    }

    pub(super) fn record(&self, on: bool) {
        self.state.lock().recording = on;
    }

    pub(super) fn log(&self) -> Vec<CallRecord> {
        self.state.lock().log.iter().cloned().collect()
    }

    pub(super) fn clear_log(&self) {
        self.state.lock().log.clear();
    }
}
