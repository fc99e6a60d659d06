//! [`Table`]: the objects of a replay by their recorded numbers.

use std::collections::{HashMap, HashSet};

use vkmem_engine::lock::{Mutex, MutexGuard, rank};
use vkmem_engine::{
    Allocation, Defragmentation, Evictable, Move, PoolId, SlotKey, VirtualBlock, VirtualBlocks,
};

use crate::numbering::Numbering;

/// Boxed, as a trace has many times more numbers than objects live at once: an empty slot has 16 bytes.
type Slot<T> = Mutex<Option<Box<T>>, rank::ReplayObject>;

/// Objects by their recorded numbers, each under a lock of its own.
pub(super) struct Table<T> {
    places: Numbering,
    slots: Vec<Slot<T>>,
}

impl<T> Table<T> {
    pub fn new(places: Numbering) -> Self {
        let slots = (0..places.len()).map(|_| Mutex::new(None)).collect();
        Self { places, slots }
    }

    /// Returns the slot of a number, empty or not. To be held for a moment only.
    #[inline]
    pub fn lock(&self, number: u32) -> Option<MutexGuard<'_, Option<Box<T>>, rank::ReplayObject>> {
        Some(self.slots[self.places.place(number)?].lock())
    }

    /// Calls a function with an object, if it is there.
    #[inline]
    pub fn with<R>(&self, number: u32, call: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock(number)?.as_deref_mut().map(call)
    }

    /// Removes an object.
    #[inline]
    pub fn take(&self, number: u32) -> Option<T> {
        self.lock(number)?.take().map(|it| *it)
    }

    /// Adds an object, or replaces it; returns the one that was there.
    #[inline]
    pub fn put(&self, number: u32, object: T) -> Option<T> {
        self.lock(number)?.replace(Box::new(object)).map(|it| *it)
    }

    /// Calls a function with each object that is there.
    pub fn each(&self, mut call: impl FnMut(&mut T)) {
        self.slots.iter().for_each(|slot| _ = slot.lock().as_deref_mut().map(&mut call));
    }
}

/// What a live allocation is.
pub(super) enum LiveKind {
    /// Memory of the allocator.
    Memory,
    /// Memory that may be taken away.
    Evictable(Box<Evictable>),
    /// A resource in the memory of another one.
    Alias,
    /// It was created lost.
    Lost,
}

/// A live allocation.
pub(super) struct Live {
    pub allocation: Allocation,
    pub kind: LiveKind,
    pub allocator: u16,
    /// The event that created it.
    pub event: u32,
    /// Its size in bytes, without what settings add.
    pub size: u64,
    /// The event that set its custom data last.
    pub data_event: u32,
    /// The event that named it last, if it is an alias, which the engine does not name.
    pub name_event: Option<u32>,
    /// Whether the program gave it up, and it waits for the device.
    pub is_retired: bool,
    /// Its place in [`Places`](super::places::Places), where those are kept.
    pub place: u32,
}

impl Live {
    /// Returns whether it has memory of its own.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, LiveKind::Memory | LiveKind::Evictable(_))
    }
}

impl Table<Live> {
    /// Notes where an allocation is after a move. What may be lost is told so without the lock of the allocation, as the
    /// engine takes its own.
    pub fn relocate(&self, number: u32, to: Allocation) {
        let kind = self.with(number, |live| {
            live.allocation = to;
            std::mem::replace(&mut live.kind, LiveKind::Memory)
        });
        let Some(kind) = kind else { return };
        if let LiveKind::Evictable(it) = &kind {
            let _ = it.relocated(&to);
        }
        self.with(number, |live| live.kind = kind);
    }
}

/// A live pool.
pub(super) struct LivePool {
    pub id: PoolId,
    pub allocator: u16,
    pub name: Option<String>,
}

/// A virtual block or a set of them.
pub(super) enum Space {
    Block(Box<VirtualBlock>),
    /// With the events that added its blocks, by their numbers.
    Set(Box<VirtualBlocks>, HashMap<u32, u32>),
}

/// A virtual allocation: its block or set, its block in the set, its handle, the events that made it and that set its
/// custom data.
#[derive(Clone, Copy)]
pub(super) struct LiveVirtual {
    pub space: u32,
    pub block: u32,
    pub key: SlotKey,
    pub event: u32,
    pub data: Option<u32>,
}

/// A defragmentation: one for each pool, and the moves of the pass that have not ended.
pub(super) struct Run {
    pub parts: Vec<Defragmentation>,
    pub part: usize,
    pub moves: Vec<Move>,
    /// Allocations that the program refused to let move in the next pass.
    pub refused: HashSet<u32>,
}
