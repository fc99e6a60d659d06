//! Real host memory behind a simulated memory object.
//!
//! The device side reads and writes under a lock, and only for the length of a copy. The host side
//! writes through the address and knows no lock: two sides at the same bytes at the same time are
//! a race, here as on a GPU, and the caller's to prevent.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use crate::device::HostAddress;
use crate::lock::{Mutex, rank};

/// Copies between stores go through a buffer of this size: no two locks are ever held together,
/// and none for long.
const COPY_STEP: u64 = 64 << 10;

/// Memory of the host that a simulated device works on in place.
pub trait HostBytes: Send + Sync + fmt::Debug {
    /// Where it starts.
    fn address(&self) -> HostAddress;

    /// Fills `target` with the bytes from `offset` on.
    fn read(&self, offset: u64, target: &mut [u8]);

    /// Replaces the bytes from `offset` on.
    fn write(&self, offset: u64, source: &[u8]);
}

/// Zeroed bytes at an aligned address that stays the same; or bytes of somebody else's.
#[derive(Debug)]
pub(super) struct Store {
    bytes: Bytes,
    size: usize,
    address: HostAddress,
}

#[derive(Debug)]
enum Bytes {
    Own {
        /// Never grows, so it never moves.
        bytes: Mutex<Vec<u8>, rank::SimulatedBytes>,
        /// From the start of `bytes` to the first aligned one.
        padding: usize,
    },
    Foreign(Arc<dyn HostBytes>),
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
        let bytes = Bytes::Own { bytes: Mutex::new(bytes), padding };
        Some(Self { bytes, size, address })
    }

    /// `size` bytes of somebody else's.
    fn foreign(bytes: Arc<dyn HostBytes>, size: u64) -> Option<Self> {
        let (size, address) = (usize::try_from(size).ok()?, bytes.address());
        Some(Self { bytes: Bytes::Foreign(bytes), size, address })
    }

    /// Where the bytes lie. They may be written through it as long as the store lives.
    pub(super) fn address(&self) -> HostAddress {
        self.address
    }

    fn range(&self, offset: u64, length: usize) -> Range<usize> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.size as u64);
        let end = end.expect("a simulated access is checked before it reaches the store") as usize;
        offset as usize..end
    }

    fn read_to(&self, offset: u64, target: &mut [u8]) {
        let range = self.range(offset, target.len());
        match &self.bytes {
            Bytes::Own { bytes, padding } => {
                target.copy_from_slice(&bytes.lock()[padding + range.start..padding + range.end]);
            }
            Bytes::Foreign(bytes) => bytes.read(offset, target),
        }
    }

    fn write_from(&self, offset: u64, source: &[u8]) {
        let range = self.range(offset, source.len());
        match &self.bytes {
            Bytes::Own { bytes, padding } => {
                bytes.lock()[padding + range.start..padding + range.end].copy_from_slice(source);
            }
            Bytes::Foreign(bytes) => bytes.write(offset, source),
        }
    }

    /// Repeats the pattern from `offset` on; the last repetition may be cut short.
    pub(super) fn fill(&self, offset: u64, size: u64, pattern: &[u8]) {
        // Whole repetitions, so that each piece starts with the pattern.
        let repeats = (COPY_STEP as usize / pattern.len()).max(1);
        let piece = pattern.repeat(repeats.min((size as usize).div_ceil(pattern.len())));
        let mut done = 0;
        while done < size {
            let step = (piece.len() as u64).min(size - done);
            self.write_from(offset + done, &piece[..step as usize]);
            done += step;
        }
    }

    /// Copies `size` bytes; ranges of one store do not overlap.
    pub(super) fn copy_from(&self, offset: u64, source: &Self, source_offset: u64, size: u64) {
        let mut buffer = vec![0; COPY_STEP.min(size) as usize];
        let mut done = 0;
        while done < size {
            let step = COPY_STEP.min(size - done);
            let buffer = &mut buffer[..step as usize];
            source.read_to(source_offset + done, buffer);
            self.write_from(offset + done, buffer);
            done += step;
        }
    }

    /// A copy of the bytes.
    pub(super) fn read(&self, offset: u64, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        self.read_to(offset, &mut bytes);
        bytes
    }
}

/// A store that is made when it is first needed.
#[derive(Debug)]
pub(super) struct LazyStore {
    size: u64,
    alignment: u64,
    store: Mutex<Option<Arc<Store>>, rank::SimulatedStore>,
}

impl LazyStore {
    pub(super) fn new(size: u64, alignment: u64) -> Self {
        Self { size, alignment, store: Mutex::new(None) }
    }

    /// One of somebody else's bytes.
    pub(super) fn foreign(bytes: Arc<dyn HostBytes>, size: u64) -> Self {
        let store = Store::foreign(bytes, size).map(Arc::new);
        Self { size, alignment: 1, store: Mutex::new(store) }
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
