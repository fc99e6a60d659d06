//! Free regions by size class, where any of them can leave at any time.
//!
//! ```text
//!   tails   [class 0] [class 1] [class 2] ...      the newest chunk of each class
//!                         |
//!   chunk   [size node] x 7, how many, the one before       64 bytes: one line of the cache
//! ```
//!
//! Classes are 16 linear steps of each power of two. An entry has the size beside the node, so that
//! several candidates are weighed by reading one line and none of their nodes. An entry that leaves
//! is replaced by the last one of its class, which keeps the ends of all classes, and with them what
//! a search reads, in the cache: the place that it leaves is written, but not read. A class keeps its
//! first chunk when its last region leaves: the next one is as likely as not to come soon, and nobody
//! can guess which it will be.

use std::hint::select_unpredictable;

use super::slab::{Entries, Far, Near, Slab};

const ENTRIES: u32 = 7;

/// Where an entry stands: its chunk times 8, and its place there; less than 2^31.
pub(super) type Position = u32;

/// The class of regions of `size` bytes, more than zero and less than 2^60: exponent and first four
/// digits of it as a floating-point number. To find the highest bit takes longer where the processor
/// has no instruction for it that can be relied on. Sizes that are rounded, those above 2^53, may come
/// to the class above, but never behind a smaller one.
#[inline(always)]
pub(super) fn class_of(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    class_of_bits((size as i64 as f64).to_bits())
}

/// The first class all of whose regions have at least `size` bytes, at least up to 2^53.
#[inline(always)]
pub(super) fn class_at_least(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    class_of_bits((size as i64 as f64).to_bits() + ((1 << CLASS_SHIFT) - 1))
}

/// Sign, exponent and four digits are left.
const CLASS_SHIFT: u32 = 52 - 4;

#[inline(always)]
fn class_of_bits(bits: u64) -> usize {
    ((bits >> CLASS_SHIFT) as usize).wrapping_sub(1023 << 4)
}

/// One free region as the index knows it: the size above, the node below. Sizes that do not fit into
/// 32 bits count as the largest that does: among regions of 4 GiB none is searched for the best.
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

    /// Whether the index knows such a size for what it is.
    #[inline(always)]
    pub fn knows(size: u64) -> bool {
        size < u64::from(u32::MAX)
    }

    /// `None` if it is larger than the index knows.
    #[inline(always)]
    pub fn size(self) -> Option<u64> {
        Some(self.0 >> 32).filter(|&size| Self::knows(size))
    }
}

/// Entries, 0 where there is none, and the header behind them: above the chunk before it, which is
/// the next vacant one if the chunk is vacant itself, below how many entries.
///
/// One array, and of a size that any three bits index.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Chunk([u64; 8]);

const HEADER: usize = 7;
/// Chunk numbers are below it, as positions are 31 bits.
const MOST_CHUNKS: u32 = 1 << 28;
/// The chunk of classes that have none: nothing is in it, nothing fits into it, and no chunk is
/// before the first one of a class.
const NO_CHUNK: u32 = 0;
/// The chunk for what is not put in: it has a place for it, and forgets it.
const NOT_THERE: u32 = 1;

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
/// More than any class.
pub(super) const CLASSES: usize = WORDS * 64;

/// Which classes have entries: bit c % 64 of word c / 64.
#[derive(Debug, Default)]
struct Marks([u64; WORDS]);

impl Marks {
    #[inline(always)]
    fn set_if(&mut self, filled: bool, class: usize) {
        self.0[class / 64 % WORDS] |= u64::from(filled) << (class % 64);
    }

    #[inline(always)]
    fn unset_if(&mut self, emptied: bool, class: usize) {
        self.0[class / 64 % WORDS] &= !(u64::from(emptied) << (class % 64));
    }

