//! [`Builder`]: takes the events of a trace, one after the other.

use std::collections::HashMap;

use super::dictionary::{Texts, Uses};
use super::places::Places;
use super::tables::{Begin, BudgetRow, End, Mark, MarkRow, MemoryRow, OPEN, PlaceRow, RunRow};
use crate::description::Description;
use crate::error::Format;
use crate::event::{Call, Data, Event, MoveResult, Object};
use crate::numbering::{Numbering, makes_allocation};
use crate::progress::{Progress, watched};
use crate::trace::Trace;
use crate::values::{Failure, Placed, Request};
use vkmem_engine::MoveKind;

/// A live allocation: the index of its place, and that of the destination that a move has reserved.
#[derive(Clone, Copy, Debug)]
struct Live {
    place: u32,
    reserved: Option<u32>,
}

/// Collects what a page shows.
pub(super) struct Builder<'t> {
    pub(super) trace: &'t Trace,
    pub(super) description: &'t Description,
    /// The trace whose warnings are told.
    pub(super) source: &'t Trace,
    pub(super) played: bool,
    pub(super) times: Vec<u64>,
    pub(super) existing: u32,
    pub(super) places: Places,
    pub(super) pool_names: HashMap<u32, u32>,
    pub(super) texts: Texts<'t>,
    pub(super) uses: Uses,
    pub(super) memories: Vec<MemoryRow>,
    pub(super) rows: Vec<PlaceRow>,
    pub(super) marks: Vec<MarkRow>,
    pub(super) runs: Vec<RunRow>,
    pub(super) budgets: Vec<BudgetRow>,
    numbers: HashMap<u64, u32>,
    memory_places: Numbering,
    held: Vec<Option<u32>>,
    allocation_places: Numbering,
    live: Vec<Option<Live>>,
    /// Memory objects that were allocated since the last call that could own them.
    fresh: Vec<u32>,
}

impl<'t> Builder<'t> {
    /// Begins before the first event. `played`: the trace is a replay of another one.
    pub fn new(trace: &'t Trace, played: bool) -> Self {
        let memory_places = Numbering::of_memories(trace);
        let allocation_places = Numbering::of_objects(trace, makes_allocation);
        Self {
            trace,
            description: trace.description(),
            source: trace,
            played,
            times: Vec::with_capacity(trace.len()),
            existing: 0,
            places: Places::new(trace.description().device.as_ref()),
            pool_names: HashMap::new(),
            texts: Texts::new(),
            uses: Uses::default(),
            memories: Vec::new(),
            rows: Vec::new(),
            marks: Vec::new(),
            runs: Vec::new(),
            budgets: Vec::new(),
            numbers: HashMap::new(),
            held: vec![None; memory_places.len()],
            memory_places,
            live: vec![None; allocation_places.len()],
            allocation_places,
            fresh: Vec::new(),
        }
    }

    /// Takes program, library and clock from another trace, the one that was played.
    pub fn describing(self, source: &'t Trace) -> Self {
        Self { description: source.description(), source, ..self }
    }

    /// Takes all events.
    pub(super) fn take_all(&mut self, progress: Progress<'_>) {
        let mut last = 0;
        for (index, event) in (0..).zip(watched(self.trace.events(), progress)) {
            last = event.time.max(last);
            self.times.push(last);
            if event.is_state && self.existing == index {
                self.existing = index + 1;
            }
            self.take(index, &event);
        }
    }

