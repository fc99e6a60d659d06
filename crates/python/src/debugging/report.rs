//! [`Report`]: memory that was written and must not have been, as a `CorruptionError`.

use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use vkmem_engine::words::{bytes, counted};
use vkmem_engine::{AllocationId, GuardedUse};
use vkmem_vulkan::Finding;

use super::moment::{Fault, Moment, SliceKey};
use super::text;
use crate::errors::corruption_with;
use crate::lifetime::describe::quoted;
use crate::observe::call_site::CallSites;
use crate::package::ALLOCATION_RECORD;

/// An allocation of a report.
pub struct Party {
    /// Its id; for what has moved that of the memory that it has now.
    pub id: AllocationId,
    /// The class of its object, or "Memory" for what is no resource.
    pub class: &'static str,
    /// Its name.
    pub name: Option<String>,
    /// Size of its memory in bytes.
    pub size: Option<u64>,
    /// Size of the buffer in bytes, if it is one.
    pub buffer_size: Option<u64>,
    /// Where it begins in its memory object, in bytes.
    pub offset: Option<u64>,
    /// Where it lies, as in `in pool 'textures'`.
    pub within: Option<String>,
    /// When it was created.
    pub made: Option<Moment>,
    /// When it was freed.
    pub freed: Option<Moment>,
    /// A weak reference to its object.
    pub object: Option<Arc<Py<PyAny>>>,
}

/// Memory that was written and must not have been, with whom it concerns.
pub struct Report {
    /// Whose margin it is, or whose memory it was.
    pub subject: Party,
    /// The next live allocations before and behind it.
    pub neighbours: [Option<Party>; 2],
    /// What was found.
    pub finding: Finding,
    /// When it was found.
    pub at: Instant,
    /// The slice of a buffer heap whose memory it is, if it is that of one.
    pub slice: Option<SliceKey>,
    /// Whether the neighbour's margin that is next to the one that was written is as it was; `None` if there is none, or
    /// if that is not known.
    pub is_facing_intact: Option<bool>,
}

impl Party {
    /// Returns class, name, size and place: `Buffer 'a' (256 bytes, in pool 'b')`, with more in the brackets.
    fn describe(&self, more: Option<String>) -> String {
        let size = self.buffer_size.or(self.size).map(|size| bytes(size).to_string());
        let inside: Vec<String> = size.into_iter().chain(self.within.clone()).chain(more).collect();
        let inside =
            if inside.is_empty() { String::new() } else { format!(" ({})", inside.join(", ")) };
        format!("{}{inside}", self.title())
    }

    /// Returns class and name.
    fn title(&self) -> String {
        let name = self.name.as_deref().map_or(String::new(), quoted);
        format!("{}{name}", self.class)
    }

    /// Returns the record of Python.
    fn to_python<'py>(
        &self,
        py: Python<'py>,
        sites: &CallSites,
        at: Instant,
    ) -> PyResult<Bound<'py, PyAny>> {
        let age = |moment: Option<Moment>| {
            moment.map(|it| at.saturating_duration_since(it.at).as_secs_f64())
        };
        let site = |moment: Option<Moment>| {
            moment.and_then(|it| it.site).map(|site| sites.lines(py, site).join("\n"))
        };
        ALLOCATION_RECORD.get(py)?.call1((
            self.class,
            &self.name,
            self.size,
            self.offset,
            self.made.map(|it| it.frame),
            age(self.made),
            site(self.made),
            self.freed.map(|it| it.frame),
            age(self.freed),
            site(self.freed),
            self.object.as_ref().map(|it| it.bind(py)),
        ))
    }
}

impl Report {
    /// Returns what tells the fault from others; `None` in memory that belongs to nothing.
    pub fn fault(&self) -> Option<Fault> {
        let range = &self.finding.range;
        let (slice, is, found) = (self.slice, range.is, self.finding.difference);
        range.id.map(|id| Fault { id, slice, is, found })
    }

    /// Returns where the first wrong byte is, counted from the start of the allocation.
    fn offset(&self) -> i64 {
        let (at, range) = (self.finding.difference.offset, &self.finding.range);
        range.from_start + (at - range.offset).cast_signed()
    }

