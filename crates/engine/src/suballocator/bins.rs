//! Free regions by size class, where any of them can leave at any time.
//!
//! ```text
//!   tails   [class 0] [class 1] [class 2] ...      the newest chunk of each class
//!                         |
//!   chunk   [size node] x 7, how many, the one before       64 bytes: one line of the cache
//! ```
//!
//! An entry has the size beside the node, so that several candidates are weighed by reading one line
//! and none of their nodes. An entry that leaves is replaced by the last one of its class, which
//! keeps the ends of all classes, and with them what a search reads, in the cache.

use super::region::NONE;

const ENTRIES: usize = 7;

/// Where an entry stands: its chunk times 8, and its place there.
pub(super) type Position = u32;

/// One free region as the index knows it: the size above, the node below.
///
/// Of a size of more than 32 bits only the upper 32 are kept, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    fn new(size: u64, node: u32) -> Self {
        Self((size >> shift(size)) << 32 | u64::from(node))
    }

    pub fn node(self) -> u32 {
        self.0 as u32
    }
}

/// What an entry leaves out of sizes with as many bits as this one.
fn shift(size: u64) -> u32 {
    if size >> 32 == 0 { 0 } else { size.ilog2() - 31 }
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Chunk {
    /// 0 from `len` on.
    entries: [u64; ENTRIES],
    /// Older entries of the class; the next vacant chunk when it is vacant itself.
    before: u32,
    len: u32,
}

const EMPTY: Chunk = Chunk { entries: [0; ENTRIES], before: NONE, len: 0 };

/// See the module. Classes are numbers; which sizes they stand for is the caller's business, but all
/// sizes of a class have the same number of bits.
#[derive(Debug)]
pub(super) struct Bins {
    tails: Vec<u32>,
    chunks: Vec<Chunk>,
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
            chunks: Vec::new(),
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

    /// Puts a free region in.
    #[inline]
    pub fn insert(&mut self, class: usize, size: u64, node: u32) -> Position {
        let mut tail = self.tails[class];
        if tail == NONE || self.chunks[tail as usize].len as usize == ENTRIES {
            tail = self.push_chunk(class, tail);
        }
        let chunk = &mut self.chunks[tail as usize];
        let at = chunk.len;
        chunk.entries[at as usize & 7] = Entry::new(size, node).0;
        chunk.len = at + 1;
        tail << 3 | at
    }

    #[inline(never)]
    fn push_chunk(&mut self, class: usize, before: u32) -> u32 {
        let made = Chunk { before, ..EMPTY };
        let index = if self.vacant == NONE {
            let index = self.chunks.len() as u32;
            // Positions are 32 bits.
            assert!(index < NONE >> 3, "fewer than 2^29 chunks of free regions");
            super::region::grow_gently(&mut self.chunks);
            self.chunks.push(made);
            index
        } else {
            let index = self.vacant;
            let chunk = &mut self.chunks[index as usize];
            self.vacant = chunk.before;
            *chunk = made;
            index
        };
        self.tails[class] = index;
        self.used[class / 64] |= 1 << (class % 64);
        self.used_words |= 1 << (class / 64);
        index
    }

    /// Takes a region out. The last one of the class comes to its position, and is returned.
    #[inline]
    #[must_use = "the node that moved has to learn its position"]
    pub fn remove(&mut self, class: usize, position: Position) -> u32 {
        let tail = self.tails[class];
        let chunk = &self.chunks[tail as usize];
        let left = chunk.len - 1;
        let last = chunk.entries[left as usize & 7];
        self.chunks[(position >> 3) as usize].entries[position as usize & 7] = last;
        let chunk = &mut self.chunks[tail as usize];
        chunk.entries[left as usize & 7] = 0;
        chunk.len = left;
        if left == 0 {
            self.pop_chunk(class, tail);
        }
        last as u32
    }

    #[inline(never)]
    fn pop_chunk(&mut self, class: usize, tail: u32) {
        let chunk = &mut self.chunks[tail as usize];
        let before = chunk.before;
        chunk.before = self.vacant;
        self.vacant = tail;
        self.tails[class] = before;
        if before == NONE {
            self.used[class / 64] &= !(1 << (class % 64));
            if self.used[class / 64] == 0 {
                self.used_words &= !(1 << (class / 64));
            }
        }
    }

    /// Changes the size of a region that stays in its class.
    #[inline]
    pub fn resize(&mut self, position: Position, size: u64) {
        let entry = &mut self.chunks[(position >> 3) as usize].entries[position as usize & 7];
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
        let word = above.trailing_zeros() as usize;
        Some(word * 64 + self.used[word].trailing_zeros() as usize)
    }

    /// The newest region of a class with entries.
    #[inline]
    pub fn newest(&self, class: usize) -> u32 {
        let chunk = &self.chunks[self.tails[class] as usize];
        chunk.entries[(chunk.len as usize).wrapping_sub(1) & 7] as u32
    }

    /// The smallest of the newest few regions of a class that has at least `size` bytes.
    #[inline]
    pub fn best_of_newest(&self, class: usize, size: u64) -> Option<u32> {
        let tail = self.tails.get(class).copied().filter(|&tail| tail != NONE)?;
        let chunk = &self.chunks[tail as usize];
        let shift = shift(size);
        // Rounded up: an entry is rounded down.
        let least = (size.saturating_sub(1) >> shift) + 1;
        let least = if least >> 32 == 0 { least << 32 } else { return None };
        // Which of them fit is anybody's guess, so no branch asks: what is too small, or not there,
        // wraps around and comes out large.
        let over = chunk.entries.iter().map(|entry| entry.wrapping_sub(least)).min()?;
        over.checked_add(least).map(|best| best as u32)
    }

    /// The regions of a class, the newest ones first.
    pub fn of_class(&self, class: usize) -> impl Iterator<Item = Entry> {
        let mut chunk = self.tails.get(class).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            (chunk != NONE).then(|| {
                let it = &self.chunks[chunk as usize];
                chunk = it.before;
                it.entries[..it.len as usize].iter().rev().map(|&entry| Entry(entry))
            })
        })
        .flatten()
    }

    /// Positions beside the regions, for checks.
    pub fn positions_of_class(&self, class: usize) -> Vec<(Position, Entry)> {
        let mut all = Vec::new();
        let mut index = self.tails.get(class).copied().unwrap_or(NONE);
        while index != NONE {
            let chunk = &self.chunks[index as usize];
            let places =
                (0..chunk.len).map(|at| (index << 3 | at, Entry(chunk.entries[at as usize])));
            all.extend(places);
            index = chunk.before;
        }
        all
    }

    /// Whether every class is marked as it is.
    pub fn marks_are_right(&self) -> bool {
        let used = |class: usize| self.used[class / 64] >> (class % 64) & 1 == 1;
        let has = |class: usize| self.tails.get(class).is_some_and(|&tail| tail != NONE);
        let word = |word: usize| (self.used_words >> word & 1 == 1) == (self.used[word] != 0);
        (0..CLASSES).all(|class| used(class) == has(class)) && (0..WORDS).all(word)
    }

    /// Whether an entry says so of a region.
    pub fn agrees(entry: Entry, size: u64, node: u32) -> bool {
        entry == Entry::new(size, node)
    }

    pub fn bytes(&self) -> usize {
        self.tails.capacity() * size_of::<u32>() + self.chunks.capacity() * size_of::<Chunk>()
    }
}
