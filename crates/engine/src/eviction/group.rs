//! [`Group`]: the evictable allocations of one pool, in its blocks or with memory of their own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use super::host_memory::{collect, push};
use super::rule::{Priority, Rule};
use super::stamps::{CHUNK, Chunk, Clock, Stamp, State};
use crate::error::Error;
use crate::handle::{Allocation, AllocationId, PoolKey, SlotKey};
use crate::lock::{Mutex, MutexGuard, rank};
use crate::recording::{RecorderSlot, Told, is_active};

const NO_ROOM: Error = Error::NoHostMemory("an evictable allocation");
/// The record of a region that is not evictable.
const NONE: u32 = u32::MAX;
/// Bounds that a walk corrects once it knows whom it could return: others are left to later frames and walks.
const MOST_CORRECTED: u32 = 32;

/// What a group belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub pool: PoolKey,
    /// Whether it has the dedicated allocations of the pool, or those in its blocks.
    pub dedicated: bool,
}

impl GroupKey {
    pub fn of(id: AllocationId) -> Self {
        Self { pool: id.pool_key(), dedicated: id.is_dedicated() }
    }
}

/// An evictable allocation as a search found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub record: u32,
    pub id: AllocationId,
    pub stamp: Stamp,
    pub priority: Priority,
}

impl Mark {
    /// Returns what decides who goes first: the priority, then the age.
    pub fn rank(&self) -> (Priority, u64) {
        (self.priority, self.stamp.frame())
    }
}

/// Allocations that a request must not take, because they were refused or could not be freed.
pub(super) type Spared = HashSet<AllocationId>;

/// Numbers of evictable and of lost allocations and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub evictable: (u64, u64),
    pub lost: (u64, u64),
    pub losses: (u64, u64),
}

/// An allocation of the group; `None`: vacant.
#[derive(Clone, Copy)]
pub(super) struct Record {
    id: Option<AllocationId>,
    size: u64,
}

/// The chunks of one priority.
#[derive(Default)]
struct Class {
    /// A lower bound of the frames of the live stamps of each chunk, and its number.
    bounds: BinaryHeap<Reverse<(u64, u32)>>,
    vacant: Vec<u32>,
}

/// The records of a group.
#[derive(Default)]
pub(super) struct Records {
    chunks: Vec<(Arc<Chunk>, Priority)>,
    records: Vec<Record>,
    /// In ascending order of their priority, of which there are 256.
    classes: Vec<(Priority, Class)>,
    /// The record of each region or dedicated allocation, by its slot.
    by_slot: Vec<u32>,
    pub counts: Counts,
}

/// The evictable allocations of one pool, in its blocks or with memory of their own.
pub(super) struct Group {
    pub key: GroupKey,
    pub memory_type_index: u32,
    pub heap: u32,
    /// Frames after its last use in which an allocation cannot be lost.
    pub frames_in_use: u64,
    clock: Arc<Clock>,
    /// Not the ledger that has it: what is evictable may outlive the allocator.
    recorder: Arc<RecorderSlot>,
    records: Mutex<Records, rank::Evictables>,
}

impl Group {
    pub fn new(
        key: GroupKey,
        (memory_type_index, heap): (u32, u32),
        frames_in_use: u64,
        clock: &Arc<Clock>,
        recorder: &Arc<RecorderSlot>,
    ) -> Self {
        let (clock, recorder, records) = (clock.clone(), recorder.clone(), Mutex::default());
        Self { key, memory_type_index, heap, frames_in_use, clock, recorder, records }
    }