    /// The first class with entries, from `class` on; `CLASSES` if there is none.
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

/// So many chunks are in a row.
const ROW: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Bins {
    tails: Vec<u32>,
    chunks: Slab<Chunk, ROW>,
    /// The first one of those that are in no class; they are linked by `before`.
    vacant: u32,
    vacant_count: u32,
    marks: Marks,
}

impl Default for Bins {
    fn default() -> Self {
        let mut bins = Self {
            tails: Vec::new(),
            chunks: Slab::default(),
            vacant: NO_CHUNK,
            vacant_count: 0,
            marks: Marks::default(),
        };
        bins.clear();
        bins
    }
}

impl Bins {
    /// Makes room for the classes up to `class`; false without memory for that.
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

    /// How many chunks there are, in use or not.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// How many classes there can be.
    pub fn class_count(&self) -> usize {
        self.tails.len()
    }

    /// Takes all regions out.
    pub fn clear(&mut self) {
        self.tails.fill(NO_CHUNK);
        self.chunks.clear();
        // The first one says that it is full, so that nobody puts anything into it.
        self.chunks.push(Chunk::new(ENTRIES, NO_CHUNK));
        self.chunks.push(Chunk::new(0, NO_CHUNK));
        (self.vacant, self.vacant_count) = (NO_CHUNK, 0);
        self.marks = Marks::default();
    }

    /// Whether so many regions can be put in before [`try_grow`](Self::try_grow) has to be called.
    #[inline]
    pub fn has_room_for(&self, count: u32) -> bool {
        self.vacant_count >= count
    }

    /// Makes room for a few regions more; false without memory for that.
    #[cold]
    #[must_use]
    pub fn try_grow(&mut self) -> bool {
        if !self.chunks.try_reserve(4) {
            return false;
        }
        for _ in 0..4 {
            let index = self.chunks.len() as u32;
            assert!(index < MOST_CHUNKS, "fewer than 2^28 chunks of free regions");
            self.chunks.push(Chunk::new(0, self.vacant));
            self.vacant = index;
            self.vacant_count += 1;
        }
        true
    }

    /// For changes, while all chunks are in one row.
    #[inline(always)]
    pub fn near(&mut self) -> Option<View<'_, Near<'_, Chunk>>> {
        Some(View {
            tails: &mut self.tails,
            chunks: self.chunks.near()?,
            vacant: &mut self.vacant,
            vacant_count: &mut self.vacant_count,
            marks: &mut self.marks,
        })
    }

    /// For changes, with the chunks in several rows, as which they count from now on.
    #[inline(always)]
    pub fn far(&mut self) -> View<'_, Far<'_, Chunk, ROW>> {
        View {
            tails: &mut self.tails,
            chunks: self.chunks.far(),
            vacant: &mut self.vacant,
            vacant_count: &mut self.vacant_count,
            marks: &mut self.marks,
        }
    }

    /// The first class with entries, from `class` on.
    pub fn next_used(&self, class: usize) -> Option<usize> {
        Some(self.marks.next(class)).filter(|&class| class < CLASSES)
    }

    /// The chunks of a class, the newest first.
    fn chunks_of(&self, class: usize) -> impl Iterator<Item = (u32, &Chunk)> {
        let mut next = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        std::iter::from_fn(move || {
            let index = next;
            let chunk = self.chunks.get(index).filter(|_| index != NO_CHUNK)?;
            next = chunk.before();
            Some((index, chunk))
        })
    }

    /// The regions of a class, the newest ones first.
    pub fn of_class(&self, class: usize) -> impl Iterator<Item = Entry> {
        self.chunks_of(class).flat_map(|(_, it)| it.entries().iter().rev().map(|&it| Entry(it)))
    }

    /// Positions beside the regions, for checks.
    pub fn positions_of_class(&self, class: usize) -> Vec<(Position, Entry)> {
        self.chunks_of(class)
            .flat_map(|(index, it)| {
                (0..).zip(it.entries()).map(move |(at, &it)| (index << 3 | at, Entry(it)))
            })
            .collect()
    }

    /// Whether every class is marked as it is, and all chunks are there.
    pub fn is_right(&self) -> bool {
        let mut chunks = 2 + self.vacant_count as usize;
        (0..CLASSES).all(|class| {
            chunks += self.chunks_of(class).count();
            let is_marked = self.marks.0[class / 64] >> (class % 64) & 1 == 1;
            is_marked == self.of_class(class).next().is_some()
        }) && chunks == self.chunks.len()
    }

