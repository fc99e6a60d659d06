//! [`Bins`]: the index of free regions by size class. Any region can be removed in O(1).
//!
//! ```text
//!   bitmap     0 1 0 0 1 1 ...                      bit c % 64 of word c / 64: class c has an entry
//!   tails     [ 0 ][ 1 ][ 2 ][ 3 ] ...             the newest chunk of each class, or NO_CHUNK
//!                    |
//!   chunks    [ Entry x 1..=7 | before, len ]      64 bytes, one cache line; HEADER is the last word
//!                                  |
//!             [ Entry x 7     | before, len ]      every chunk but the newest of its class is full
//!                                  |
//!             NO_CHUNK
//!
//!   vacant    chunk -> chunk -> NO_CHUNK           vacant_count chunks of no class, linked by `before`
//!
//!   Entry     [ size: 32 bits ][ node: 32 bits ]
//!   Position  [ chunk: 28 bits ][ entry of the chunk: 3 bits ]      also stored in the free node
//! ```
//!
//! There are 16 classes for each power of two, at linear steps. An entry stores the size beside the node,
//! so a search compares up to seven candidates by reading one cache line and none of their nodes.
//!
//! A removed entry is replaced by the last entry of its class. This keeps the newest chunk of each class,
//! which a search reads, in the cache: the chunk of the removed entry is written but not read. A class
//! keeps its first chunk when its last region leaves, because whether it is needed again soon cannot be
//! predicted.

use std::hint::select_unpredictable;

use super::slab::{Entries, Far, Near, Slab};

const ENTRIES: u32 = 7;

/// The position of an entry: chunk number times 8 plus its place in the chunk; less than 2^31.
pub(super) type Position = u32;

/// Returns the class of regions of `size` bytes, 0 < `size` < 2^60: the exponent and the first four
/// digits of the size as a floating-point number. The conversion is faster than finding the highest bit
/// on processors without an instruction for it that a general build may use. Sizes above 2^53 are rounded
/// and may fall into the next class, but never below a smaller size.
#[inline(always)]
pub(super) fn class_of(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    class_of_bits((size as i64 as f64).to_bits())
}

/// Returns the first class in which every region has at least `size` bytes (exact up to 2^53).
#[inline(always)]
pub(super) fn class_at_least(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    class_of_bits((size as i64 as f64).to_bits() + ((1 << CLASS_SHIFT) - 1))
}

/// Shifts out all but sign, exponent and the first four digits of an `f64`.
const CLASS_SHIFT: u32 = 52 - 4;

#[inline(always)]
fn class_of_bits(bits: u64) -> usize {
    ((bits >> CLASS_SHIFT) as usize).wrapping_sub(1023 << 4)
}

/// One free region in the index: its size in the upper 32 bits, its node in the lower ones. Sizes of 4
/// GiB and more are stored as `u32::MAX`; the index does not search for the best fit among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    #[inline]
    fn new(size: u64, node: u32) -> Self {
        Self(size.min(u64::from(u32::MAX)) << 32 | u64::from(node))
    }

    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 != 0
    }

    pub fn node(self) -> u32 {
        self.0 as u32
    }

    /// Returns whether an entry stores such a size exactly.
    #[inline(always)]
    pub fn knows(size: u64) -> bool {
        size < u64::from(u32::MAX)
    }

    /// Returns the size in bytes; `None` if it is too large to be stored.
    #[inline(always)]
    pub fn size(self) -> Option<u64> {
        Some(self.0 >> 32).filter(|&size| Self::knows(size))
    }
}

/// Seven entries (0 where there is none) and a header. The header's upper 32 bits are the chunk before it
/// (or the next vacant one), the lower 32 bits the number of entries.
///
/// One array of eight words, so that any index masked to three bits is in bounds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Chunk([u64; 8]);

const HEADER: usize = 7;
/// The number of chunks stays below this limit, because a position has 31 bits.
const MAX_CHUNKS: u32 = 1 << 28;
/// The chunk of classes without chunks, and the `before` of the first chunk of a class. It has no entries
/// and counts as full.
const NO_CHUNK: u32 = 0;
/// A chunk that `insert_if` writes to when it inserts nothing; its entries are ignored.
const SCRATCH_CHUNK: u32 = 1;