    pub fn lock(&self) -> MutexGuard<'_, Records, rank::Evictables> {
        self.records.lock()
    }

    /// Adds an allocation, used in the current frame; returns its chunk and its record.
    pub fn add(
        &self,
        id: AllocationId,
        size: u64,
        priority: Priority,
    ) -> Result<(Arc<Chunk>, u32), Error> {
        let mut records = self.lock();
        records.reserve(id.key, priority, &self.clock)?;
        let class = records.class(priority).expect("it was reserved");
        let record = class.vacant.pop().expect("room was reserved");
        records.records[record as usize] = Record { id: Some(id), size };
        records.by_slot[id.key.index() as usize] = record;
        records.counts.evictable.0 += 1;
        records.counts.evictable.1 += size;
        let chunk = records.chunks[record as usize / CHUNK].0.clone();
        chunk.begin(record as usize % CHUNK, &self.clock);
        Ok((chunk, record))
    }

    /// Returns the clock, for touches.
    pub fn clock(&self) -> Arc<Clock> {
        self.clock.clone()
    }

    /// Removes an allocation; returns whether it was lost.
    pub fn end(&self, chunk: &Chunk, record: u32) -> bool {
        loop {
            // Before the lock: an eviction that has claimed it may need the lock to decide.
            chunk.decided(record as usize % CHUNK);
            let mut records = self.lock();
            if chunk.get(record as usize % CHUNK).state() == State::Claimed {
                continue;
            }
            let lost = chunk.end(record as usize % CHUNK);
            if is_active() {
                let told = if lost { Told::EndLost } else { Told::EndEvictable };
                self.tell_of(&records, record, told);
            }
            records.remove(record, lost);
            return lost;
        }
    }

    /// Tells who records the allocator of the first use of an allocation in a frame.
    #[cold]
    pub fn tell_use(&self, record: u32) {
        if self.recorder.is_set() {
            self.tell_of(&self.lock(), record, Told::Touch);
        }
    }

    /// Tells who records the allocator of allocations that are about to be lost. The caller has claimed them.
    #[cold]
    pub fn tell_losses(&self, marks: &[Mark]) {
        if let Some(ids) = collect(marks.iter().map(|mark| mark.id)) {
            self.recorder.tell_now(&Told::Lose(&ids));
        }
    }

    /// Tells who records the allocator of a move that makes room, which has just taken effect.
    #[cold]
    pub fn tell_move(&self, source: AllocationId, destination: &Allocation) {
        self.recorder.tell(&Told::MoveForRoom(source, destination));
    }

    /// Tells who records the allocator something else that happens while room is made.
    #[cold]
    pub fn tell_room(&self, told: &Told<'_>) {
        self.recorder.tell_now(told);
    }

    fn tell_of(&self, records: &Records, record: u32, told: fn(AllocationId) -> Told<'static>) {
        if let Some(id) = records.records[record as usize].id {
            self.recorder.tell_now(&told(id));
        }
    }

    /// Notes that an allocation moved within its pool; false if it is lost.
    pub fn relocate(&self, chunk: &Chunk, record: u32, to: AllocationId) -> Result<bool, Error> {
        loop {
            let stamp = chunk.decided(record as usize % CHUNK);
            if !stamp.is_live() {
                return Ok(false);
            }
            let mut records = self.lock();
            if !chunk.get(record as usize % CHUNK).is_live() {
                continue;
            }
            records.reserve_slot(to.key)?;
            records.forget_slot(record);
            records.records[record as usize].id = Some(to);
            records.by_slot[to.key.index() as usize] = record;
            return Ok(true);
        }
    }
}

fn class_of(classes: &mut [(Priority, Class)], priority: Priority) -> Option<&mut Class> {
    let place = classes.binary_search_by_key(&priority, |it| it.0).ok()?;
    Some(&mut classes[place].1)
}

impl Records {
    fn class(&mut self, priority: Priority) -> Option<&mut Class> {
        class_of(&mut self.classes, priority)
    }

    fn reserve_slot(&mut self, key: SlotKey) -> Result<(), Error> {
        let slots = key.index() as usize + 1;
        if slots > self.by_slot.len() {
            self.by_slot.try_reserve(slots - self.by_slot.len()).map_err(|_| NO_ROOM)?;
            // Up to the capacity, so that it is not filled step by step.
            self.by_slot.resize(self.by_slot.capacity().min(slots.next_power_of_two()), NONE);
        }
        Ok(())
    }

    fn reserve(
        &mut self,
        key: SlotKey,
        priority: Priority,
        clock: &Arc<Clock>,
    ) -> Result<(), Error> {
        self.reserve_slot(key)?;
        let place = match self.classes.binary_search_by_key(&priority, |it| it.0) {
            Ok(place) => place,
            Err(place) => {
                self.classes.try_reserve(1).map_err(|_| NO_ROOM)?;
                self.classes.insert(place, (priority, Class::default()));
                place
            }
        };
        let class = &mut self.classes[place].1;
        if !class.vacant.is_empty() {
            return Ok(());
        }
        let (number, first) = (self.chunks.len() as u32, self.records.len() as u32);
        let reserved = self.chunks.try_reserve(1).is_ok()
            && self.records.try_reserve(CHUNK).is_ok()
            && class.bounds.try_reserve(1).is_ok()
            // All of them may be vacant at once.
            && class.vacant.try_reserve((class.bounds.len() + 1) * CHUNK).is_ok()
            // An `Arc` cannot be allocated fallibly, so whether there is as much memory is tried right before.
            && Vec::<Chunk>::new().try_reserve_exact(2).is_ok();
        if !reserved {
            return Err(NO_ROOM);
        }
        self.chunks.push((Arc::new(Chunk::new()), priority));
        self.records.resize(first as usize + CHUNK, Record { id: None, size: 0 });
        class.bounds.push(Reverse((clock.frame(), number)));
        class.vacant.extend((first..first + CHUNK as u32).rev());
        Ok(())
    }

