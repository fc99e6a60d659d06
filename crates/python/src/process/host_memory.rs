//! What happens when the process gets no more host memory.
//!
//! Rust ends the process when an allocation fails that it did not ask for politely, and most small ones
//! are made so: a message, a box. For those there is a reserve, which is given up when the system has
//! nothing left. From then on calls that create something raise `MemoryError` until the reserve could be
//! filled again. What grows with the caller's counts and sizes asks politely (`try_reserve`), or looks
//! for room before it begins ([`check_room`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::prelude::*;

use crate::errors::out_of_host_memory;

/// Enough for some thousand messages and boxes, in bytes.
const RESERVE: Layout = match Layout::from_size_align(1 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a valid layout"),
};

/// What is larger has to be asked for politely, in bytes.
const SMALL: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

static HELD: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static IS_SHORT: AtomicBool = AtomicBool::new(false);

struct WithReserve;

impl WithReserve {
    /// Repeats an attempt that failed, with the reserve given up.
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
        // SAFETY: allocated by `fill` with this layout, and taken out once.
        unsafe { System.dealloc(held, RESERVE) };
        attempt()
    }
}

// SAFETY: the system's allocator, asked a second time where it failed.
unsafe impl GlobalAlloc for WithReserve {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout.
        let attempt = || unsafe { System.alloc(layout) };
        let memory = attempt();
        if memory.is_null() { self.again(layout.size(), attempt) } else { memory }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout.
        let attempt = || unsafe { System.alloc_zeroed(layout) };
        let memory = attempt();
        if memory.is_null() { self.again(layout.size(), attempt) } else { memory }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for memory, layout and size; a failed attempt leaves the memory.
        let attempt = || unsafe { System.realloc(memory, layout, size) };
        let moved = attempt();
        if moved.is_null() { self.again(size, attempt) } else { moved }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches for both.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Fills the reserve; whether it is full.
pub fn fill_reserve() -> bool {
    if !HELD.load(Ordering::Acquire).is_null() {
        return true;
    }
    // SAFETY: a layout of more than no bytes.
    let memory = unsafe { System.alloc(RESERVE) };
    if memory.is_null() {
        return false;
    }
    IS_SHORT.store(false, Ordering::Relaxed);
    let order = Ordering::AcqRel;
    if HELD.compare_exchange(ptr::null_mut(), memory, order, Ordering::Relaxed).is_err() {
        // SAFETY: allocated above; another thread was quicker.
        unsafe { System.dealloc(memory, RESERVE) };
    }
    true
}

/// An exception while the reserve is used up: for calls that create something.
#[inline]
pub fn check(py: Python<'_>) -> PyResult<()> {
    if IS_SHORT.load(Ordering::Relaxed) { fill_again(py) } else { Ok(()) }
}

#[cold]
fn fill_again(py: Python<'_>) -> PyResult<()> {
    if fill_reserve() { Ok(()) } else { Err(out_of_host_memory(py)) }
}

/// An exception unless `count` pieces of `size` bytes could be had just now: for what allocates in many
/// places that cannot say that they found none.
pub fn check_room(py: Python<'_>, count: usize, size: usize) -> PyResult<()> {
    check(py)?;
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(count.saturating_mul(size)).map_err(|_| out_of_host_memory(py))
}