impl Chunk {
    fn new(len: u32, before: u32) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, u64::from(before) << 32 | u64::from(len)])
    }

    fn len(&self) -> u32 {
        self.0[HEADER] as u32
    }

    fn before(&self) -> u32 {
        (self.0[HEADER] >> 32) as u32
    }

    fn entries(&self) -> &[u64] {
        &self.0[..self.len() as usize & 7]
    }

    /// The entry that came last. Without one, anything.
    #[inline(always)]
    fn last(&self) -> Entry {
        Entry(self.0[self.len().wrapping_sub(1) as usize & 7])
    }

    /// Takes it out; whether the class has none left, and whether the chunk has none but the class has.
    #[inline(always)]
    fn pop(&mut self) -> (bool, bool) {
        let header = self.0[HEADER];
        let left = (header as u32).wrapping_sub(1) & 7;
        self.0[left as usize] = 0;
        self.0[HEADER] = header.wrapping_sub(1);
        (header == 1, left == 0 && header != 1)
    }

    /// Puts an entry into a chunk that is not full, and gives its place. If it is not `there`, it is
    /// forgotten.
    #[inline(always)]
    fn push_if(&mut self, there: bool, entry: Entry) -> u32 {
        let header = self.0[HEADER];
        let at = header & 7;
        self.0[at as usize] = entry.0;
        self.0[HEADER] = header.wrapping_add(u64::from(there));
        at as u32
    }
}

const WORDS: usize = 16;
/// An upper bound of the number of classes.
pub(super) const CLASSES: usize = WORDS * 64;

/// A bitmap of the classes that have entries: bit c % 64 of word c / 64 is class c.
#[derive(Debug, Default)]
struct ClassBitmap([u64; WORDS]);

impl ClassBitmap {
    #[inline(always)]
    fn set_if(&mut self, filled: bool, class: usize) {
        self.0[class / 64 % WORDS] |= u64::from(filled) << (class % 64);
    }

    #[inline(always)]
    fn unset_if(&mut self, emptied: bool, class: usize) {
        self.0[class / 64 % WORDS] &= !(u64::from(emptied) << (class % 64));
    }

    /// Returns the first class with entries from `class` on; `CLASSES` if there is none.
    #[inline(always)]
    fn next(&self, class: usize) -> usize {
        let mut word = class / 64;
        let mut here = self.0.get(word).map_or(0, |it| it & (!0 << (class % 64)));
        while here == 0 {
            word += 1;
            match self.0.get(word) {
                Some(&it) => here = it,
                None => return CLASSES,
            }
        }
        word * 64 + here.trailing_zeros() as usize
    }
}

/// Chunks per row of the slab.
const ROW: usize = 4096;

/// Free regions by size class; the module documentation has a diagram.
#[derive(Debug)]
pub(super) struct Bins {
    tails: Vec<u32>,
    chunks: Slab<Chunk, ROW>,
    /// The first chunk that belongs to no class; these chunks are linked by `before`.
    vacant: u32,
    vacant_count: u32,
    bitmap: ClassBitmap,
}

impl Default for Bins {
    fn default() -> Self {
        let mut bins = Self {
            tails: Vec::new(),
            chunks: Slab::default(),
            vacant: NO_CHUNK,
            vacant_count: 0,
            bitmap: ClassBitmap::default(),
        };
        bins.clear();
        bins
    }
}

impl Bins {
    /// Makes room for the classes up to `class`; returns false if host memory is exhausted.
    #[must_use]
    pub fn try_reserve(&mut self, class: usize) -> bool {
        debug_assert!(class < CLASSES);
        if class >= self.tails.len() {
            if self.tails.try_reserve_exact(class + 1 - self.tails.len()).is_err() {
                return false;
            }
            self.tails.resize(class + 1, NO_CHUNK);
        }
        true
    }

    /// Returns the number of chunks, used and vacant.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Returns the number of classes that [`try_reserve`](Self::try_reserve) made room for.
    pub fn class_count(&self) -> usize {
        self.tails.len()
    }

    /// Removes all regions and keeps the memory.
    pub fn clear(&mut self) {
        self.tails.fill(NO_CHUNK);
        self.chunks.clear();
        // `NO_CHUNK` counts as full, so that an insertion takes a new chunk instead of writing to it.
        self.chunks.push(Chunk::new(ENTRIES, NO_CHUNK));
        self.chunks.push(Chunk::new(0, NO_CHUNK));
        (self.vacant, self.vacant_count) = (NO_CHUNK, 0);
        self.bitmap = ClassBitmap::default();
    }

