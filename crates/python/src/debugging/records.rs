//! [`Records`]: what is known of each allocation, for reports about its memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, Difference, KeyMap, PoolKey};
use vkmem_vulkan::FillTarget;

use super::moment::{Fault, Moment, Told};
use super::report::Report;
use super::settings::DebugSettings;
use crate::lifetime::ownership::PoolState;

/// Sources of moves whose records may stay after their memory is gone, before it is looked which those are.
const MANY_LEFT: usize = 256;

/// References to objects that are kept until a call with the GIL.
const MOST_OBJECTS: usize = 1024;

/// A live allocation.
pub struct Record {
    /// What is filled.
    pub target: FillTarget,
    /// Size of its memory in bytes.
    pub size: u64,
    /// When it was created.
    pub made: Moment,
    /// When the program has ended it, if it has.
    pub ended: Option<Moment>,
    /// A weak reference to the Python object.
    pub object: Option<Arc<Py<PyAny>>>,
    /// The pool that it was created in, if it was created in one.
    pub pool: Option<Weak<PoolState>>,
    /// The memory that its resource has now, if it has moved.
    pub moved_to: Option<AllocationId>,
}

impl Record {
    /// Returns what stays of it where its resource was before a move.
    fn left(&self, moved_to: AllocationId) -> Self {
        let (object, pool) = (self.object.clone(), self.pool.clone());
        Self { object, pool, moved_to: Some(moved_to), ..*self }
    }
}

/// A freed allocation in quarantine.
pub struct FreedRecord {
    /// What it was.
    pub record: Record,
    /// The name that it had.
    pub name: Option<String>,
    /// When it was freed.
    pub freed: Moment,
    /// What it was filled with; `None` if it was not.
    pub contents: Option<u8>,
}

/// All records of an allocator.
#[derive(Default)]
pub struct Records {
    /// Settings of pools that have their own.
    pub pools: KeyMap<PoolKey, DebugSettings>,
    /// Live allocations whose memory is watched.
    pub live: KeyMap<AllocationId, Record>,
    /// What resources have left where they were before a move.
    left: KeyMap<AllocationId, Record>,
    /// Allocations in quarantine.
    pub freed: KeyMap<AllocationId, FreedRecord>,
    /// What was found and not told yet, with the thread whose call has found it.
    found: Vec<(ThreadId, Report)>,
    /// What was found before a call that runs, which raises it at its end.
    held_back: Vec<(ThreadId, Report)>,
    /// Faults that were told, or are in `found`: all but checks on demand tell each once.
    told: KeyMap<AllocationId, Told>,
    /// What was left out and is told, without the cases.
    pub left_out: HashSet<String>,
    /// What was left out and not told yet.
    pub untold: Vec<String>,
    /// References of forgotten records. They end with the GIL, as Python keeps a list of those that end without it.
    ended_objects: Vec<Arc<Py<PyAny>>>,
}

impl Records {
    /// Returns the record of an allocation that is live, or was until its resource moved.
    pub fn get(&self, id: AllocationId) -> Option<&Record> {
        self.live.get(&id).or_else(|| self.left.get(&id))
    }

    /// Returns whether there is an allocation, live or in quarantine.
    pub fn knows(&self, id: AllocationId) -> bool {
        self.get(id).is_some() || self.freed.contains_key(&id)
    }

    /// Removes that record.
    pub fn take(&mut self, id: AllocationId) -> Option<Record> {
        self.live.remove(&id).or_else(|| self.left.remove(&id))
    }

    /// Notes that a resource has moved; the record stays for what it has left, too.
    pub fn relocate(
        &mut self,
        before: AllocationId,
        target: impl FnOnce(FillTarget) -> FillTarget,
    ) -> Option<FillTarget> {
        let record = self.live.remove(&before)?;
        let target = target(record.target);
        self.left.insert(before, record.left(target.id));
        self.live.insert(target.id, Record { target, ..record });
        Some(target)
    }