    fn region(&self) -> &'static str {
        match self.finding.range.is {
            GuardedUse::FrontMargin => "before",
            GuardedUse::BackMargin => "behind",
            GuardedUse::Quarantined | GuardedUse::Unused => "freed",
        }
    }

    /// Returns the first line: what was written, and where.
    fn headline(&self) -> String {
        let (finding, offset) = (&self.finding, self.offset());
        let found = &finding.difference;
        let memory_type = format!("memory type {}", finding.memory_type_index);
        let what = self.subject.describe(Some(memory_type));
        let was = if found.count == 1 { "was" } else { "were" };
        let run = match found.length {
            1 => String::new(),
            length => format!(", the last one {} further", bytes(length - 1)),
        };
        match finding.range.is {
            GuardedUse::FrontMargin => format!(
                "{what}: {} of the {} before it {was} overwritten, the first one {} before its start{run}",
                found.count,
                bytes(finding.range.size),
                bytes(offset.unsigned_abs()),
            ),
            GuardedUse::BackMargin => {
                let end = self.subject.buffer_size.or(self.subject.size).unwrap_or(0);
                let past = match offset.unsigned_abs().saturating_sub(end) {
                    0 => "right behind its end".into(),
                    past => format!("{} past its end", bytes(past)),
                };
                format!(
                    "{what}: {} of the {} behind it {was} overwritten, the first one at offset \
                     {offset}, {past}{run}",
                    found.count,
                    bytes(finding.range.size),
                )
            }
            GuardedUse::Quarantined | GuardedUse::Unused => format!(
                "{what}: {} {was} written after it was freed, the first one at offset {offset}{run}",
                bytes(found.count),
            ),
        }
    }

    /// Returns which write that looks like; `None` for a write into memory that was freed.
    fn suspect(&self) -> Option<String> {
        let (range, found) = (&self.finding.range, &self.finding.difference);
        let at_start = found.offset == range.offset;
        let at_end = found.offset + found.length == range.offset + range.size;
        let (is_behind, is_near, is_far) = match range.is {
            GuardedUse::BackMargin => (true, at_start, at_end),
            GuardedUse::FrontMargin => (false, at_end, at_start),
            GuardedUse::Quarantined | GuardedUse::Unused => return None,
        };
        // The margin lies between its own allocation and the neighbour on that side.
        let own =
            if is_behind { "a write past its own end" } else { "a write before its own start" };
        let its = if is_behind { "a write before the start of" } else { "a write past the end of" };
        let astray = "a write through a wrong index or address";
        let neighbour = self.neighbours[usize::from(is_behind)].as_ref().map(Party::title);
        let is_intact = self.is_facing_intact == Some(true);
        Some(match (is_near, is_far, neighbour) {
            (true, true, Some(neighbour)) if is_intact => {
                format!("{own}: the margin of {neighbour} on that side is intact")
            }
            (true, true, Some(neighbour)) => format!("{own}, or {its} {neighbour}"),
            (true, ..) => own.into(),
            (false, true, Some(neighbour)) if is_intact => {
                format!("{astray}: the margin of {neighbour} on that side is intact")
            }
            (false, true, Some(neighbour)) => format!("{its} {neighbour}"),
            (false, true, None) => return None,
            (false, false, _) => format!("{astray}: the bytes right before and behind are intact"),
        })
    }

    /// Returns the text: a headline, and what is known of the allocations.
    pub fn text(&self, py: Python<'_>, sites: &CallSites) -> String {
        let mut lines = vec![self.headline()];
        let Finding { found, expected, .. } = &self.finding;
        lines.push(format!("  found {}, expected {}", text::hex(found), text::hex(expected)));
        if let Some(suspect) = self.suspect() {
            lines.push(format!("  this looks like {suspect}"));
        }
        let (verb, nobody) = match self.slice {
            Some(_) => ("allocated", "no slice"),
            None => ("created", "nothing that is live"),
        };
        let moment = |verb: &str, moment: &Moment| text::moment(py, sites, verb, moment, self.at);
        lines.extend(self.subject.made.iter().map(|it| format!("  {}", moment(verb, it))));
        lines.extend(self.subject.freed.iter().map(|it| format!("  {}", moment("freed", it))));
        let Party { offset, size, .. } = &self.subject;
        let ends = offset.zip(*size).map(|(offset, size)| (offset, offset + size));
        for (place, neighbour) in ["before it", "behind it"].into_iter().zip(&self.neighbours) {
            let Some(it) = neighbour else {
                lines.push(format!("  {place}: {nobody}"));
                continue;
            };
            let distance = ends.zip(it.offset).map(|((start, end), other)| {
                let gap = if other < start {
                    start.saturating_sub(other + it.size.unwrap_or(0))
                } else {
                    other.saturating_sub(end)
                };
                format!(", {} away", bytes(gap))
            });
            let made =
                it.made.as_ref().map_or(String::new(), |it| format!(", {}", moment(verb, it)));
            let distance = distance.unwrap_or_default();
            lines.push(format!("  {place}: {}{distance}{made}", it.describe(None)));
        }
        if !sites.is_tracking() {
            lines.push(
                "  Allocator(track_call_sites=True) makes a report say where all that was done"
                    .into(),
            );
        }
        lines.join("\n")
    }

    /// Returns the exception of a call that has found `more` besides, `listed` of which are its `others`.
    pub fn to_error<'py>(
        &self,
        py: Python<'py>,
        sites: &CallSites,
        (more, listed): (usize, usize),
    ) -> PyResult<Bound<'py, PyAny>> {
        let record = |party: &Party| party.to_python(py, sites, self.at);
        let figures = PyDict::new(py);
        let found = &self.finding.difference;
        figures.set_item("record", record(&self.subject)?)?;
        figures.set_item("region", self.region())?;
        figures.set_item("offset", self.offset())?;
        figures.set_item("length", found.length)?;
        figures.set_item("count", found.count)?;
        figures.set_item("found", PyBytes::new(py, &self.finding.found))?;
        figures.set_item("expected", PyBytes::new(py, &self.finding.expected))?;
        figures.set_item("memory_type_index", self.finding.memory_type_index)?;
        for (key, neighbour) in ["before", "after"].into_iter().zip(&self.neighbours) {
            figures.set_item(key, neighbour.as_ref().map(record).transpose()?)?;
        }
        let mut text = self.text(py, sites);
        if more > 0 {
            let first =
                if listed < more { format!("the first {listed} in ") } else { String::new() };
            text +=
                &format!("\n  and {} ({first}CorruptionError.others)", counted(more, "more place"));
        }
        corruption_with(py, &text, &figures)
    }
}