    /// Makes a region's slot lead to no record.
    fn forget_slot(&mut self, record: u32) {
        let Some(id) = self.records[record as usize].id else { return };
        let slot = &mut self.by_slot[id.key.index() as usize];
        if *slot == record {
            *slot = NONE;
        }
    }

    fn remove(&mut self, record: u32, lost: bool) {
        if !lost {
            self.forget_slot(record);
        }
        let Record { size, .. } = self.records[record as usize];
        let count = if lost { &mut self.counts.lost } else { &mut self.counts.evictable };
        *count = (count.0 - 1, count.1 - size);
        self.records[record as usize].id = None;
        let priority = self.chunks[record as usize / CHUNK].1;
        if let Some(class) = self.class(priority) {
            class.vacant.push(record);
        }
    }

    fn mark(&self, record: u32) -> Option<Mark> {
        let id = self.records[record as usize].id?;
        let (chunk, priority) = &self.chunks[record as usize / CHUNK];
        let stamp = chunk.get(record as usize % CHUNK);
        Some(Mark { record, id, stamp, priority: *priority })
    }

    /// Returns the allocation in a slot if it may be taken away. O(1).
    pub fn eligible(&self, key: SlotKey, rule: &Rule, spared: &Spared) -> Option<Mark> {
        let record = *self.by_slot.get(key.index() as usize)?;
        if record == NONE {
            return None;
        }
        let mark = self.mark(record)?;
        let is_spared = !spared.is_empty() && spared.contains(&mark.id);
        (mark.id.key == key && rule.allows(mark.stamp, mark.priority) && !is_spared).then_some(mark)
    }

    /// Returns the requested bytes of these.
    pub fn bytes(&self, marks: &[Mark]) -> u64 {
        marks.iter().map(|mark| self.records[mark.record as usize].size).sum()
    }

    /// Claims all of these; false, and none claimed, if one is not as it was seen.
    pub fn claim(&self, marks: &[Mark]) -> bool {
        for (at, mark) in marks.iter().enumerate() {
            let (chunk, _) = &self.chunks[mark.record as usize / CHUNK];
            let is_same = self.records[mark.record as usize].id == Some(mark.id);
            if !is_same || !chunk.claim(mark.record as usize % CHUNK, mark.stamp) {
                self.unclaim(&marks[..at]);
                return false;
            }
        }
        true
    }

    /// Gives up a claim.
    pub fn unclaim(&self, marks: &[Mark]) {
        for mark in marks {
            let (chunk, _) = &self.chunks[mark.record as usize / CHUNK];
            chunk.decide(mark.record as usize % CHUNK, false);
        }
    }

    /// Marks what was claimed as lost.
    pub fn lose(&mut self, marks: &[Mark]) {
        for mark in marks {
            let size = self.records[mark.record as usize].size;
            self.forget_slot(mark.record);
            let counts = &mut self.counts;
            counts.evictable = (counts.evictable.0 - 1, counts.evictable.1 - size);
            counts.lost = (counts.lost.0 + 1, counts.lost.1 + size);
            counts.losses = (counts.losses.0 + 1, counts.losses.1 + size);
            let (chunk, _) = &self.chunks[mark.record as usize / CHUNK];
            chunk.decide(mark.record as usize % CHUNK, true);
        }
    }

    /// Raises the lowest bounds to what they bound, up to `most`; returns how many were looked at.
    pub fn correct_bounds(&mut self, frame: u64, most: usize) -> usize {
        let Self { chunks, classes, .. } = self;
        let mut looked = 0;
        for (_, class) in classes {
            while looked < most
                && let Some(mut lowest) = class.bounds.peek_mut()
            {
                let Reverse((bound, number)) = *lowest;
                let found = chunks[number as usize].0.lowest_after(None);
                // Without live ones: later ones are used in this frame or after it.
                let now = found.map_or(frame, |(frame, _)| frame).max(bound);
                looked += 1;
                if now == bound {
                    // The oldest one is known.
                    break;
                }
                *lowest = Reverse((now, number));
            }
        }
        looked
    }

