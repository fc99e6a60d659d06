//! Violations that a simulated device saw: what was broken, and exactly where.

use std::fmt;

use super::calls::Call;
use crate::device::MemoryRange;

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
    /// One command writes what another one uses, and nothing orders the two.
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

/// Returns the bytes of a range that lie behind the first `size` bytes of its memory.
pub(super) fn part_outside(range: &MemoryRange, size: u64) -> MemoryRange {
    let end = range.offset.saturating_add(range.size);
    let offset = range.offset.max(size);
    MemoryRange { offset, size: end.saturating_sub(offset), ..*range }
}