    /// Returns whether `count` regions can be inserted without calling [`try_grow`](Self::try_grow).
    #[inline]
    pub fn has_room_for(&self, count: u32) -> bool {
        self.vacant_count >= count
    }

    /// Adds four vacant chunks; returns false if host memory is exhausted.
    #[cold]
    #[must_use]
    pub fn try_grow(&mut self) -> bool {
        if !self.chunks.try_reserve(4) {
            return false;
        }
        for _ in 0..4 {
            let index = self.chunks.len() as u32;
            assert!(index < MAX_CHUNKS, "fewer than 2^28 chunks of free regions");
            self.chunks.push(Chunk::new(0, self.vacant));
            self.vacant = index;
            self.vacant_count += 1;
        }
        true
    }

    /// Returns the index for modification while all chunks are in one row; `None` otherwise.
    #[inline(always)]
    pub fn near(&mut self) -> Option<View<'_, Near<'_, Chunk>>> {
        Some(View {
            tails: &mut self.tails,
            chunks: self.chunks.near()?,
            vacant: &mut self.vacant,
            vacant_count: &mut self.vacant_count,
            bitmap: &mut self.bitmap,
        })
    }

    /// Returns the index for modification with its chunks in several rows, after a conversion if needed.
    #[inline(always)]
    pub fn far(&mut self) -> View<'_, Far<'_, Chunk, ROW>> {
        View {
            tails: &mut self.tails,
            chunks: self.chunks.far(),
            vacant: &mut self.vacant,
            vacant_count: &mut self.vacant_count,
            bitmap: &mut self.bitmap,
        }
    }

    /// Returns the first class with entries from `class` on.
    pub fn next_used(&self, class: usize) -> Option<usize> {
        Some(self.bitmap.next(class)).filter(|&class| class < CLASSES)
    }

    /// Iterates over the chunks of a class, the newest first.
    fn chunks_of(&self, class: usize) -> impl Iterator<Item = (u32, &Chunk)> {
        let mut next = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        std::iter::from_fn(move || {
            let index = next;
            let chunk = self.chunks.get(index).filter(|_| index != NO_CHUNK)?;
            next = chunk.before();
            Some((index, chunk))
        })
    }

    /// Iterates over the entries of a class, the newest first.
    pub fn of_class(&self, class: usize) -> impl Iterator<Item = Entry> {
        self.chunks_of(class).flat_map(|(_, it)| it.entries().iter().rev().map(|&it| Entry(it)))
    }

    /// Returns positions and entries of a class, for consistency checks.
    pub fn positions_of_class(&self, class: usize) -> Vec<(Position, Entry)> {
        self.chunks_of(class)
            .flat_map(|(index, it)| {
                (0..).zip(it.entries()).map(move |(at, &it)| (index << 3 | at, Entry(it)))
            })
            .collect()
    }

    /// Returns whether the bitmap agrees with the classes and no chunk is lost.
    pub fn is_right(&self) -> bool {
        let mut chunks = 2 + self.vacant_count as usize;
        (0..CLASSES).all(|class| {
            chunks += self.chunks_of(class).count();
            let is_marked = self.bitmap.0[class / 64] >> (class % 64) & 1 == 1;
            is_marked == self.of_class(class).next().is_some()
        }) && chunks == self.chunks.len()
    }

    /// Returns whether an entry is that of a region of `size` bytes.
    pub fn agrees(entry: Entry, size: u64, node: u32) -> bool {
        entry == Entry::new(size, node)
    }

    pub fn bytes(&self) -> usize {
        self.tails.capacity() * size_of::<u32>() + self.chunks.bytes()
    }
}

/// The index while it is modified, with its chunks as one row or as several.
pub(super) struct View<'a, C> {
    tails: &'a mut [u32],
    chunks: C,
    vacant: &'a mut u32,
    vacant_count: &'a mut u32,
    bitmap: &'a mut ClassBitmap,
}

