//! Violations that a simulated device saw: what was broken, and exactly where.

use std::fmt;

use super::SimulatedDevice;
use super::calls::Call;
use crate::device::{MemoryHandle, MemoryRange};

/// What a violation breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// Any rule that has no kind of its own.
    #[default]
    Rule,
    /// The device reads bytes of non-coherent memory that the host wrote and did not flush.
    MissingFlush,
    /// The host reads bytes of non-coherent memory that the device wrote and the host did not invalidate.
    MissingInvalidate,
    /// Of two commands that nothing orders, one writes what the other one uses.
    MissingBarrier,
    /// The host uses memory that a submission which has not ended writes, or writes what it reads.
    InUse,
    /// A range leaves its buffer or its memory object, or the host wrote where nothing is bound.
    OutOfBounds,
    /// A resource that was destroyed, or memory that was freed.
    UseAfterFree,
}

impl ViolationKind {
    /// Returns the name, for programs: lower-case words with underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::MissingFlush => "missing_flush",
            Self::MissingInvalidate => "missing_invalidate",
            Self::MissingBarrier => "missing_barrier",
            Self::InUse => "in_use",
            Self::OutOfBounds => "out_of_bounds",
            Self::UseAfterFree => "use_after_free",
        }
    }
}

/// What was found wrong: a violation before it is known which call it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What is broken.
    pub kind: ViolationKind,
    /// One sentence, without the name of the call.
    pub text: String,
    /// The bytes that it is about, and no others.
    pub place: Option<MemoryRange>,
    /// The buffer or image, by its handle.
    pub resource: Option<u64>,
    /// Who else uses these bytes, in words: a submission, a command, a neighbour.
    pub other: Option<String>,
}

impl Finding {
    /// Creates a finding of a kind.
    pub fn new(kind: ViolationKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), ..Self::default() }
    }

    /// Adds the bytes that it is about.
    #[must_use]
    pub fn at(mut self, place: MemoryRange) -> Self {
        self.place = Some(place);
        self
    }

    /// Adds the handle of the buffer or image.
    #[must_use]
    pub fn of(mut self, resource: u64) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Adds who else uses these bytes.
    #[must_use]
    pub fn with(mut self, other: impl Into<String>) -> Self {
        self.other = Some(other.into());
        self
    }
}

impl From<String> for Finding {
    fn from(text: String) -> Self {
        Self::new(ViolationKind::Rule, text)
    }
}

impl From<&str> for Finding {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A violation that a simulated device saw. Its text is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The call that showed it.
    pub call: Call,
    /// What was found.
    pub finding: Finding,
    /// The memory type of the bytes that it is about, if their memory was live then.
    pub memory_type_index: Option<u32>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call.name(), self.finding.text)
    }
}

impl SimulatedDevice {
    /// Returns all violations so far.
    pub fn violation_records(&self) -> Vec<Violation> {
        self.violations.lock().clone()
    }

    /// Returns and removes the violations so far.
    pub fn take_violation_records(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.violations.lock())
    }

    /// Returns all violations of the contract so far, as texts.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().iter().map(ToString::to_string).collect()
    }

    /// Returns and removes the violations so far, as texts: for tests that provoke them.
    pub fn take_violations(&self) -> Vec<String> {
        self.take_violation_records().iter().map(ToString::to_string).collect()
    }

    /// Records a violation that a layer above detected.
    pub fn report_violation(&self, call: Call, what: impl AsRef<str>) {
        self.report(call, what.as_ref());
    }

    /// Records a violation with its figures.
    pub fn report(&self, call: Call, finding: impl Into<Finding>) {
        let finding = finding.into();
        let of = |memory: MemoryHandle| self.memory(memory).map(|it| it.memory_type_index);
        let memory_type_index = finding.place.and_then(|place| of(place.memory));
        self.violations.lock().push(Violation { call, finding, memory_type_index });
    }
}

/// Returns the bytes of a range that lie behind the first `size` bytes of its memory.
pub(super) fn part_outside(range: &MemoryRange, size: u64) -> MemoryRange {
    let end = range.offset.saturating_add(range.size);
    let offset = range.offset.max(size);
    MemoryRange { offset, size: end.saturating_sub(offset), ..*range }
}