    fn take(&mut self, index: u32, event: &Event<'t>) {
        match &event.call {
            Call::AllocateMemory { memory: Some(number), memory_type, size, .. } => {
                self.hold(index, event, *number, *memory_type, *size);
            }
            Call::FreeMemory { memory } => {
                if let Some(held) = self.memory_places.place(*memory)
                    && let Some(row) = self.held[held].take()
                {
                    self.memories[row as usize].end = index;
                }
            }
            Call::CreatePool { pool: Some(pool), .. } => {
                for row in std::mem::take(&mut self.fresh) {
                    self.own(row, Some(*pool));
                }
            }
            Call::Allocate { request, name, data, .. } => {
                let cause = if event.is_state { Begin::Existed } else { Begin::Made };
                let allocated = self.trace.columns().requests()[index as usize];
                let of_use = self.uses.number(request, allocated);
                self.allocate(index, event, cause, of_use, *name, *data);
            }
            Call::Import { request, .. } => {
                let cause = if event.is_state { Begin::Existed } else { Begin::Imported };
                let of_use = self.uses.number(request, u32::MAX);
                self.allocate(index, event, cause, of_use, None, Data::None);
            }
            Call::Alias { allocation, base, request, size, offset } => {
                self.alias(index, event, (*allocation, *base), request, size.unwrap_or(0), *offset);
            }
            Call::Free { allocation } => self.end(index, *allocation, End::Freed),
            Call::Lose { allocations } => {
                let (mut bytes, mut name, mut count) = (0_u64, 0, 0);
                for number in allocations.iter() {
                    if let Some(live) = self.live_of(number) {
                        let row = self.rows[live.place as usize];
                        (bytes, name, count) = (bytes + row.size, row.name, count + 1);
                    }
                    self.end(index, number, End::Lost);
                }
                let text = if count == 1 { name } else { 0 };
                self.mark(index, event, Mark::Loss, bytes, text);
            }
            Call::Resize { allocation, size } => {
                if let Some(live) = self.live_of(*allocation) {
                    let row = self.rows[live.place as usize];
                    self.go(index, *allocation, PlaceRow { size: *size, ..row });
                }
            }
            Call::ProposeMove { allocation, kind, placed, .. } => {
                self.propose(index, *allocation, *kind, placed);
            }
            Call::EndMove { allocation, result, placed, .. } => {
                self.end_move(index, *allocation, *result, *placed);
            }
            Call::Name { object, name } => {
                let name = self.texts.number(name.unwrap_or(""));
                match object {
                    Object::Allocation(number) => self.change(*number, |row| row.name = name),
                    Object::Pool(number) => _ = self.pool_names.insert(*number, name),
                    _ => {}
                }
            }
            Call::SetData { allocation, data } => {
                let data = self.data(*data);
                self.change(*allocation, |row| row.data = data);
            }
            _ => self.take_mark(index, event),
        }
    }

    /// Takes an event that changes no place.
    fn take_mark(&mut self, index: u32, event: &Event<'t>) {
        match &event.call {
            Call::AllocateMemory { memory: None, size, result, .. } => {
                let text = self.texts.add(&format!("vkAllocateMemory returned {result}"));
                self.mark(index, event, Mark::Failure, *size, text);
            }
            Call::AllocateFailed { size, buffer_size, failure: Some(failure), .. } => {
                let bytes = size.or(*buffer_size).unwrap_or(0);
                self.failure(index, event, "An allocation", bytes, failure);
            }
            Call::CreatePool { pool: None, failure: Some(failure), .. } => {
                self.failure(index, event, "A pool", 0, failure);
            }
            Call::Failed { function, failure, .. } => {
                self.failure(index, event, function, 0, failure);
            }
            Call::BeginFrame {} => self.mark(index, event, Mark::Frame, event.frame, 0),
            Call::Trim { bytes } => self.mark(index, event, Mark::Trim, *bytes, 0),
            Call::Mark { text } => {
                let text = self.texts.number(text);
                self.mark(index, event, Mark::Text, 0, text);
            }
            Call::BeginDefragmentation { run, .. } => self.runs.push(RunRow {
                begin: index,
                end: OPEN,
                number: *run,
                moves: 0,
                moved: 0,
                freed: 0,
            }),
            Call::EndDefragmentation {
                run, bytes_moved, bytes_freed, allocations_moved, ..
            } => {
                let open = |it: &&mut RunRow| it.number == *run && it.end == OPEN;
                if let Some(row) = self.runs.iter_mut().rev().find(open) {
                    (row.end, row.moves) = (index, *allocations_moved);
                    (row.moved, row.freed) = (*bytes_moved, *bytes_freed);
                }
            }
            Call::Budget { heap, budget, usage, .. } => {
                let row = BudgetRow { event: index, heap: *heap, budget: *budget, usage: *usage };
                if (*heap as usize) < self.places.heaps.len() {
                    self.budgets.push(row);
                }
            }
            _ => {}
        }
    }

