//! Real host memory behind a simulated memory object.
//!
//! The device side reads and writes under a lock, and only for the length of a copy. The host side
//! writes through the address and knows no lock: two sides at the same bytes at the same time are
//! a race, here as on a GPU, and the caller's to prevent.

use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::HostAddress;

/// Copies between stores go through a buffer of this size: no two locks are ever held together,
/// and none for long.
const COPY_STEP: u64 = 64 << 10;

/// Zeroed bytes at an aligned address that stays the same.
#[derive(Debug)]
pub(super) struct Store {
    /// Never grows, so it never moves.
    bytes: Mutex<Vec<u8>>,
    /// From the start of `bytes` to the first aligned one.
    padding: usize,
    size: usize,
    address: HostAddress,
}

impl Store {
    /// `size` zeroed bytes at a multiple of `alignment`, a power of two. `None` where the host has
    /// not that much.
    ///
    /// The host commits pages when they are first written, so a large store costs nothing at first.
    pub(super) fn new(size: u64, alignment: u64) -> Option<Self> {
        let size = usize::try_from(size).ok()?;
        let alignment = usize::try_from(alignment).ok()?;
        let length = size.checked_add(alignment)?;
        // `vec!` ends the process when there is no memory, so a reservation asks first.
        Vec::<u8>::new().try_reserve_exact(length).ok()?;
        // Of all ways to zero a vector, this one leaves the pages untouched (calloc).
        let mut bytes = vec![0_u8; length];
        let start = bytes.as_mut_ptr().expose_provenance();
        let padding = start.next_multiple_of(alignment) - start;
        let address = NonZeroUsize::new(start + padding).map(HostAddress)?;
        Some(Self { bytes: Mutex::new(bytes), padding, size, address })
    }

    /// Where the bytes lie. They may be written through it as long as the store lives.
    pub(super) fn address(&self) -> HostAddress {
        self.address
    }

    /// Lends a range to `work`.
    fn with<T>(&self, offset: u64, size: u64, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let end = offset.checked_add(size).filter(|end| *end <= self.size as u64);
        let end = end.expect("a simulated access is checked before it reaches the store") as usize;
        work(&mut self.bytes.lock()[self.padding + offset as usize..self.padding + end])
    }

    /// Repeats the pattern from `offset` on; the last repetition may be cut short.
    pub(super) fn fill(&self, offset: u64, size: u64, pattern: &[u8]) {
        self.with(offset, size, |bytes| {
            if let [value] = pattern {
                bytes.fill(*value);
                return;
            }
            for piece in bytes.chunks_mut(pattern.len()) {
                piece.copy_from_slice(&pattern[..piece.len()]);
            }
        });
    }

    /// Copies `size` bytes; ranges of one store do not overlap.
    pub(super) fn copy_from(&self, offset: u64, source: &Self, source_offset: u64, size: u64) {
        let mut buffer = vec![0; COPY_STEP.min(size) as usize];
        let mut done = 0;
        while done < size {
            let step = COPY_STEP.min(size - done);
            let buffer = &mut buffer[..step as usize];
            source.with(source_offset + done, step, |bytes| buffer.copy_from_slice(bytes));
            self.with(offset + done, step, |bytes| bytes.copy_from_slice(buffer));
            done += step;
        }
    }

    /// A copy of the bytes.
    pub(super) fn read(&self, offset: u64, size: u64) -> Vec<u8> {
        self.with(offset, size, |bytes| bytes.to_vec())
    }
}

/// A store that is made when it is first needed.
#[derive(Debug)]
pub(super) struct LazyStore {
    size: u64,
    alignment: u64,
    store: Mutex<Option<Arc<Store>>>,
}

impl LazyStore {
    pub(super) fn new(size: u64, alignment: u64) -> Self {
        Self { size, alignment, store: Mutex::new(None) }
    }

    /// The store, made now if need be. `None` where the host has not that much memory.
    pub(super) fn get(&self) -> Option<Arc<Store>> {
        let mut store = self.store.lock();
        if store.is_none() {
            *store = Store::new(self.size, self.alignment).map(Arc::new);
        }
        store.clone()
    }

    /// The store, if anything has touched it yet. Without one, every byte is zero.
    pub(super) fn peek(&self) -> Option<Arc<Store>> {
        self.store.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{LazyStore, Store};

    #[test]
    fn a_lazy_store_is_made_once() {
        let lazy = LazyStore::new(100, 64);
        assert!(lazy.peek().is_none());
        let address = lazy.get().unwrap().address();
        assert_eq!(lazy.peek().unwrap().address(), address);
        assert_eq!(lazy.get().unwrap().address(), address);
    }

    #[test]
    fn addresses_are_aligned_and_bytes_start_at_zero() {
        for alignment in [64, 4096, 65536] {
            let store = Store::new(100, alignment).unwrap();
            assert_eq!(store.address().0.get() as u64 % alignment, 0);
            assert_eq!(store.read(0, 100), [0; 100]);
        }
    }

    #[test]
    fn fill_repeats_the_pattern_and_cuts_the_last() {
        let store = Store::new(16, 64).unwrap();
        store.fill(3, 7, &[1, 2, 3]);
        assert_eq!(store.read(0, 12), [0, 0, 0, 1, 2, 3, 1, 2, 3, 1, 0, 0]);
    }

    #[test]
    fn more_than_the_host_has_is_refused() {
        assert!(Store::new(u64::MAX, 4096).is_none());
        assert!(Store::new(u64::MAX / 4, 4096).is_none());
    }

    #[test]
    fn long_copies_arrive_whole() {
        let size = 3 * super::COPY_STEP + 5;
        let (source, target) = (Store::new(size, 64).unwrap(), Store::new(size + 7, 64).unwrap());
        let pattern: Vec<u8> = (0..=250).collect();
        source.fill(0, size, &pattern);
        target.copy_from(7, &source, 0, size);
        assert_eq!(target.read(7, size), source.read(0, size));
        assert_eq!(target.read(0, 7), [0; 7]);
    }
}