    /// Forgets what was left in memory that is gone. Does nothing until there is much of it.
    pub fn sweep(&mut self, is_live: impl Fn(AllocationId) -> bool) {
        if self.left.len() >= MANY_LEFT {
            self.left.retain(|id, _| is_live(*id));
        }
    }

    /// Forgets allocations that have ended.
    pub fn forget(&mut self, id: AllocationId) {
        let object = self.take(id).and_then(|it| it.object);
        if let Some(object) = object
            && self.ended_objects.len() < MOST_OBJECTS
        {
            self.ended_objects.push(object);
        }
        self.told.remove(&id);
    }

    /// Forgets an allocation whose quarantine is over; returns its record, which refers to Python objects.
    pub fn leave_quarantine(&mut self, id: AllocationId) -> Option<FreedRecord> {
        self.told.remove(&id);
        self.freed.remove(&id)
    }

    /// Notes that a fault is told; false if that was so before.
    pub fn tell(&mut self, fault: Fault) -> bool {
        // What has ended meanwhile would never be forgotten.
        if !self.knows(fault.id) {
            return true;
        }
        let told = fault.among(self.told.entry(fault.id).or_default());
        told.replace(fault.found) != Some(fault.found)
    }

    /// Keeps what a call of a thread has found, and has to tell.
    pub fn find(&mut self, thread: ThreadId, report: Report) {
        self.found.push((thread, report));
    }

    /// Keeps what a thread has found until [`let_out`](Self::let_out).
    pub fn hold_back(&mut self, thread: ThreadId) {
        self.held_back.extend(self.found.extract_if(.., |it| it.0 == thread));
    }

    /// Lets that be told.
    pub fn let_out(&mut self, thread: ThreadId) {
        self.found.extend(self.held_back.extract_if(.., |it| it.0 == thread));
    }

    /// Takes out what was found, is not told yet, and is among some faults.
    pub fn take_told(&mut self, faults: &[Fault]) -> Vec<(ThreadId, Report)> {
        if self.found.is_empty() {
            return Vec::new();
        }
        let key = |it: &Fault| (it.id, it.slice, it.is as u8);
        let those: HashMap<_, Difference> = faults.iter().map(|it| (key(it), it.found)).collect();
        let is_told = |it: &(ThreadId, Report)| {
            it.1.fault().is_some_and(|it| those.get(&key(&it)) == Some(&it.found))
        };
        let (told, others) = std::mem::take(&mut self.found).into_iter().partition(is_told);
        self.found = others;
        told
    }

    /// Forgets all of a pool.
    pub fn forget_pool(&mut self, pool_key: PoolKey) {
        let is_elsewhere = |id: &AllocationId| id.pool_key() != pool_key;
        self.pools.remove(&pool_key);
        self.live.retain(|id, _| is_elsewhere(id));
        self.left.retain(|id, _| is_elsewhere(id));
        self.freed.retain(|id, _| is_elsewhere(id));
        self.told.retain(|id, _| is_elsewhere(id));
    }

    /// Notes something that was left out, to be told once, with the first case of it.
    pub fn leave_out(&mut self, what: String, tell: impl FnOnce() -> String) {
        if !self.left_out.contains(&what) {
            self.untold.push(tell());
            self.left_out.insert(what);
        }
    }

    /// Takes one of the references that are to end with the GIL, outside of the lock.
    pub fn take_ended_object(&mut self) -> Option<Arc<Py<PyAny>>> {
        self.ended_objects.pop()
    }

    /// Returns whether there is anything to tell.
    pub fn has_news(&self) -> bool {
        !(self.found.is_empty() && self.untold.is_empty())
    }

    /// Takes what was found by calls of a thread, or of all.
    pub fn take_found(&mut self, thread: Option<ThreadId>) -> Vec<Report> {
        let is_its = |it: &(ThreadId, Report)| thread.is_none_or(|thread| it.0 == thread);
        let (those, others) = std::mem::take(&mut self.found).into_iter().partition(is_its);
        self.found = others;
        let those: Vec<(ThreadId, Report)> = those;
        those.into_iter().map(|(_, report)| report).collect()
    }
}
