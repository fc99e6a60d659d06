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
//! a search reads, in the cache. A class keeps its first chunk when its last region leaves: the next
//! one is as likely as not to come soon, and nobody can guess which it will be.

use super::region::NONE;
use super::slab::Slab;

const ENTRIES: u32 = 7;

/// Where an entry stands: its chunk times 8, and its place there.
pub(super) type Position = u32;

/// One power of two has so many classes, as a power of two.
const STEPS_LOG2: u32 = 4;

/// The class of regions of `size` bytes, more than zero and less than 2^60.
#[inline]
pub(super) fn class_of(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    class_of_scaled(size << STEPS_LOG2)
}

/// The first class all of whose regions have at least `size` bytes.
#[inline]
pub(super) fn class_at_least(size: u64) -> usize {
    debug_assert!(size > 0 && size >> 60 == 0);
    let step = 1u64 << (size | 1).ilog2();
    class_of_scaled((size << STEPS_LOG2).saturating_add(step - 1))
}

/// Of a size times 16: so the smallest need no case of their own, as their steps are fractions.
#[inline]
fn class_of_scaled(scaled: u64) -> usize {
    let step = 59u32.wrapping_sub((scaled | 1).leading_zeros());
    // Nothing wraps, as a scaled size has five bits or more.
    ((step as usize) << STEPS_LOG2).wrapping_add((scaled >> (step & 63)) as usize).wrapping_sub(16)
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

    pub fn node(self) -> u32 {
        self.0 as u32
    }
}

/// Entries, 0 where there is none, and the header behind them: above the chunk before it, which is
/// the next vacant one if the chunk is vacant itself, below how many entries.
///
/// One array, and of a size that any three bits index.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Chunk([u64; 8]);

const HEADER: usize = 7;
/// The header of the only chunk of a class, with one entry.
const LAST_OF_ITS_CLASS: u64 = (NONE as u64) << 32 | 1;

