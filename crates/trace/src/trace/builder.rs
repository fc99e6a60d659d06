//! [`TraceBuilder`]: a trace while it is read or made.

use super::columns::Columns;
use super::memory::{Trace, Warning};
use crate::bytes::Input;
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::error::{Damage, Position};
use crate::event::{Event, Kind, NONE, PAYLOAD, Row};
use crate::field::Output;

/// A trace has too many events, or too many of the kinds that do not fit in columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the trace is too large: more than 4 GiB of parameters")
    }
}

impl std::error::Error for TooLarge {}

/// Collects the events of a trace.
#[derive(Clone, Debug)]
pub struct TraceBuilder(Trace);

impl TraceBuilder {
    /// The most warnings that are kept; others are only counted.
    pub const WARNINGS: usize = 64;

    /// Creates an empty trace.
    pub fn new(description: Description) -> Self {
        Self(Trace {
            description,
            dictionary: Dictionary::default(),
            columns: Columns::default(),
            payloads: Vec::new(),
            warnings: Vec::new(),
            warning_count: 0,
            unknown_events: 0,
            cut: None,
        })
    }

    /// Returns the description, to be changed.
    pub fn description_mut(&mut self) -> &mut Description {
        &mut self.0.description
    }

    /// Returns the dictionary, to define call sites in.
    pub fn dictionary_mut(&mut self) -> &mut Dictionary {
        &mut self.0.dictionary
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends an event. Its call site, if it has one, is a number of the dictionary of this trace.
    ///
    /// # Errors
    /// [`TooLarge`]
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), TooLarge> {
        let start = self.payload_start()?;
        let Trace { payloads: bytes, dictionary, .. } = &mut self.0;
        let mut row = Row::of(event, &mut Output { bytes, dictionary });
        if row.site as usize >= self.0.dictionary.site_count() {
            row.site = NONE;
        }
        self.0.columns.push(&row, if row.flags & PAYLOAD != 0 { start } else { u32::MAX });
        Ok(())
    }

    fn payload_start(&self) -> Result<u32, TooLarge> {
        let start = u32::try_from(self.0.payloads.len()).map_err(|_| TooLarge)?;
        // `u32::MAX` stands for no payload.
        if start == u32::MAX || self.len() >= u32::MAX as usize { Err(TooLarge) } else { Ok(start) }
    }

    /// Appends a row of a file, with the payload that its kind has. What it refers to must be in the dictionary.
    pub(crate) fn push_row(&mut self, mut row: Row, payload: Input<'_>) -> Result<(), Damage> {
        let mut rest = payload;
        let Ok(mut start) = self.payload_start() else {
            return payload.wrong(TooLarge.to_string());
        };
        if row.flags & PAYLOAD != 0 {
            let event = row.event(&mut rest, &self.0.dictionary)?;
            row.take_figures(&event.call, &self.0.dictionary);
            let mut whole = payload;
            self.0.payloads.extend_from_slice(whole.take(payload.left() as u64)?);
        } else {
            start = u32::MAX;
            // Only what refers to the dictionary can be wrong.
            if matches!(row.kind, Kind::Allocate | Kind::VirtualAllocate) || row.site != NONE {
                row.event(&mut rest, &self.0.dictionary)?;
            }
        }
        self.0.columns.push(&row, start);
        Ok(())
    }

    /// Notes the line of a text file that the events since the last call were read from.
    pub(crate) fn set_line(&mut self, line: u64) {
        self.0.columns.set_line(line);
    }

    /// Notes something that was left out or taken otherwise than written.
    pub fn warn(&mut self, position: Option<Position>, what: impl Into<String>) {
        self.0.warning_count += 1;
        if self.0.warnings.len() < Self::WARNINGS {
            self.0.warnings.push(Warning { position, what: what.into() });
        }
    }

    /// Notes that the file ends within a block or a line.
    pub fn cut_at(&mut self, position: Position) {
        self.0.cut = Some(position);
    }

    pub(crate) fn note_unknown_event(&mut self) {
        self.0.unknown_events += 1;
    }

    /// Sorts events by their times and numbers them anew; those of one time stay in their order.
    pub fn sort_by_time(&mut self) {
        self.0.columns.sort(|columns, index| columns.times()[index]);
        self.0.columns.number();
    }

    /// Sorts events by their sequence numbers and numbers them anew, without gaps.
    pub fn number_by_sequence(&mut self) {
        self.0.columns.sort(|columns, index| columns.sequences()[index]);
        self.0.columns.number();
    }

    /// Returns the trace, its events in the order of their sequence numbers.
    pub fn finish(mut self) -> Trace {
        self.0.columns.sort(|columns, index| columns.sequences()[index]);
        self.0.columns.shrink();
        self.0.payloads.shrink_to_fit();
        self.0
    }
}