impl<C: Entries<Chunk>> View<'_, C> {
    /// Reborrows the index; see [`Entries::Again`].
    #[inline(always)]
    pub fn again(&mut self) -> View<'_, C::Again<'_>> {
        View {
            tails: self.tails,
            chunks: self.chunks.again(),
            vacant: self.vacant,
            vacant_count: self.vacant_count,
            bitmap: self.bitmap,
        }
    }

    /// Inserts a free region. There has to be room: see [`Bins::has_room_for`].
    #[inline(always)]
    pub fn insert(&mut self, class: usize, size: u64, node: u32) -> Position {
        self.insert_if(true, class, size, node)
    }

    /// Inserts a free region if `there` is true, else does nothing. Without a branch, because the
    /// condition cannot be predicted.
    #[inline(always)]
    pub fn insert_if(&mut self, there: bool, class: usize, size: u64, node: u32) -> Position {
        let tail = select_unpredictable(there, self.tails[class], SCRATCH_CHUNK);
        let (entry, chunk) = (Entry::new(size, node), &mut self.chunks[tail]);
        // One branch for both: no chunk, or a full one.
        if chunk.len() == ENTRIES {
            return self.again().insert_in_new_chunk(class, entry);
        }
        let at = chunk.push_if(there, entry);
        self.bitmap.set_if(there, class);
        tail << 3 | at
    }

    /// Inserts an entry into a new chunk of the class, whose newest one is full or missing.
    #[cold]
    #[inline(never)]
    fn insert_in_new_chunk(&mut self, class: usize, entry: Entry) -> Position {
        let (index, before) = (*self.vacant, self.tails[class]);
        assert!(index != NO_CHUNK, "room was made");
        let chunk = &mut self.chunks[index];
        *self.vacant = chunk.before();
        *self.vacant_count -= 1;
        *chunk = Chunk::new(0, before);
        let at = chunk.push_if(true, entry);
        self.tails[class] = index;
        self.bitmap.set_if(true, class);
        index << 3 | at
    }

    /// Removes the entry at `position`, moves the last entry of the class there and returns its node.
    #[inline(always)]
    #[must_use = "the node that moved has to learn its position"]
    pub fn remove(&mut self, class: usize, position: Position) -> u32 {
        let tail = self.tails[class];
        let last = self.chunks[tail].last();
        self.chunks[position >> 3].0[position as usize & 7] = last.0;
        // After the move, as both may be the same place.
        let (is_empty, is_pop) = self.chunks[tail].pop();
        self.note_removal(class, is_empty, is_pop);
        last.node()
    }

    /// Removes an entry as [`remove`](Self::remove) does, given that it is in the newest chunk of its class,
    /// which holds for every entry that a search returns.
    #[inline(always)]
    #[must_use = "the node that moved has to learn its position"]
    pub fn remove_newest(&mut self, class: usize, position: Position) -> u32 {
        let tail = self.tails[class];
        debug_assert_eq!(tail, position >> 3);
        let chunk = &mut self.chunks[tail];
        let last = chunk.last();
        chunk.0[position as usize & 7] = last.0;
        let (is_empty, is_pop) = chunk.pop();
        self.note_removal(class, is_empty, is_pop);
        last.node()
    }

    #[inline(always)]
    fn note_removal(&mut self, class: usize, is_empty: bool, is_pop: bool) {
        // Without a branch: which removal empties a class cannot be predicted.
        self.bitmap.unset_if(is_empty, class);
        if is_pop {
            self.again().pop_chunk(class);
        }
    }

    #[cold]
    #[inline(never)]
    fn pop_chunk(&mut self, class: usize) {
        let tail = self.tails[class];
        self.tails[class] = self.chunks[tail].before();
        self.chunks[tail] = Chunk::new(0, *self.vacant);
        *self.vacant = tail;
        *self.vacant_count += 1;
    }

    /// Returns an entry of the first non-empty class from `class` on, and that class; an empty entry if
    /// there is none.
    #[inline(always)]
    pub fn first_from(&self, class: usize) -> (Entry, usize) {
        let class = self.bitmap.next(class);
        let tail = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        (self.chunks[tail].last(), class)
    }

    /// Returns the smallest entry of at least `size` bytes in the newest chunk of a class; an empty entry
    /// if none is large enough. The index has to store `size` exactly.
    #[inline(always)]
    pub fn best_of_newest(&self, class: usize, size: u64) -> Entry {
        debug_assert!(Entry::knows(size));
        let tail = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        let least = size << 32;
        // Without a branch, because which entries fit cannot be predicted: an entry that is too small or
        // absent wraps around and becomes large. The minimum is taken in pairs to shorten the chain of
        // dependent instructions.
        let [a, b, c, d, e, f, g, _] = self.chunks[tail].0.map(|entry| entry.wrapping_sub(least));
        let over = a.min(b).min(c.min(d)).min(e.min(f).min(g));
        let best = over.wrapping_add(least);
        Entry(select_unpredictable(best >= least, best, 0))
    }
}
