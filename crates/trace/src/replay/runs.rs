//! Defragmentations.
//!
//! A recording of this library is played move by move. Where places differ, other moves are worth making: then a pass
//! makes all that it finds.

use std::collections::HashSet;

use vkmem_engine::{
    AllocationId, Defragmentation, DefragmentationInfo, DefragmentationStatistics, Move, MoveEnd,
    MoveOutcome,
};

use super::objects::{Live, LiveKind, Run};
use super::tally::reason;
use super::worker::{NO_OBJECT, Worker};
use super::world::Instance;
use crate::event::{Call, Event, Kind, MoveResult};

/// The setting of a description that says which allocations may move, and its value if all may.
pub(super) const MOVABLE: &str = "movable allocations";
pub(super) const ALL: &str = "all";
/// The most passes of a run that is played at once.
const PASSES: usize = 10_000;

impl Worker<'_> {
    /// Plays an event of a defragmentation.
    pub fn defragmentation(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        match &event.call {
            Call::BeginDefragmentation { .. } => self.begin_run(event, instance),
            Call::BeginPass { run, moves } => self.begin_pass(index, event, instance, *run, *moves),
            Call::ProposeMove { run, allocation, placed, .. } if self.world.is_exact => {
                self.check_proposed(index, *run, *allocation, placed);
            }
            Call::RefuseMoves { run, allocations } => {
                let refused = allocations.iter().collect();
                self.world.runs.with(*run, |run| run.refused = refused);
                self.record(event, event.call.clone());
            }
            Call::LimitPasses { run, max_bytes, max_moves } => {
                self.world.runs.with(*run, |run| {
                    run.parts.iter_mut().for_each(|part| part.set_limits(*max_bytes, *max_moves));
                });
                self.record(event, event.call.clone());
            }
            Call::KeepSource { allocation, of } => self.keep_source(index, event, *allocation, *of),
            Call::EndMove { run: Some(run), allocation, result, placed } if self.world.is_exact => {
                let ended = self.end_move(event, instance, *run, *allocation, *result);
                if let Some(it) = ended {
                    self.check(index, &it, placed.as_ref());
                }
            }
            Call::EndMove { run: None, .. } => self.expect_room(index, event),
            Call::EndPass { run, .. } => self.end_pass(event, instance, *run),
            Call::EndDefragmentation { run, .. } => self.end_run(event, instance, *run),
            _ => {}
        }
    }

    fn begin_run(&mut self, event: &Event<'_>, instance: &Instance) {
        let Call::BeginDefragmentation {
            run,
            algorithm,
            pools,
            allocations,
            max_bytes,
            max_moves,
            max_regions,
            slides,
            limits,
        } = &event.call
        else {
            return;
        };
        let mut info = DefragmentationInfo {
            pool: None,
            algorithm: algorithm.unwrap_or_default(),
            max_bytes_per_pass: *max_bytes,
            max_moves_per_pass: *max_moves,
            max_regions_per_pass: *max_regions,
            slides: *slides,
        };
        let mut parts = Vec::new();
        let start = std::time::Instant::now();
        let mut failed = None;
        let ids: Vec<_> =
            pools.iter().map(|it| self.world.pools.with(it, |pool| pool.id)).collect();
        let mut begin =
            |info: &DefragmentationInfo| match instance.allocator.begin_defragmentation(info) {
                Ok(part) => parts.push(part),
                Err(error) => failed = Some(reason(&error)),
            };
        if ids.is_empty() {
            begin(&info);
        }
        for id in ids.into_iter().flatten() {
            info.pool = Some(id);
            begin(&info);
        }
        self.tally.call(Kind::BeginDefragmentation, start.elapsed(), failed.is_some());
        self.record_driver(event, instance);
        self.record(event, event.call.clone());
        let mut made = Run { parts, part: 0, moves: Vec::new(), refused: HashSet::new() };
        if let Some(limits) = limits {
            // VMA 2.3 moves all at the beginning.
            let allowed = self.ids_of(allocations.iter());
            let bytes = limits.max_host_bytes.saturating_add(limits.max_device_bytes);
            let moves = limits.max_host_moves.saturating_add(limits.max_device_moves);
            self.run_at_once(event, instance, (*run, &mut made), &allowed, (bytes, moves));
        }
        self.world.runs.put(*run, made);
    }

    /// Returns the ids of allocations.
    fn ids_of(&self, numbers: impl Iterator<Item = u32>) -> HashSet<AllocationId> {
        let id = |number| self.world.allocations.with(number, |it| it.allocation.id);
        numbers.filter_map(id).collect()
    }

    /// Moves allocations until a limit is reached or no more can move; all of them if `allowed` is empty.
    fn run_at_once(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        (number, run): (u32, &mut Run),
        allowed: &HashSet<AllocationId>,
        (mut bytes, mut moves): (u64, u32),
    ) {
        let may_move = |id| allowed.is_empty() || allowed.contains(&id);
        for part in &mut run.parts {
            for _ in 0..PASSES {
                if bytes == 0 || moves == 0 {
                    return;
                }
                part.set_limits(bytes, moves);
                let found = instance.allocator.next_pass(part, &may_move);
                if found.is_empty() {
                    break;
                }
                let size: u64 = found.iter().map(|it| it.source.size).sum();
                bytes = bytes.saturating_sub(size);
                moves = moves.saturating_sub(found.len() as u32);
                self.record_moves(event, number, &found);
                self.finish(event, instance, part, &found, MoveOutcome::Copy, Some(number));
            }
        }
    }

    /// Ends moves alike, and notes where allocations are now.
    fn finish(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        part: &mut Defragmentation,
        moves: &[Move],
        outcome: MoveOutcome,
        recorded_as: Option<u32>,
    ) {
        let mut end = instance.allocator.end_pass(part, moves, &vec![outcome; moves.len()]);
        let mut numbers = Vec::new();
        for (it, ended) in moves.iter().zip(&end.ends) {
            let key = (event.allocator, it.source.id);
            let number = self.world.numbers.as_ref().and_then(|all| all.lock().remove(&key));
            let Some(number) = number else { continue };
            if let MoveEnd::Moved(moved) = ended {
                self.tally.moves.count += 1;
                self.tally.moves.bytes += moved.size;
            }
            self.relocate(event.allocator, number, ended);
            numbers.push((number, ended));
        }
        end.releases.clear();
        self.record_driver(event, instance);
        if let Some(run) = recorded_as {
            self.record_ends(event, run, &numbers);
        }
    }

    /// Records the moves of a pass that is not the recorded one.
    fn record_moves(&mut self, event: &Event<'_>, run: u32, moves: &[Move]) {
        if self.recording.is_none() {
            return;
        }
        self.record(event, Call::BeginPass { run, moves: moves.len() as u32 });
        for it in moves {
            let key = (event.allocator, it.source.id);
            let number = self.world.numbers.as_ref().and_then(|all| all.lock().get(&key).copied());
            if let (Some(allocation), Some(placed)) = (number, self.placed(&it.destination)) {
                let kind = it.kind;
                self.record(event, Call::ProposeMove { run, allocation, kind, placed });
            }
        }
    }

    /// Records how the moves of a pass ended that is not the recorded one.
    fn record_ends(&mut self, event: &Event<'_>, run: u32, ends: &[(u32, &MoveEnd)]) {
        if self.recording.is_none() {
            return;
        }
        for &(allocation, ended) in ends {
            let (result, placed) = match ended {
                MoveEnd::Moved(it) => (MoveResult::Moved, self.placed(it)),
                MoveEnd::Kept => (MoveResult::Kept, None),
                MoveEnd::Gone => (MoveResult::Gone, None),
            };
            self.record(event, Call::EndMove { run: Some(run), allocation, result, placed });
        }
        if !self.world.is_exact {
            self.record(event, Call::EndPass { run, progressed: true });
        }
    }

    /// Notes where an allocation is after a move.
    fn relocate(&mut self, allocator: u16, number: u32, ended: &MoveEnd) {
        let gone = self.world.allocations.with(number, |live| match ended {
            MoveEnd::Moved(moved) => Some(moved.id),
            MoveEnd::Kept => Some(live.allocation.id),
            MoveEnd::Gone => None,
        });
        match gone {
            Some(Some(id)) => {
                if let Some(all) = &self.world.numbers {
                    all.lock().insert((allocator, id), number);
                }
                if let MoveEnd::Moved(moved) = ended {
                    self.world.allocations.relocate(number, *moved);
                }
            }
            Some(None) => {
                if let Some(live) = self.world.allocations.take(number) {
                    self.world.gauges.free(live.size);
                }
            }
            None => {}
        }
    }

    fn begin_pass(
        &mut self,
        index: usize,
        event: &Event<'_>,
        instance: &Instance,
        number: u32,
        count: u32,
    ) {
        let Some(mut run) = self.world.runs.take(number) else { return self.tally.skip(NO_OBJECT) };
        let start = std::time::Instant::now();
        let is_exact = self.world.is_exact;
        let moves_all = !is_exact || self.moves_all();
        // The trace does not say of allocations that no pass moves whether the program would have let them.
        let (world, allocator) = (self.world, event.allocator);
        let refused = std::mem::take(&mut run.refused);
        let may_move = |id| {
            let known = || {
                let numbers = world.numbers.as_ref()?.lock();
                numbers.get(&(allocator, id)).copied()
            };
            match world.is_told {
                true if is_exact => known().is_none_or(|it| !refused.contains(&it)),
                true => known().is_some_and(|it| !world.is_unmovable(it)),
                false => moves_all || known().is_some_and(|it| world.is_proposed(number, it)),
            }
        };
        let mut found = Vec::new();
        while let Some(part) = run.parts.get_mut(run.part) {
            found = instance.allocator.next_pass(part, &may_move);
            if !found.is_empty() || !part.is_done() {
                break;
            }
            run.part += 1;
        }
        self.tally.call(Kind::BeginPass, start.elapsed(), false);
        self.record_driver(event, instance);
        if is_exact {
            if found.len() != count as usize {
                let now = format!("{} moves", found.len());
                self.tally.placements.differ(index, format!("{count} moves"), now);
            }
            let moves = found.len() as u32;
            // Moves of earlier passes may be open.
            run.moves.extend(found);
            self.record(event, Call::BeginPass { run: number, moves });
        } else if let Some(part) = run.parts.get_mut(run.part) {
            self.record_moves(event, number, &found);
            self.finish(event, instance, part, &found, MoveOutcome::Copy, Some(number));
        }
        self.world.runs.put(number, run);
    }

    /// Returns whether the program let all allocations move.
    fn moves_all(&self) -> bool {
        self.world.trace.description().setting(MOVABLE) == Some(ALL)
    }

    fn find_move(&self, run: u32, allocation: u32) -> Option<Move> {
        let id = self.world.allocations.with(allocation, |it| it.allocation.id)?;
        self.world.runs.with(run, |it| it.moves.iter().find(|it| it.source.id == id).copied())?
    }

    fn check_proposed(
        &mut self,
        index: usize,
        run: u32,
        allocation: u32,
        placed: &crate::values::Placed,
    ) {
        let found = self.find_move(run, allocation);
        match found {
            Some(it) => self.check(index, &it.destination, Some(placed)),
            None => {
                let recorded = format!("allocation {allocation} was to move");
                self.tally.placements.differ(index, recorded, "it is not".into());
            }
        }
        if let (Some(it), Some(_)) = (found, &self.recording)
            && let Some(placed) = self.placed(&it.destination)
        {
            let event = self.world.trace.event(index);
            let kind = it.kind;
            self.record(&event, Call::ProposeMove { run, allocation, kind, placed });
        }
    }

    fn end_move(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        number: u32,
        allocation: u32,
        result: MoveResult,
    ) -> Option<vkmem_engine::Allocation> {
        let it = self.find_move(number, allocation)?;
        let mut run = self.world.runs.take(number)?;
        run.moves.retain(|other| other.source.id != it.source.id);
        let outcome = match result {
            MoveResult::Moved => MoveOutcome::Copy,
            MoveResult::Ignored | MoveResult::Kept | MoveResult::Gone => MoveOutcome::Ignore,
            MoveResult::Destroyed => MoveOutcome::Destroy,
        };
        let start = std::time::Instant::now();
        let part = run.parts.iter_mut().find(|part| part.pending().contains(&it));
        match (part, self.kept_sources.remove(&allocation)) {
            (Some(part), Some(source)) => self.commit(event, instance, part, &it, source),
            (Some(part), None) => self.finish(event, instance, part, &[it], outcome, None),
            (None, _) => {}
        }
        self.tally.call(Kind::EndMove, start.elapsed(), false);
        self.world.runs.put(number, run);
        let now = self.world.allocations.with(allocation, |live| live.allocation);
        let placed = now.as_ref().and_then(|it| self.placed(it));
        self.record(event, Call::EndMove { run: Some(number), allocation, result, placed });
        now
    }

    /// Notes that the old place of an allocation stays when its move ends.
    fn keep_source(&mut self, index: usize, event: &Event<'_>, number: u32, of: u32) {
        if self.world.is_exact {
            let Some(instance) = self.instance(event) else { return };
            if !instance.losses.keep_source(event.thread, of, number) {
                self.record(event, event.call.clone());
                self.kept_sources.insert(of, number);
            }
            return;
        }
        self.record(event, event.call.clone());
        // What is moved here leaves nothing.
        if let Some(size) = self.world.allocations.with(of, |it| it.size) {
            self.put_nothing(index, event, number, size);
        }
    }

    /// Ends a move whose old place stays until it is freed, under a number of its own.
    fn commit(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        part: &mut Defragmentation,
        it: &Move,
        source: u32,
    ) {
        let key = (event.allocator, it.source.id);
        let number = self.world.numbers.as_ref().and_then(|all| all.lock().remove(&key));
        let Some(number) = number else { return };
        let Ok(moved) = instance.allocator.commit_move(part, it) else { return };
        self.tally.moves.count += 1;
        self.tally.moves.bytes += moved.size;
        self.relocate(event.allocator, number, &MoveEnd::Moved(moved));
        self.put_source(event, number, it.source, source);
    }

    /// Adds the old place of an allocation that has moved, which stays under a number of its own.
    pub fn put_source(
        &mut self,
        event: &Event<'_>,
        number: u32,
        allocation: vkmem_engine::Allocation,
        source: u32,
    ) {
        let event_index = self.world.allocations.with(number, |live| live.event);
        let live = Live {
            allocation,
            kind: LiveKind::Memory,
            allocator: event.allocator,
            event: event_index.unwrap_or(0),
            size: allocation.size,
            data_event: event_index.unwrap_or(0),
            name_event: None,
            is_retired: true,
            place: self.places.as_mut().map_or(0, |it| it.add(source)),
        };
        self.note_id(source, &live);
        self.world.gauges.allocate(live.size);
        self.world.allocations.put(source, live);
    }

    fn end_pass(&mut self, event: &Event<'_>, instance: &Instance, number: u32) {
        let Some(mut run) = self.world.runs.take(number) else { return self.tally.skip(NO_OBJECT) };
        // The engine tells each move that ends.
        let left = match self.world.is_told {
            true => Vec::new(),
            false => std::mem::take(&mut run.moves),
        };
        if self.world.is_exact
            && let Some(part) = run.parts.get_mut(run.part)
        {
            self.finish(event, instance, part, &left, MoveOutcome::Ignore, Some(number));
        }
        self.world.runs.put(number, run);
        if self.world.is_exact {
            self.record(event, event.call.clone());
        }
    }

    fn end_run(&mut self, event: &Event<'_>, instance: &Instance, number: u32) {
        let Some(run) = self.world.runs.take(number) else { return self.tally.skip(NO_OBJECT) };
        let mut sum = DefragmentationStatistics::default();
        let start = std::time::Instant::now();
        for part in run.parts {
            let of_part = instance.allocator.end_defragmentation(part);
            sum.bytes_moved += of_part.bytes_moved;
            sum.bytes_freed += of_part.bytes_freed;
            sum.allocations_moved += of_part.allocations_moved;
            sum.device_memory_blocks_freed += of_part.device_memory_blocks_freed;
        }
        self.tally.call(Kind::EndDefragmentation, start.elapsed(), false);
        self.record_driver(event, instance);
        let call = Call::EndDefragmentation {
            run: number,
            bytes_moved: sum.bytes_moved,
            bytes_freed: sum.bytes_freed,
            allocations_moved: sum.allocations_moved,
            blocks_freed: sum.device_memory_blocks_freed,
        };
        self.record(event, call);
    }
}
