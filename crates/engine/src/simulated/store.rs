//! Host memory behind a simulated memory object.
//!
//! The device side reads and writes under a lock that is held for the length of a copy. The host side
//! writes through the address without a lock: simultaneous access of both sides to the same bytes is a
//! data race, as on a GPU, which the caller has to prevent.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use crate::device::HostAddress;
use crate::lock::{Mutex, rank};

/// Size of the buffer for copies between stores, in bytes: so that no two locks are held at once, and
/// none for long.
const COPY_STEP: u64 = 64 << 10;

/// What unmapped memory consists of, seen through its old address.
pub(super) const POISON: u8 = 0xDD;

/// Host memory that a simulated device accesses in place.
pub trait HostBytes: Send + Sync + fmt::Debug {
    /// Returns the address of its first byte.
    fn address(&self) -> HostAddress;

    /// Fills `target` with the bytes from `offset` on.
    fn read(&self, offset: u64, target: &mut [u8]);

    /// Replaces the bytes from `offset` on.
    fn write(&self, offset: u64, source: &[u8]);
}

/// Zeroed bytes at an aligned address that does not change, or foreign host memory.
#[derive(Debug)]
pub(super) struct Store {
    bytes: Bytes,
    size: usize,
    address: HostAddress,
}

#[derive(Debug)]
enum Bytes {
    Own {
        bytes: Mutex<Contents, rank::SimulatedBytes>,
        /// Offset of the first aligned byte in `bytes`.
        padding: usize,
    },
    Foreign(Arc<dyn HostBytes>),
}

#[derive(Debug)]
struct Contents {
    /// What is seen through the address. Never grows, so its address does not change.
    seen: Vec<u8>,
    /// The bytes, while a pattern is seen in their place. Kept for the next time: the system takes longer to hand out
    /// pages than it takes to copy them.
    aside: Vec<u8>,
    /// Whether a pattern is seen.
    is_aside: bool,
}

impl Contents {
    fn bytes(&mut self) -> &mut [u8] {
        if self.is_aside { &mut self.aside } else { &mut self.seen }
    }
}

impl Store {
    /// Creates a store of `size` zeroed bytes at a multiple of `alignment`, a power of two. Returns
    /// `None` if the system has not that much memory.
    ///
    /// The system commits pages when they are first written, so a large store costs nothing at first.
    pub(super) fn new(size: u64, alignment: u64) -> Option<Self> {
        let size = usize::try_from(size).ok()?;
        let alignment = usize::try_from(alignment).ok()?;
        let length = size.checked_add(alignment)?;
        // `vec!` aborts the process if there is no memory, so a reservation is tried first.
        Vec::<u8>::new().try_reserve_exact(length).ok()?;
        // Unlike other ways to zero a vector, this one leaves the pages untouched (calloc).
        let mut bytes = vec![0_u8; length];
        let start = bytes.as_mut_ptr().expose_provenance();
        let padding = start.next_multiple_of(alignment) - start;
        let address = NonZeroUsize::new(start + padding).map(HostAddress)?;
        let bytes = Mutex::new(Contents { seen: bytes, aside: Vec::new(), is_aside: false });
        let bytes = Bytes::Own { bytes, padding };
        Some(Self { bytes, size, address })
    }

    /// Creates a store of `size` bytes of foreign host memory.
    fn foreign(bytes: Arc<dyn HostBytes>, size: u64) -> Option<Self> {
        let (size, address) = (usize::try_from(size).ok()?, bytes.address());
        Some(Self { bytes: Bytes::Foreign(bytes), size, address })
    }

    /// Returns the address of the first byte. The bytes may be written through it while the store lives.
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
                let range = padding + range.start..padding + range.end;
                target.copy_from_slice(&bytes.lock().bytes()[range]);
            }
            Bytes::Foreign(bytes) => bytes.read(offset, target),
        }
    }

    fn write_from(&self, offset: u64, source: &[u8]) {
        let range = self.range(offset, source.len());
        match &self.bytes {
            Bytes::Own { bytes, padding } => {
                let range = padding + range.start..padding + range.end;
                bytes.lock().bytes()[range].copy_from_slice(source);
            }
            Bytes::Foreign(bytes) => bytes.write(offset, source),
        }
    }

    /// Repeats the pattern from `offset` on; the last repetition may be truncated.
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

    /// Copies `size` bytes; ranges of one store must not overlap.
    pub(super) fn copy_from(&self, offset: u64, source: &Self, source_offset: u64, size: u64) {
        let (mut few, mut many) = ([0; 256], Vec::new());
        let buffer = match few.get_mut(..size as usize) {
            Some(few) => few,
            None => {
                many.resize(COPY_STEP.min(size) as usize, 0);
                &mut many
            }
        };
        let mut done = 0;
        while done < size {
            let step = COPY_STEP.min(size - done);
            let buffer = &mut buffer[..step as usize];
            source.read_to(source_offset + done, buffer);
            self.write_from(offset + done, buffer);
            done += step;
        }
    }

    /// Returns the size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Keeps the bytes aside, and shows a pattern in their place; does nothing to foreign memory, or if the system
    /// has no memory for it.
    pub(super) fn poison(&self) {
        let Bytes::Own { bytes, .. } = &self.bytes else { return };
        let mut contents = bytes.lock();
        let Contents { seen, aside, is_aside } = &mut *contents;
        if *is_aside {
            return;
        }
        aside.clear();
        if aside.try_reserve_exact(seen.len()).is_err() {
            return;
        }
        aside.extend_from_slice(seen);
        seen.fill(POISON);
        *is_aside = true;
    }

    /// Replaces the bytes by the pattern.
    pub(super) fn poison_for_good(&self) {
        let Bytes::Own { bytes, .. } = &self.bytes else { return };
        let mut contents = bytes.lock();
        contents.seen.fill(POISON);
        (contents.aside, contents.is_aside) = (Vec::new(), false);
    }

    /// Returns whether a pattern is seen in place of the bytes.
    pub(super) fn is_poisoned(&self) -> bool {
        match &self.bytes {
            Bytes::Own { bytes, .. } => bytes.lock().is_aside,
            Bytes::Foreign(_) => false,
        }
    }

    /// Shows the bytes again.
    pub(super) fn restore(&self) {
        let Bytes::Own { bytes, .. } = &self.bytes else { return };
        let mut contents = bytes.lock();
        let Contents { seen, aside, is_aside } = &mut *contents;
        if std::mem::take(is_aside) {
            seen.copy_from_slice(aside);
        }
    }

    /// Returns a copy of the bytes.
    pub(super) fn read(&self, offset: u64, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        self.read_to(offset, &mut bytes);
        bytes
    }
}

/// A store that is created when it is first needed.
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

    /// Creates a store of foreign host memory.
    pub(super) fn foreign(bytes: Arc<dyn HostBytes>, size: u64) -> Self {
        let store = Store::foreign(bytes, size).map(Arc::new);
        Self { size, alignment: 1, store: Mutex::new(store) }
    }

    /// Returns the store, after creating it if needed. `None` if the system has not that much memory.
    pub(super) fn get(&self) -> Option<Arc<Store>> {
        let mut store = self.store.lock();
        if store.is_none() {
            *store = Store::new(self.size, self.alignment).map(Arc::new);
        }
        store.clone()
    }

    /// Returns the store if it was created. Without one, every byte is zero.
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