    fn mark(&mut self, event: u32, of: &Event<'_>, kind: Mark, value: u64, text: u32) {
        let site = of.site.map_or(0, |it| it.0 + 1);
        self.marks.push(MarkRow { event, kind, value, text, site });
    }

    fn failure(
        &mut self,
        index: u32,
        event: &Event<'_>,
        what: &str,
        bytes: u64,
        failure: &Failure<'_>,
    ) {
        let message = failure.message.map_or(String::new(), |it| format!(": {it}"));
        let text = self.texts.add(&format!("{what} failed, {:?}{message}", failure.reason));
        self.mark(index, event, Mark::Failure, bytes, text);
    }

    fn data(&mut self, data: Data<'t>) -> u32 {
        match data {
            Data::None => 0,
            Data::Text(text) => self.texts.number(text),
            Data::Number(number) => match self.numbers.get(&number) {
                Some(&text) => text,
                None => {
                    let text = self.texts.add(&format!("{number:#x}"));
                    self.numbers.insert(number, text);
                    text
                }
            },
        }
    }

    fn live_of(&self, number: u32) -> Option<Live> {
        self.live[self.allocation_places.place(number)?]
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut PlaceRow)) {
        if let Some(live) = self.live_of(number) {
            change(&mut self.rows[live.place as usize]);
        }
    }

    fn hold(
        &mut self,
        index: u32,
        event: &Event<'_>,
        number: u32,
        memory_type: Option<u32>,
        size: u64,
    ) {
        let Some(held) = self.memory_places.place(number) else { return };
        if self.held[held].is_some() {
            return;
        }
        let row = self.memories.len() as u32;
        self.held[held] = Some(row);
        self.fresh.push(row);
        self.memories.push(MemoryRow {
            begin: index,
            end: OPEN,
            number,
            size,
            of_type: self.places.of_type(memory_type, event.allocator),
            allocator: event.allocator,
            pool: None,
            is_dedicated: false,
        });
    }

    /// Notes which pool a memory object belongs to, unless it is known; returns the one that it belongs to.
    fn own(&mut self, row: u32, pool: Option<u32>) -> u32 {
        let memory = &mut self.memories[row as usize];
        let (of_type, allocator) = (memory.of_type, memory.allocator);
        let places = &mut self.places;
        *memory.pool.get_or_insert_with(|| places.pool(of_type, allocator, pool))
    }

    /// Returns memory object (its index plus 1) and pool of a place.
    fn locate(&mut self, placed: Option<Placed>, allocator: u16, pool: Option<u32>) -> (u32, u32) {
        let number = placed.and_then(|it| it.memory);
        let held = number.and_then(|it| self.memory_places.place(it)).and_then(|it| self.held[it]);
        if let Some(row) = held {
            self.memories[row as usize].is_dedicated |= placed.is_some_and(|it| it.is_dedicated);
            return (row + 1, self.own(row, pool));
        }
        let of_type = self.places.of_type(placed.and_then(|it| it.memory_type), allocator);
        (0, self.places.pool(of_type, allocator, pool))
    }

    fn allocate(
        &mut self,
        index: u32,
        event: &Event<'t>,
        cause: Begin,
        of_use: u32,
        name: Option<&'t str>,
        data: Data<'t>,
    ) {
        let (number, pool, size, placed) = match &event.call {
            Call::Allocate { allocation, request, size, buffer_size, placed, .. } => {
                (*allocation, request.pool, size.or(*buffer_size).unwrap_or(0), *placed)
            }
            Call::Import { allocation, size, placed, .. } => (*allocation, None, *size, *placed),
            _ => return,
        };
        self.fresh.clear();
        // VMA 2 had no names: programs gave them as custom data.
        let name = match data {
            Data::Text(text) if self.description.format == Format::VmaCsv => name.or(Some(text)),
            _ => name,
        };
        let (memory, pool) = self.locate(placed, event.allocator, pool);
        let row = PlaceRow {
            begin: index,
            end: OPEN,
            cause,
            ending: End::Open,
            allocation: number,
            memory,
            pool,
            offset: placed.map_or(0, |it| it.offset),
            size,
            base: 0,
            of_use,
            name: name.map_or(0, |it| self.texts.number(it)),
            data: self.data(data),
            site: event.site.map_or(0, |it| it.0 + 1),
        };
        self.begin(number, row);
    }

    fn begin(&mut self, number: u32, row: PlaceRow) {
        let Some(place) = self.allocation_places.place(number) else { return };
        // Only a damaged trace allocates what is live.
        self.end(row.begin, number, End::Freed);
        self.live[place] = Some(Live { place: self.rows.len() as u32, reserved: None });
        self.rows.push(row);
    }

    fn alias(
        &mut self,
        index: u32,
        event: &Event<'_>,
        (number, base): (u32, u32),
        request: &Request,
        size: u64,
        offset: u64,
    ) {
        let Some(of_base) = self.live_of(base) else { return };
        let of_use = self.uses.number(request, u32::MAX);
        let row = self.rows[of_base.place as usize];
        self.begin(
            number,
            PlaceRow {
                begin: index,
                end: OPEN,
                cause: if event.is_state { Begin::Existed } else { Begin::Made },
                ending: End::Open,
                allocation: number,
                offset: row.offset.saturating_add(offset),
                size,
                base: of_base.place + 1,
                of_use,
                name: 0,
                data: 0,
                site: event.site.map_or(0, |it| it.0 + 1),
                ..row
            },
        );
    }

    fn end(&mut self, index: u32, number: u32, ending: End) {
        let Some(place) = self.allocation_places.place(number) else { return };
        let Some(live) = self.live[place].take() else { return };
        self.close(index, live.place, ending);
        if let Some(reserved) = live.reserved {
            self.close(index, reserved, End::Moved);
        }
    }

    fn close(&mut self, index: u32, place: u32, ending: End) {
        let row = &mut self.rows[place as usize];
        (row.end, row.ending) = (index, ending);
    }

    /// Ends the place of an allocation, and begins another one.
    fn go(&mut self, index: u32, number: u32, row: PlaceRow) {
        let Some(place) = self.allocation_places.place(number) else { return };
        let Some(live) = self.live[place] else { return };
        self.close(index, live.place, End::Moved);
        self.live[place] = Some(Live { place: self.rows.len() as u32, ..live });
        let (cause, ending) = (Begin::Moved, End::Open);
        self.rows.push(PlaceRow { begin: index, end: OPEN, cause, ending, ..row });
    }

    fn propose(&mut self, index: u32, number: u32, kind: MoveKind, placed: &Placed) {
        let Some(place) = self.allocation_places.place(number) else { return };
        let Some(live) = self.live[place] else { return };
        if live.reserved.is_some() {
            return;
        }
        let row = self.rows[live.place as usize];
        let size = match kind {
            MoveKind::Apart => row.size,
            MoveKind::Slide => row.offset.saturating_sub(placed.offset),
        };
        let allocator = self.places.pools[row.pool as usize].allocator;
        let of_pool = self.places.pools[row.pool as usize].number;
        let (memory, _) = self.locate(Some(*placed), allocator, of_pool);
        self.live[place] = Some(Live { reserved: Some(self.rows.len() as u32), ..live });
        self.rows.push(PlaceRow {
            begin: index,
            end: OPEN,
            cause: Begin::Reserved,
            ending: End::Open,
            memory,
            offset: placed.offset,
            size,
            base: 0,
            ..row
        });
    }

    fn end_move(&mut self, index: u32, number: u32, result: MoveResult, placed: Option<Placed>) {
        let Some(place) = self.allocation_places.place(number) else { return };
        let Some(live) = self.live[place].as_mut() else { return };
        let (at, reserved) = (live.place, live.reserved.take());
        if let Some(reserved) = reserved {
            self.close(index, reserved, End::Moved);
        }
        if let Some(placed) = placed {
            let row = self.rows[at as usize];
            let of_pool = &self.places.pools[row.pool as usize];
            let (allocator, pool) = (of_pool.allocator, of_pool.number);
            let (memory, _) = match placed.memory {
                Some(_) => self.locate(Some(placed), allocator, pool),
                None => (row.memory, row.pool),
            };
            if (memory, placed.offset) != (row.memory, row.offset) {
                self.go(index, number, PlaceRow { memory, offset: placed.offset, ..row });
            }
        }
        if result == MoveResult::Destroyed {
            self.end(index, number, End::Freed);
        }
    }
}
