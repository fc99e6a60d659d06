//! [`Trace`]: a trace in memory, as columns, with an iterator of typed events over them.

use super::columns::Columns;
use crate::bytes::Input;
use crate::description::Description;
use crate::dictionary::{Dictionary, Frame, SiteId};
use crate::error::Position;
use crate::event::{Event, Kind};

/// Something in a file that was left out or taken otherwise than written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it was found.
    pub position: Option<Position>,
    /// What it is.
    pub what: String,
}

/// A trace in memory: about 80 bytes an event. Events are in the order of their sequence numbers.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(super) description: Description,
    pub(super) dictionary: Dictionary,
    pub(super) columns: Columns,
    /// What does not fit in columns, for those events that have it, one after the other.
    pub(super) payloads: Vec<u8>,
    pub(super) warnings: Vec<Warning>,
    pub(super) warning_count: u64,
    pub(super) unknown_events: u64,
    pub(super) cut: Option<Position>,
}

impl Trace {
    /// Returns what the trace says of the device, the allocator and the program.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the texts, requests and call sites.
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// Returns the columns, each as a slice with one entry for each event.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Returns the first warnings, at most [`TraceBuilder::WARNINGS`](crate::TraceBuilder::WARNINGS).
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the number of all warnings.
    pub fn warning_count(&self) -> u64 {
        self.warning_count
    }

    /// Returns the number of events of kinds that this version does not know, which were left out.
    pub fn unknown_events(&self) -> u64 {
        self.unknown_events
    }

    /// Returns where the file ends within a block or a line, so that what was written last is missing.
    pub fn cut(&self) -> Option<Position> {
        self.cut
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Returns whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the index of the first event that was read from a line of a text file, from 1, or from one behind it;
    /// `None` for binary files.
    pub fn event_of_line(&self, line: u64) -> Option<usize> {
        let lines = self.columns.lines();
        let found = || lines.iter().position(|it| u64::from(*it) >= line).unwrap_or(lines.len());
        (!lines.is_empty()).then(found)
    }

    /// Returns whether it tells what was held, or has nothing that is held: a recording of VMA does not.
    pub fn says_memory(&self) -> bool {
        let has = |kind: Kind| self.columns.kinds().contains(&(kind as u8));
        has(Kind::AllocateMemory) || !has(Kind::Allocate)
    }

    /// Returns an event by its index. O(1), and O(length) for lists in it.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn event(&self, index: usize) -> Event<'_> {
        let (row, payload) = self.columns.row(index);
        let payload = if payload == u32::MAX { &[] } else { &self.payloads[payload as usize..] };
        let event = row.event(&mut Input::new(payload, 0), &self.dictionary);
        event.expect("all events were checked when the trace was made")
    }

    /// Iterates over all events.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> + DoubleEndedIterator {
        (0..self.len()).map(|index| self.event(index))
    }

    /// Returns the functions of a call stack, the innermost first.
    pub fn stack(&self, site: SiteId) -> impl Iterator<Item = Frame<'_>> {
        self.dictionary.stack(site)
    }
}