impl Chunk {
    fn empty(before: u32) -> Self {
        let mut chunk = [0; 8];
        chunk[HEADER] = u64::from(before) << 32;
        Self(chunk)
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
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bins {
    tails: Vec<u32>,
    chunks: Slab<Chunk, 2048, 64>,
    vacant: u32,
    /// Bit c % 64 of word c / 64: class c has entries.
    used: [u64; WORDS],
    /// Bit w: word w is not zero.
    used_words: u32,
}

const WORDS: usize = 16;
/// More than any class.
pub(super) const CLASSES: usize = WORDS * 64;

impl Default for Bins {
    fn default() -> Self {
        Self {
            tails: Vec::new(),
            chunks: Slab::default(),
            vacant: NONE,
            used: [0; WORDS],
            used_words: 0,
        }
    }
}

impl Bins {
    /// Makes room for the classes up to `class`.
    pub fn reserve(&mut self, class: usize) {
        debug_assert!(class < CLASSES);
        if class >= self.tails.len() {
            self.tails.reserve_exact(class + 1 - self.tails.len());
            self.tails.resize(class + 1, NONE);
        }
    }

    /// Takes all regions out.
    pub fn clear(&mut self) {
        self.tails.fill(NONE);
        self.chunks.clear();
        self.vacant = NONE;
        (self.used, self.used_words) = ([0; WORDS], 0);
    }

    /// Puts a free region in.
    #[inline(always)]
    pub fn insert(&mut self, class: usize, size: u64, node: u32) -> Position {
        let mut tail = self.tails[class];
        // One branch for both: no chunk, or a full one.
        if self.chunks.get(tail).is_none_or(|chunk| chunk.len() == ENTRIES) {
            tail = self.push_chunk(class, tail);
        }
        let chunk = &mut self.chunks[tail].0;
        let header = chunk[HEADER];
        let at = header as u32 & 7;
        chunk[at as usize] = Entry::new(size, node).0;
        chunk[HEADER] = header.wrapping_add(1);
        self.used[class / 64 % WORDS] |= 1 << (class % 64);
        self.used_words |= 1 << (class / 64 % WORDS);
        tail << 3 | at
    }

    #[cold]
    #[inline(never)]
    fn push_chunk(&mut self, class: usize, before: u32) -> u32 {
        let made = Chunk::empty(before);
        let index = if self.vacant == NONE {
            let index = self.chunks.len() as u32;
            // Positions are 32 bits.
            assert!(index < NONE >> 3, "fewer than 2^28 chunks of free regions");
            self.chunks.push(made);
            index
        } else {
            let index = self.vacant;
            let chunk = &mut self.chunks[index];
            self.vacant = chunk.before();
            *chunk = made;
            index
        };
        self.tails[class] = index;
        index
    }

    /// Takes a region out. The last one of the class comes to its position, and is returned.
    #[inline(always)]
    #[must_use = "the node that moved has to learn its position"]
    pub fn remove(&mut self, class: usize, position: Position) -> u32 {
        let tail = self.tails[class];
        let header = self.chunks[tail].0[HEADER];
        let left = (header as u32).wrapping_sub(1) & 7;
        let last = self.chunks[tail].0[left as usize];
        self.chunks[position >> 3].0[position as usize & 7] = last;
        // After that, as it may be the same place.
        let chunk = &mut self.chunks[tail].0;
        chunk[left as usize] = 0;
        chunk[HEADER] = header.wrapping_sub(1);
        // Without a branch, as nobody can guess which removal is the last one of a class.
        let emptied = u64::from(header == LAST_OF_ITS_CLASS);
        let used = &mut self.used[class / 64 % WORDS];
        *used &= !(emptied << (class % 64));
        if *used == 0 {
            self.used_words &= !(1 << (class / 64 % WORDS));
        }
        if left == 0 && emptied == 0 {
            self.pop_chunk(class, tail);
        }
        last as u32
    }

    #[cold]
    #[inline(never)]
    fn pop_chunk(&mut self, class: usize, tail: u32) {
        let before = self.chunks[tail].before();
        self.chunks[tail] = Chunk::empty(self.vacant);
        self.vacant = tail;
        self.tails[class] = before;
    }

    /// Changes the size of a region that stays in its class.
    #[inline(always)]
    pub fn resize(&mut self, position: Position, size: u64) {
        let entry = &mut self.chunks[position >> 3].0[position as usize & 7];
        *entry = Entry::new(size, *entry as u32).0;
    }

    /// The first class with entries, from `class` on.
    #[inline]
    pub fn next_used(&self, class: usize) -> Option<usize> {
        let word = class / 64;
        if word >= WORDS {
            return None;
        }
        let here = self.used[word] & (!0 << (class % 64));
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let above = self.used_words & (!0 << word << 1);
        if above == 0 {
            return None;
        }
        let word = above.trailing_zeros() as usize % WORDS;
        Some(word * 64 + self.used[word].trailing_zeros() as usize)
    }

    /// The newest region of a class with entries.
    #[inline]
    pub fn newest(&self, class: usize) -> u32 {
        let chunk = &self.chunks[self.tails[class]];
        chunk.0[chunk.len().wrapping_sub(1) as usize & 7] as u32
    }

    /// The smallest of the newest few regions of a class that has at least `size` bytes; `NONE` if
    /// none has.
    #[inline(always)]
    pub fn best_of_newest(&self, class: usize, size: u64) -> u32 {
        let tail = self.tails.get(class).copied().unwrap_or(NONE);
        let Some(chunk) = self.chunks.get(tail) else { return NONE };
        let least = size.min(u64::from(u32::MAX)) << 32;
        // Which of them fit is anybody's guess, so no branch asks: what is too small, or not there,
        // wraps around and comes out large. In pairs, so that they do not wait for each other.
        let [a, b, c, d, e, f, g, _] = chunk.0.map(|entry| entry.wrapping_sub(least));
        let over = a.min(b).min(c.min(d)).min(e.min(f).min(g));
        over.checked_add(least).map_or(NONE, |best| best as u32)
    }

    /// The chunks of a class, the newest first.
    fn chunks_of(&self, class: usize) -> impl Iterator<Item = (u32, &Chunk)> {
        let mut next = self.tails.get(class).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let index = next;
            let chunk = self.chunks.get(index)?;
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

    /// Whether every class is marked as it is.
    pub fn marks_are_right(&self) -> bool {
        let used = |class: usize| self.used[class / 64] >> (class % 64) & 1 == 1;
        let has = |class: usize| self.of_class(class).next().is_some();
        let word = |word: usize| (self.used_words >> word & 1 == 1) == (self.used[word] != 0);
        (0..CLASSES).all(|class| used(class) == has(class)) && (0..WORDS).all(word)
    }

    /// Whether an entry says so of a region.
    pub fn agrees(entry: Entry, size: u64, node: u32) -> bool {
        entry == Entry::new(size, node)
    }

    pub fn bytes(&self) -> usize {
        self.tails.capacity() * size_of::<u32>() + self.chunks.bytes()
    }
}
