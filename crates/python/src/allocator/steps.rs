//! Defragmentation in steps: one at a time, or by itself at the beginning of a frame.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{DefragmentationAlgorithm, HeapUsage, PoolId, PoolKey};

use crate::arguments::numbers::{quantity, real, unsigned_32};
use crate::arguments::options::thoroughness;
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::interpreter::without_gil;
use crate::lifetime::ownership::AllocatorState;
use crate::moving::run::Run;

/// Limits of `defragment_step`.
pub const STEP_BYTES: u64 = 16 << 20;
/// See [`STEP_BYTES`].
pub const STEP_MOVES: u32 = 128;
/// Regions that a step looks at, so that its time does not grow with the number of live allocations.
pub const STEP_REGIONS: u32 = 4096;

/// A run that was begun.
pub struct Begun {
    pub asker: Asker,
    pub algorithm: DefragmentationAlgorithm,
    pub run: Run,
    /// What was in use then.
    pub usage: Vec<HeapUsage>,
}

impl Begun {
    /// Whether a step that somebody asks for continues this run: one that is as thorough, or that frames have begun
    /// and that is more thorough.
    pub fn serves(&self, asker: Asker, algorithm: DefragmentationAlgorithm) -> bool {
        let is_more = self.asker == Asker::Frame && asker == Asker::Program;
        self.algorithm == algorithm || (is_more && self.algorithm > algorithm)
    }
}

/// What is known of a run that has ended.
pub struct Tidy {
    pub algorithm: DefragmentationAlgorithm,
    /// What was in use at its end.
    pub usage: Vec<HeapUsage>,
    /// Whether it had moved anything.
    pub has_moved: bool,
}

impl Tidy {
    /// Whether another run would find nothing to move: nothing has changed since one that did as much or more.
    pub fn covers(&self, algorithm: DefragmentationAlgorithm, now: &[HeapUsage]) -> bool {
        self.algorithm >= algorithm && self.usage == *now
    }
}

/// A request for which nothing could be moved together.
#[derive(Clone, Copy, Debug)]
pub struct InVain {
    /// Where it wanted memory.
    pub from: PoolKey,
    /// Bytes of the request.
    pub size: u64,
    /// Bytes of the heap's blocks then.
    pub held: u64,
    /// How many of them were free.
    pub free: u64,
}

impl InVain {
    /// Whether another try would be in vain as well: the request is no smaller, and less than its size was freed.
    pub fn says_no(&self, other: &Self) -> bool {
        self.from == other.from
            && self.size <= other.size
            && self.held == other.held
            && other.free < self.free.saturating_add(other.size)
    }
}

/// Who asks for steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// `defragment_step`.
    Program,
    /// The beginning of a frame, with `auto_defragment`.
    Frame,
}

/// What was tidied of one pool, or of the default pools, in steps. There is one run at a time, which all continue:
/// two would move resources to and fro between two blocks that each takes for the emptiest.
pub struct Track {
    /// `None`: the default pools.
    pub pool: Option<PoolId>,
    /// The run that has not ended.
    pub run: Option<Begun>,
    /// The last run that had nothing more to move.
    pub tidy: Option<Tidy>,
}

/// Defragmentations that go on from step to step.
pub struct Steps {
    /// When the beginning of a frame makes one.
    pub auto: Option<Policy>,
    /// Whether a request that finds no room makes some.
    pub when_full: bool,
    tracks: Mutex<Vec<Track>, rank::Stepping>,
    /// The last request for which nothing could move.
    pub in_vain: Mutex<Option<InVain>, rank::Stepping>,
}

impl Steps {
    /// Without a run.
    pub fn new(auto: Option<Policy>, when_full: bool) -> Self {
        Self { auto, when_full, tracks: Mutex::default(), in_vain: Mutex::default() }
    }

    /// Looks at what was tidied of a pool.
    pub fn look<T>(&self, pool: Option<PoolId>, look: impl FnOnce(&Track) -> T) -> Option<T> {
        self.tracks.lock().iter().find(|it| it.pool == pool).map(look)
    }

    /// Takes that out, for a step; a new one if there is none, as during a step of another thread.
    pub fn take(&self, pool: Option<PoolId>) -> Track {
        let mut tracks = self.tracks.lock();
        match tracks.iter().position(|it| it.pool == pool) {
            Some(at) => tracks.swap_remove(at),
            None => Track { pool, run: None, tidy: None },
        }
    }

    /// Puts it back after a step. Those of pools that are not there any more are dropped.
    pub fn put(&self, track: Track, is_there: impl Fn(PoolId) -> bool) {
        // Outside of the lock, as another one is taken for that.
        let mut ended: Vec<PoolId> = self.tracks.lock().iter().filter_map(|it| it.pool).collect();
        ended.retain(|pool| !is_there(*pool));
        let gone: Vec<Track> = {
            let mut tracks = self.tracks.lock();
            let is_over = |it: &mut Track| {
                it.pool == track.pool || it.pool.is_some_and(|it| ended.contains(&it))
            };
            let gone = tracks.extract_if(.., is_over).collect();
            tracks.push(track);
            gone
        };
        give_up(gone);
    }

