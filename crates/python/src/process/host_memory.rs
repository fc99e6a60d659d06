//! Behaviour when the process runs out of host memory.
//!
//! Rust aborts the process when an infallible allocation fails, and most small ones are infallible: messages,
//! boxes. For those there is a reserve, which is freed when the system has no memory left. From then on calls
//! that create something raise `MemoryError` until the reserve could be filled again. Allocations that grow
//! with the caller's counts and sizes are fallible (`try_reserve`), or preceded by [`check_room`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::prelude::*;

use crate::errors::out_of_host_memory;

/// Size of the reserve in bytes: enough for some thousand messages and boxes.
const RESERVE: Layout = match Layout::from_size_align(1 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a valid layout"),
};

/// The largest allocation that may use the reserve, in bytes; larger ones have to be fallible.
const SMALL: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

static HELD: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static IS_SHORT: AtomicBool = AtomicBool::new(false);

struct WithReserve;

impl WithReserve {
    /// Frees the reserve and repeats an attempt that failed.
    #[cold]
    fn again(&self, size: usize, attempt: impl FnOnce() -> *mut u8) -> *mut u8 {
        if size > SMALL {
            return ptr::null_mut();
        }
        IS_SHORT.store(true, Ordering::Relaxed);
        let held = HELD.swap(ptr::null_mut(), Ordering::AcqRel);
        if held.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: allocated by `fill_reserve` with this layout, and taken out once.
        unsafe { System.dealloc(held, RESERVE) };
        attempt()
    }
}

// SAFETY: the system's allocator, called a second time if it fails.
unsafe impl GlobalAlloc for WithReserve {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees the layout.
        let attempt = || unsafe { System.alloc(layout) };
        let memory = attempt();
        if memory.is_null() { self.again(layout.size(), attempt) } else { memory }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees the layout.
        let attempt = || unsafe { System.alloc_zeroed(layout) };
        let memory = attempt();
        if memory.is_null() { self.again(layout.size(), attempt) } else { memory }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees memory, layout and size; a failed attempt leaves the memory valid.
        let attempt = || unsafe { System.realloc(memory, layout, size) };
        let moved = attempt();
        if moved.is_null() { self.again(size, attempt) } else { moved }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees memory and layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Fills the reserve; returns whether it is full.
pub fn fill_reserve() -> bool {
    if !HELD.load(Ordering::Acquire).is_null() {
        return true;
    }
    // SAFETY: the layout has a size above 0.
    let memory = unsafe { System.alloc(RESERVE) };
    if memory.is_null() {
        return false;
    }
    IS_SHORT.store(false, Ordering::Relaxed);
    let order = Ordering::AcqRel;
    if HELD.compare_exchange(ptr::null_mut(), memory, order, Ordering::Relaxed).is_err() {
        // SAFETY: allocated above and not published, as another thread has filled the reserve.
        unsafe { System.dealloc(memory, RESERVE) };
    }
    true
}

/// Raises `MemoryError` while the reserve is used up; for calls that create something.
#[inline]
pub fn check(py: Python<'_>) -> PyResult<()> {
    if IS_SHORT.load(Ordering::Relaxed) { fill_again(py) } else { Ok(()) }
}

#[cold]
fn fill_again(py: Python<'_>) -> PyResult<()> {
    if fill_reserve() { Ok(()) } else { Err(out_of_host_memory(py)) }
}

/// Raises `MemoryError` unless `count` pieces of `size` bytes can be allocated now; for calls with many
/// infallible allocations.
pub fn check_room(py: Python<'_>, count: usize, size: usize) -> PyResult<()> {
    check(py)?;
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(count.saturating_mul(size)).map_err(|_| out_of_host_memory(py))
}
