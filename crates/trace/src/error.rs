//! [`ReadError`]: why a file cannot be read, and where in it; [`Damage`], its part inside binary formats.

use std::fmt;

/// The formats that traces are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Recordings of this library.
    VkMem,
    /// Recordings of the Vulkan Memory Allocator, versions 1.0 to 1.8.
    VmaCsv,
    /// Logs of the RAPIDS Memory Manager.
    RmmCsv,
    /// Memory snapshots of PyTorch.
    PyTorch,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::VkMem, Self::VmaCsv, Self::RmmCsv, Self::PyTorch];

    /// Returns the name in lower case: `vkmem`, `vma`, `rmm`, `pytorch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::VkMem => "vkmem",
            Self::VmaCsv => "vma",
            Self::RmmCsv => "rmm",
            Self::PyTorch => "pytorch",
        }
    }

    /// Returns what a file of the format is called in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::VkMem => "recording",
            Self::VmaCsv => "VMA recording",
            Self::RmmCsv => "RMM log",
            Self::PyTorch => "PyTorch memory snapshot",
        }
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A line of a text file, from 1.
    Line(u64),
    /// A byte of a binary file, from 0.
    Offset(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Offset(offset) => write!(f, "byte {offset}"),
        }
    }
}

/// The reason why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The format that the file was read as; `None` if its beginning matches none.
    pub format: Option<Format>,
    /// Where the error was found; `None` if it concerns the file as a whole.
    pub position: Option<Position>,
    /// What is wrong there.
    pub what: String,
}

impl ReadError {
    pub(crate) fn at_line(format: Format, line: u64, what: impl Into<String>) -> Self {
        Self { format: Some(format), position: Some(Position::Line(line)), what: what.into() }
    }

    pub(crate) fn of_damage(format: Format, damage: Damage) -> Self {
        let position = Some(Position::Offset(damage.offset));
        Self { format: Some(format), position, what: damage.what }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(format) = self.format {
            write!(f, "{}, ", format.noun())?;
        }
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ReadError {}

/// Bytes that mean nothing, and their offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub offset: u64,
    pub what: String,
}

impl Damage {
    pub fn new(offset: u64, what: impl Into<String>) -> Self {
        Self { offset, what: what.into() }
    }
}