    /// Begins to go through those that may be taken away, the first to go first.
    pub fn oldest(&self, rule: &Rule) -> Oldest {
        let all = self.classes.iter().map(|(priority, _)| *priority);
        let allowed = all.filter(|&it| rule.allows_priority(it));
        let mut classes = Vec::new();
        for priority in allowed.rev() {
            if push(&mut classes, priority).is_none() {
                // Those that are missing would be the first to go.
                classes.clear();
                break;
            }
        }
        Oldest { rule: *rule, classes, open: Opened::default(), corrected: 0, is_over: false }
    }
}

/// The chunks of a class that a walk has looked into.
#[derive(Default)]
struct Opened {
    /// The next one of each chunk: frame, record.
    next: BinaryHeap<Reverse<(u64, u32)>>,
    /// The lowest frame in each chunk.
    bounds: Vec<Reverse<(u64, u32)>>,
}

/// A walk over evictable allocations, those of the lowest priority first, of these the least recently used first.
///
/// # Time complexity
/// Each step reads one chunk, and one for each chunk whose bound was too low, because all that were that old have
/// been used since: these are paid for by the uses. After [`MOST_CORRECTED`] of them a walk returns the oldest of the
/// chunks that it has read.
pub(super) struct Oldest {
    rule: Rule,
    /// The priorities that follow, the next one last.
    classes: Vec<Priority>,
    open: Opened,
    /// Number of bounds that were too low.
    corrected: u32,
    /// Whether it has ended without host memory.
    is_over: bool,
}

impl Oldest {
    /// Returns the next one.
    pub fn next(&mut self, records: &mut Records, spared: &Spared) -> Option<Mark> {
        loop {
            let priority = *self.classes.last()?;
            match self.next_of_class(records, priority) {
                Some(record) => {
                    let mark = records.mark(record).filter(|mark| {
                        self.rule.allows(mark.stamp, mark.priority) && !spared.contains(&mark.id)
                    });
                    if mark.is_some() {
                        return mark;
                    }
                }
                None => self.close_class(records),
            }
            if self.is_over {
                self.classes.clear();
            }
        }
    }

    fn next_of_class(&mut self, records: &mut Records, priority: Priority) -> Option<u32> {
        let Records { chunks, classes, .. } = records;
        let class = class_of(classes, priority)?;
        let newest = self.rule.newest();
        loop {
            // Before anything is taken out of a heap.
            let reserved =
                self.open.next.try_reserve(1).is_ok() && self.open.bounds.try_reserve(1).is_ok();
            if !reserved {
                // The allocations that follow are not the first to go.
                self.is_over = true;
                return None;
            }
            let opened = self.open.next.peek().map(|&Reverse((frame, _))| frame);
            let unopened = class.bounds.peek().map(|&Reverse((bound, _))| bound);
            let reads_on = |bound, frame| bound < frame && self.corrected < MOST_CORRECTED;
            let opens = unopened.is_some_and(|bound| {
                bound <= newest && opened.is_none_or(|frame| reads_on(bound, frame))
            });
            if !opens {
                let Reverse((frame, record)) = self.open.next.pop()?;
                let number = record / CHUNK as u32;
                self.look_into(&chunks[number as usize].0, number, Some((frame, record)));
                return Some(record);
            }
            let Reverse((before, number)) = class.bounds.pop()?;
            let chunk = &chunks[number as usize].0;
            let lowest = self.look_into(chunk, number, None);
            // Without live ones: later ones are used in the current frame, which is newer than what may go.
            let bound = lowest.unwrap_or(newest.saturating_add(1));
            self.corrected += u32::from(bound > before);
            self.open.bounds.push(Reverse((bound, number)));
        }
    }

    /// Finds the next one of a chunk behind `last`, and returns its frame. Both are ordered by frame and record.
    fn look_into(&mut self, chunk: &Chunk, number: u32, last: Option<(u64, u32)>) -> Option<u64> {
        let first = number * CHUNK as u32;
        let found = chunk.lowest_after(last.map(|(frame, record)| (frame, record - first)));
        let (frame, index) = found?;
        if frame <= self.rule.newest() {
            self.open.next.push(Reverse((frame, first + index)));
        }
        Some(frame)
    }

    fn close_class(&mut self, records: &mut Records) {
        if let Some(priority) = self.classes.pop() {
            self.give_back(records, priority);
        }
    }

    fn give_back(&mut self, records: &mut Records, priority: Priority) {
        let open = std::mem::take(&mut self.open);
        if let Some(class) = records.class(priority) {
            class.bounds.extend(open.bounds);
        }
    }

    /// Ends the walk, which keeps what it has found out about the chunks.
    pub fn close(mut self, records: &mut Records) {
        self.close_class(records);
    }
}
