//! [`Counters`]: the counters of a timeline, each declared when it is first needed.

use std::collections::BTreeMap;
use std::io;

use super::output::{Output, TrackId, TrackKind};
use super::tracks::{PROCESS, Tracks};
use crate::description::Description;
use crate::event::{Call, Event, Object};
use crate::usage::{Held, Usage};

/// The tracks of what is held and live of one heap, memory type or pool, and the values that they show.
#[derive(Clone, Copy, Debug)]
struct Pair {
    held: TrackId,
    live: TrackId,
    shown: (u64, u64),
}

impl Pair {
    fn declare<O: Output>(tracks: &mut Tracks<O>, name: &str, scale: &str) -> io::Result<Self> {
        let kind = TrackKind::Bytes { scale };
        let held = tracks.declare(PROCESS, &format!("{name} held"), kind)?;
        let live = tracks.declare(PROCESS, &format!("{name} live"), kind)?;
        // So that the first value is shown, whatever it is.
        Ok(Self { held, live, shown: (u64::MAX, u64::MAX) })
    }

    /// Writes what has changed.
    #[inline]
    fn show<O: Output>(&mut self, output: &mut O, time: u64, held: Held) -> io::Result<()> {
        let now = (held.block_bytes, held.allocation_bytes);
        if now.0 != self.shown.0 {
            output.counter(self.held, time, now.0)?;
        }
        if now.1 != self.shown.1 {
            output.counter(self.live, time, now.1)?;
        }
        self.shown = now;
        Ok(())
    }
}

/// A budget and the value that it shows.
#[derive(Clone, Copy, Debug)]
struct Budget {
    track: TrackId,
    shown: u64,
}

/// A pool whose name may come with the next event of the thread that made it.
#[derive(Clone, Copy, Debug)]
struct Unnamed {
    pool: u32,
    thread: u32,
}

/// The counters of a timeline.
pub(super) struct Counters {
    total: Option<Pair>,
    heaps: Vec<Pair>,
    budgets: Vec<Option<Budget>>,
    /// Of memory types, once they share their heap with others in use; before that they are as their heap.
    types: Vec<(usize, Pair)>,
    pools: BTreeMap<u32, Pair>,
    unnamed: Vec<Unnamed>,
    /// Names of pools that are known before they are told.
    names: BTreeMap<u32, String>,
}

impl Counters {
    /// Declares those of heaps, or of all memory where no device is known.
    pub fn declare<O: Output>(
        description: &Description,
        names: BTreeMap<u32, String>,
        tracks: &mut Tracks<O>,
    ) -> io::Result<Self> {
        let (mut total, mut heaps) = (None, Vec::new());
        match &description.device {
            None => total = Some(Pair::declare(tracks, "memory", "memory")?),
            Some(device) => {
                for heap in 0..device.heaps.len() {
                    let name = format!("heap {heap}");
                    heaps.push(Pair::declare(tracks, &name, &name)?);
                }
            }
        }
        Ok(Self {
            total,
            budgets: vec![None; heaps.len()],
            heaps,
            types: Vec::new(),
            pools: BTreeMap::new(),
            unnamed: Vec::new(),
            names,
        })
    }

    /// Takes an event that has not changed the figures yet: declares pools, whose names are those that are known, or
    /// come next.
    #[inline]
    pub fn before<O: Output>(
        &mut self,
        event: &Event<'_>,
        time: u64,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        if !self.unnamed.is_empty() {
            self.declare_pools(event, time, usage, tracks)?;
        }
        if let Call::CreatePool { pool: Some(pool), .. } = event.call
            && !self.pools.contains_key(&pool)
        {
            self.unnamed.push(Unnamed { pool, thread: event.thread });
        }
        Ok(())
    }

    #[cold]
    fn declare_pools<O: Output>(
        &mut self,
        event: &Event<'_>,
        time: u64,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        for it in std::mem::take(&mut self.unnamed) {
            let told = match event.call {
                Call::Name { object: Object::Pool(of), name } if of == it.pool => Some(name),
                Call::DestroyPool { pool } if pool == it.pool => Some(None),
                _ if event.thread == it.thread => Some(None),
                _ => None,
            };
            match told {
                Some(name) => self.declare_pool(it.pool, name, time, usage, tracks)?,
                None => self.unnamed.push(it),
            }
        }
        Ok(())
    }

    fn declare_pool<O: Output>(
        &mut self,
        pool: u32,
        told: Option<&str>,
        time: u64,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        let scale = format!("pool {pool}");
        let name = match self.names.get(&pool).map(String::as_str).or(told) {
            Some(name) => format!("{scale}: {name}"),
            None => scale.clone(),
        };
        let mut pair = Pair::declare(tracks, &name, &scale)?;
        pair.show(&mut tracks.output, time, usage.pool(pool))?;
        self.pools.insert(pool, pair);
        Ok(())
    }

    /// Writes what an event has changed.
    #[inline]
    pub fn show<O: Output>(
        &mut self,
        event: &Event<'_>,
        time: u64,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        if let Some(pair) = &mut self.total {
            pair.show(&mut tracks.output, time, usage.total())?;
        }
        for (pair, held) in self.heaps.iter_mut().zip(usage.heaps()) {
            pair.show(&mut tracks.output, time, *held)?;
        }
        if !usage.newly_used_types().is_empty() {
            self.declare_types(usage, tracks)?;
        }
        for (index, pair) in &mut self.types {
            pair.show(&mut tracks.output, time, usage.types()[*index])?;
        }
        for number in usage.touched_pools() {
            if let Some(pair) = self.pools.get_mut(number) {
                pair.show(&mut tracks.output, time, usage.pool(*number))?;
            }
        }
        if let Call::DestroyPool { pool } = event.call {
            self.pools.remove(&pool);
        }
        Ok(())
    }

    #[cold]
    fn declare_types<O: Output>(
        &mut self,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        for heap in usage.newly_used_types().iter().filter_map(|it| usage.heap_of(*it)) {
            if usage.used_types(heap).nth(1).is_none() {
                continue;
            }
            for it in usage.used_types(heap) {
                if self.types.iter().all(|(declared, _)| *declared != it) {
                    let (name, scale) = (format!("memory type {it}"), format!("heap {heap}"));
                    self.types.push((it, Pair::declare(tracks, &name, &scale)?));
                }
            }
        }
        Ok(())
    }

    /// Shows the budget of a heap.
    pub fn budget<O: Output>(
        &mut self,
        heap: u32,
        time: u64,
        bytes: u64,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        let Some(budget) = self.budgets.get_mut(heap as usize) else { return Ok(()) };
        let track = match *budget {
            Some(Budget { shown, .. }) if shown == bytes => return Ok(()),
            Some(Budget { track, .. }) => track,
            None => {
                let scale = format!("heap {heap}");
                let kind = TrackKind::Bytes { scale: &scale };
                tracks.declare(PROCESS, &format!("{scale} budget"), kind)?
            }
        };
        *budget = Some(Budget { track, shown: bytes });
        tracks.output.counter(track, time, bytes)
    }

    /// Declares pools for which no name has come.
    pub fn finish<O: Output>(
        &mut self,
        time: u64,
        usage: &Usage,
        tracks: &mut Tracks<O>,
    ) -> io::Result<()> {
        for it in std::mem::take(&mut self.unnamed) {
            self.declare_pool(it.pool, None, time, usage, tracks)?;
        }
        Ok(())
    }
}
