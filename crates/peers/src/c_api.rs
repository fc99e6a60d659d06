//! The C functions that `bench/peers.py` calls through ctypes: VMA in the process of the Python module,
//! on the same `VkDevice`, timed here so that no Python code is part of the measurement.
//!
//! Times are in nanoseconds of CPU time of the thread, those of copies in nanoseconds of wall time; 0
//! reports a failure.

use std::time::{Duration, Instant};

use ash::vk;
use vkmem_vulkan::DeviceHandles;

use crate::cases::buffers::{Buffers, DriverAlone, Vma};
use crate::driver::{ash_tables, open_vma};
use crate::measure::thread_time;
use crate::vma::{self, VirtualStrategy};

/// VMA with its live buffers, and the driver without an allocator.
pub struct Peer {
    live: Vec<Option<(vk::Buffer, vma::Allocation)>>,
    allocator: vma::Allocator,
    alone: DriverAlone,
}

impl Peer {
    /// Opens VMA and the function tables.
    ///
    /// # Safety
    /// The handles are live, belong together, and outlive the peer.
    unsafe fn open(handles: &DeviceHandles, api_version: u32) -> Result<Self, String> {
        // SAFETY: the caller guarantees the contract of this function.
        let (allocator, (_, table)) =
            unsafe { (open_vma(handles, api_version)?, ash_tables(handles)?) };
        Ok(Self { live: Vec::new(), allocator, alone: DriverAlone::new(table) })
    }
}

/// Returns a slice of `count` items.
///
/// # Safety
/// `first` points to `count` items.
unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    // SAFETY: the caller guarantees the contract of this function.
    unsafe { std::slice::from_raw_parts(first, count) }
}

fn nanoseconds(start: Duration) -> u64 {
    (thread_time() - start).as_nanos() as u64
}

/// Opens VMA on an open device; null if that fails.
///
/// # Safety
/// The handles are live, belong together, and outlive the peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_open(
    instance: u64,
    physical_device: u64,
    device: u64,
    api_version: u32,
) -> *mut Peer {
    let handles = DeviceHandles { instance, physical_device, device, ..Default::default() };
    // SAFETY: the caller guarantees the contract of this function.
    match unsafe { Peer::open(&handles, api_version) } {
        Ok(peer) => Box::into_raw(Box::new(peer)),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Destroys all live buffers, and VMA.
///
/// # Safety
/// `peer` came from `peers_open` and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_close(peer: *mut Peer) {
    // SAFETY: the caller guarantees the contract of this function.
    let peer = unsafe { Box::from_raw(peer) };
    let mut buffers = Vma(&peer.allocator);
    peer.live.iter().flatten().for_each(|it| buffers.destroy(*it));
}

/// Creates live buffers of these sizes.
///
/// # Safety
/// The peer is live; `sizes` points to `count` sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_fill(peer: *mut Peer, sizes: *const u64, count: usize) {
    // SAFETY: the caller guarantees the contract of this function.
    let (peer, sizes) = unsafe { (&mut *peer, slice(sizes, count)) };
    let mut buffers = Vma(&peer.allocator);
    peer.live.extend(sizes.iter().map(|size| Some(buffers.create(*size))));
}

/// Destroys a live buffer and creates another one, for each pair of victim and size.
///
/// # Safety
/// The peer is live; both arrays have `count` items; victims are below the number of live buffers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_pairs(
    peer: *mut Peer,
    victims: *const u32,
    sizes: *const u64,
    count: usize,
) -> u64 {
    // SAFETY: the caller guarantees the contract of this function.
    let (peer, victims, sizes) =
        unsafe { (&mut *peer, slice(victims, count), slice(sizes, count)) };
    let mut buffers = Vma(&peer.allocator);
    let start = thread_time();
    for (victim, size) in victims.iter().zip(sizes) {
        let slot = &mut peer.live[*victim as usize];
        if let Some(made) = slot.take() {
            buffers.destroy(made);
        }
        *slot = Some(buffers.create(*size));
    }
    nanoseconds(start)
}

fn batch<B: Buffers>(buffers: &mut B, sizes: &[u64]) -> u64 {
    let mut made = Vec::with_capacity(sizes.len());
    let start = thread_time();
    made.extend(sizes.iter().map(|size| buffers.create(*size)));
    made.drain(..).for_each(|it| buffers.destroy(it));
    nanoseconds(start)
}

/// Creates buffers of these sizes and destroys them all; if `alone`, with only the driver calls that
/// every allocator makes.
///
/// # Safety
/// The peer is live; `sizes` points to `count` sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_batch(
    peer: *mut Peer,
    sizes: *const u64,
    count: usize,
    alone: bool,
) -> u64 {
    // SAFETY: the caller guarantees the contract of this function.
    let (peer, sizes) = unsafe { (&mut *peer, slice(sizes, count)) };
    if alone { batch(&mut peer.alone, sizes) } else { batch(&mut Vma(&peer.allocator), sizes) }
}

/// Allocates these sizes in a virtual block; only that is timed. Before that, every second one of the
/// first sizes is freed again, so that there are holes. `strategy` is one of VMA's values.
///
/// # Safety
/// Both arrays have as many sizes as their counts say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_virtual_many(
    block_size: u64,
    first: *const u64,
    first_count: usize,
    sizes: *const u64,
    count: usize,
    alignment: u64,
    strategy: u32,
) -> u64 {
    // SAFETY: the caller guarantees the contract of this function.
    let (first, sizes) = unsafe { (slice(first, first_count), slice(sizes, count)) };
    let all = [VirtualStrategy::Default, VirtualStrategy::MinTime, VirtualStrategy::MinMemory];
    let Some(strategy) = all.into_iter().find(|it| *it as u32 == strategy) else { return 0 };
    let mut block = vma::VirtualBlock::new(block_size, false);
    let mut before = Vec::with_capacity(first_count);
    for size in first {
        let Some(it) = block.allocate(*size, alignment, strategy, false) else { return 0 };
        before.push(it.0);
    }
    for handle in before.into_iter().step_by(2) {
        // SAFETY: the handle is live.
        unsafe { block.free(handle) };
    }
    let mut placed = Vec::with_capacity(count);
    let start = thread_time();
    for size in sizes {
        let Some(it) = block.allocate(*size, alignment, strategy, false) else { return 0 };
        placed.push(it);
    }
    nanoseconds(start)
}

/// Runs `memcpy`; returns nanoseconds of wall time, because the copy it is compared with may use several
/// threads.
///
/// # Safety
/// Both ranges have `size` bytes and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_memcpy(target: *mut u8, source: *const u8, size: usize) -> u64 {
    let start = Instant::now();
    // SAFETY: the caller guarantees the contract of this function.
    unsafe { std::ptr::copy_nonoverlapping(source, target, size) };
    start.elapsed().as_nanos() as u64
}

/// Runs `memcpy` into newly reserved memory; returns nanoseconds of wall time.
///
/// # Safety
/// The source has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_memcpy_new(source: *const u8, size: usize) -> u64 {
    let start = Instant::now();
    let mut target = Vec::<u8>::with_capacity(size);
    // SAFETY: the caller guarantees `size` bytes of source; the target has room for as many.
    unsafe {
        std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), size);
        target.set_len(size);
    }
    std::hint::black_box(&target);
    start.elapsed().as_nanos() as u64
}
