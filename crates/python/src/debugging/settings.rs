//! [`DebugSettings`]: what `vk_mem.Debug` asks for.

use vkmem_engine::{DebugOptions, QuarantineLimit};

/// What memory is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contents {
    /// VMA's bytes: 0xDC in new memory, 0xEF in freed memory.
    Pattern,
    /// Zero.
    Zero,
    /// All bits set, which is not a number in each format of floating-point numbers.
    Nan,
    /// One byte again and again.
    Byte(u8),
}

impl Contents {
    /// Returns the byte that new memory is filled with.
    pub fn of_new(self) -> u8 {
        self.byte(0xDC)
    }

    /// Returns the byte that freed memory is filled with.
    pub fn of_freed(self) -> u8 {
        self.byte(0xEF)
    }

    fn byte(self, pattern: u8) -> u8 {
        match self {
            Self::Pattern => pattern,
            Self::Zero => 0,
            Self::Nan => 0xFF,
            Self::Byte(byte) => byte,
        }
    }
}

/// When margins and quarantine are checked, besides on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckMode {
    /// Those of an allocation, when it is freed.
    #[default]
    Free,
    /// All, when a frame begins.
    Frame,
    /// All, in each call that changes something.
    Call,
}

/// What an allocator or a pool does to find faults of the program; all is off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugSettings {
    /// What new memory is filled with; `None`: it is left as it is.
    pub fill: Option<Contents>,
    /// What freed memory is filled with; `None`: it is left as it is, except in quarantine.
    pub fill_on_free: Option<Contents>,
    /// Bytes of the margins before and behind each allocation; the default of `detect_corruption` is in it already.
    pub margin: u64,
    /// Whether margins are filled and checked.
    pub detect_corruption: bool,
    /// How long freed memory is not given out again.
    pub quarantine: Option<QuarantineLimit>,
    /// When all is checked.
    pub check: CheckMode,
    /// The least `bufferImageGranularity` in bytes.
    pub min_granularity: Option<u64>,
    /// Whether each allocation gets a memory object of its own.
    pub always_dedicated: bool,
    /// Whether memory that was unmapped reads as a pattern; for simulated devices.
    pub poison_unmapped: bool,
    /// Whether memory that was not created for the host cannot be mapped.
    pub strict_host_access: bool,
}

impl DebugSettings {
    /// Returns the part that the engine does.
    pub fn engine_options(&self) -> DebugOptions {
        DebugOptions {
            margin: self.margin,
            quarantine: self.quarantine,
            reaches_contents: self.fill.or(self.fill_on_free).is_some(),
            min_granularity: self.min_granularity,
            always_dedicated: self.always_dedicated,
        }
    }

    /// Returns whether memory is written or checked: whether it takes more than the engine's part.
    pub fn watches_memory(&self) -> bool {
        self.fill.is_some()
            || self.fill_on_free.is_some()
            || self.quarantine.is_some()
            || self.checks_margins()
    }

    /// Returns whether margins are filled and checked.
    pub fn checks_margins(&self) -> bool {
        self.detect_corruption && self.margin > 0
    }

    /// Returns what freed memory is filled with: in quarantine the pattern, unless something else was asked for.
    pub fn contents_of_freed(&self) -> Option<Contents> {
        self.fill_on_free.or(self.quarantine.map(|_| Contents::Pattern))
    }
}