    /// Whether an entry says so of a region.
    pub fn agrees(entry: Entry, size: u64, node: u32) -> bool {
        entry == Entry::new(size, node)
    }

    pub fn bytes(&self) -> usize {
        self.tails.capacity() * size_of::<u32>() + self.chunks.bytes()
    }
}

/// The index while it is changed.
pub(super) struct View<'a, C> {
    tails: &'a mut [u32],
    chunks: C,
    vacant: &'a mut u32,
    vacant_count: &'a mut u32,
    marks: &'a mut Marks,
}

impl<C: Entries<Chunk>> View<'_, C> {
    /// See [`Entries::Again`].
    #[inline(always)]
    pub fn again(&mut self) -> View<'_, C::Again<'_>> {
        View {
            tails: self.tails,
            chunks: self.chunks.again(),
            vacant: self.vacant,
            vacant_count: self.vacant_count,
            marks: self.marks,
        }
    }

    /// Puts a free region in. There has to be room for it.
    #[inline(always)]
    pub fn insert(&mut self, class: usize, size: u64, node: u32) -> Position {
        self.insert_if(true, class, size, node)
    }

    /// The same, or nothing: without a branch, for what nobody can guess.
    #[inline(always)]
    pub fn insert_if(&mut self, there: bool, class: usize, size: u64, node: u32) -> Position {
        let tail = select_unpredictable(there, self.tails[class], NOT_THERE);
        let (entry, chunk) = (Entry::new(size, node), &mut self.chunks[tail]);
        // One branch for both: no chunk, or a full one.
        if chunk.len() == ENTRIES {
            return self.again().insert_in_new_chunk(class, entry);
        }
        let at = chunk.push_if(there, entry);
        self.marks.set_if(there, class);
        tail << 3 | at
    }

    /// The same, for certain, where the newest chunk of the class is full.
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
        self.marks.set_if(true, class);
        index << 3 | at
    }

    /// Takes a region out. The last one of the class comes to its position, and is returned.
    #[inline(always)]
    #[must_use = "the node that moved has to learn its position"]
    pub fn remove(&mut self, class: usize, position: Position) -> u32 {
        let tail = self.tails[class];
        let last = self.chunks[tail].last();
        self.chunks[position >> 3].0[position as usize & 7] = last.0;
        // After that, as it may be the same place.
        let (is_empty, is_pop) = self.chunks[tail].pop();
        self.note_removal(class, is_empty, is_pop);
        last.node()
    }

    /// The same of a region that stands in the newest chunk of its class, as all do that a search finds.
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
        // Without a branch, as nobody can guess which removal is the last one of a class.
        self.marks.unset_if(is_empty, class);
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

    /// A region of the first class with some, from `class` on, and that class; nothing if there is none.
    #[inline(always)]
    pub fn first_from(&self, class: usize) -> (Entry, usize) {
        let class = self.marks.next(class);
        let tail = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        (self.chunks[tail].last(), class)
    }

    /// The smallest of the newest few regions of a class that has at least `size` bytes, which the
    /// index has to know; nothing if none has.
    #[inline(always)]
    pub fn best_of_newest(&self, class: usize, size: u64) -> Entry {
        debug_assert!(Entry::knows(size));
        let tail = self.tails.get(class).copied().unwrap_or(NO_CHUNK);
        let least = size << 32;
        // Which of them fit is anybody's guess, so no branch asks: what is too small, or not there,
        // wraps around and comes out large. In pairs, so that they do not wait for each other.
        let [a, b, c, d, e, f, g, _] = self.chunks[tail].0.map(|entry| entry.wrapping_sub(least));
        let over = a.min(b).min(c.min(d)).min(e.min(f).min(g));
        let best = over.wrapping_add(least);
        Entry(select_unpredictable(best >= least, best, 0))
    }
}