    /// Gives up the runs that have not ended.
    pub fn give_up(&self) {
        let all = std::mem::take(&mut *self.tracks.lock());
        give_up(all);
    }
}

/// Drops runs. They keep the pools, and these the device, which is not to be destroyed with the GIL.
fn give_up(tracks: Vec<Track>) {
    if tracks.iter().any(|it| it.run.is_some()) {
        without_gil(|| drop(tracks));
    }
}

/// When the beginning of a frame makes a step, and how large that is.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    share: f64,
    pub max_bytes: u64,
    pub max_moves: u32,
    pub algorithm: DefragmentationAlgorithm,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            share: 0.0625,
            max_bytes: STEP_BYTES,
            max_moves: STEP_MOVES,
            algorithm: DefragmentationAlgorithm::default(),
        }
    }
}

impl Policy {
    /// Reads `auto_defragment`: a bool, or a `DefragmentationPolicy`.
    pub fn read(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if value.is_none() {
            return Ok(None);
        }
        // NumPy's as well.
        if let Ok(on) = value.extract::<bool>() {
            return Ok(on.then(Self::default));
        }
        let py = value.py();
        let (Ok(share), Ok(bytes), Ok(moves), Ok(name)) = (
            value.getattr("share"),
            value.getattr("max_bytes"),
            value.getattr("max_moves"),
            value.getattr("algorithm"),
        ) else {
            let kind = value.get_type().name()?;
            let why =
                format!("auto_defragment must be a bool or a DefragmentationPolicy, not {kind}");
            return Err(PyTypeError::new_err(why));
        };
        let share = real(&share, "share")?;
        if share.is_nan() || share < 0.0 {
            return Err(invalid(py, format!("share is {share}, not 0 or more")));
        }
        let name = Text::string(&name, "algorithm")?;
        let max_bytes = quantity(&bytes, "max_bytes")?;
        let max_moves = unsigned_32(&moves, "max_moves")?;
        if max_bytes == 0 || max_moves == 0 {
            let which = if max_bytes == 0 { "max_bytes" } else { "max_moves" };
            let why = format!("{which} of the DefragmentationPolicy is 0, so nothing would move");
            return Err(invalid(py, why));
        }
        Ok(Some(Self {
            share,
            max_bytes,
            max_moves,
            algorithm: thoroughness(py, Some(Text(name)))?,
        }))
    }

    /// The algorithm of the step at the beginning of a frame; `None`: no step. `going` is the run of this policy that
    /// has not ended, with what was in use at its begin; `is_emptied` says that the last one found no block to empty.
    ///
    /// Blocks are emptied first, as that alone gives memory back. A more thorough run, which also moves resources
    /// within their blocks, follows where that found nothing to move and still too much is held, and ends when less
    /// is held or when so much was freed meanwhile that blocks can be emptied once more.
    pub fn next(
        &self,
        state: &AllocatorState,
        going: Option<(DefragmentationAlgorithm, Vec<HeapUsage>)>,
        is_emptied: bool,
    ) -> Option<DefragmentationAlgorithm> {
        const FAST: DefragmentationAlgorithm = DefragmentationAlgorithm::Fast;
        if matches!(going, Some((FAST, _))) {
            return Some(FAST);
        }
        let usage = state.engine().heap_usage();
        if !self.is_due(state, &usage) {
            return None;
        }
        let goes_on = match going {
            Some((_, before)) => !has_shrunk(state, &before, &usage),
            None => is_emptied,
        };
        Some(if goes_on { self.algorithm } else { FAST })
    }

    /// Whether so much more is held than is in use, as the engine counts now, that a block could be given back.
    pub fn is_due_now(&self, state: &AllocatorState) -> bool {
        self.is_due(state, &state.engine().heap_usage())
    }

    /// Whether so much more is held than is in use that a block could be given back.
    fn is_due(&self, state: &AllocatorState, usage: &[HeapUsage]) -> bool {
        (0u32..).zip(usage).any(|(heap, it)| {
            let slack = (it.allocation_bytes as f64 * self.share) as u64;
            let enough = it.allocation_bytes.saturating_add(slack);
            it.block_bytes > enough.saturating_add(block_bytes(state, heap))
        })
    }
}

/// Bytes of the largest block that is allocated in a heap.
fn block_bytes(state: &AllocatorState, heap: u32) -> u64 {
    let engine = state.engine();
    let types = (0u32..).zip(&engine.device().info().types);
    let of_heap = types.filter(|(_, of)| of.heap_index == heap);
    of_heap.map(|(index, _)| engine.preferred_block_size(index)).max().unwrap_or(0)
}

/// Whether as much as a block of some heap was freed since then.
fn has_shrunk(state: &AllocatorState, before: &[HeapUsage], now: &[HeapUsage]) -> bool {
    (0u32..).zip(before).zip(now).any(|((heap, before), now)| {
        before.allocation_bytes.saturating_sub(now.allocation_bytes) > block_bytes(state, heap)
    })
}
