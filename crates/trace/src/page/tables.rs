//! Rows of the data while they are built.

/// What never ends.
pub(super) const OPEN: u32 = u32::MAX;

/// Why an allocation is at a place from then on. The numbers are those of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Begin {
    /// It was allocated.
    Made = 0,
    /// It was imported.
    Imported = 1,
    /// It existed before the recording.
    Existed = 2,
    /// It moved there, or its size changed.
    Moved = 3,
    /// The destination of a move was reserved.
    Reserved = 4,
}

/// Why an allocation is not at a place any more. The numbers are those of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// It is there when the trace ends.
    Open = 0,
    /// It was freed.
    Freed = 1,
    /// It was lost.
    Lost = 2,
    /// It moved away, its size changed, or the move to a destination ended.
    Moved = 3,
}

/// What a mark stands for. The numbers are those of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// A mark of the program.
    Text = 0,
    /// A call failed; its value are the bytes that it asked for.
    Failure = 1,
    /// An allocation was lost; its value are the bytes of it.
    Loss = 2,
    /// A frame began; its value is its index.
    Frame = 3,
    /// Empty blocks were given back; its value are their bytes.
    Trim = 4,
}

/// A memory object.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryRow {
    pub begin: u32,
    pub end: u32,
    pub number: u32,
    pub size: u64,
    /// Index of the type among the places.
    pub of_type: u32,
    pub allocator: u16,
    /// Index of the pool, once it is known.
    pub pool: Option<u32>,
    pub is_dedicated: bool,
}

/// An allocation at one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceRow {
    pub begin: u32,
    pub end: u32,
    pub cause: Begin,
    pub ending: End,
    pub allocation: u32,
    /// Index of the memory object plus 1.
    pub memory: u32,
    pub pool: u32,
    pub offset: u64,
    pub size: u64,
    /// Index of the place whose memory it shares, plus 1.
    pub base: u32,
    pub of_use: u32,
    pub name: u32,
    pub data: u32,
    pub site: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MarkRow {
    pub event: u32,
    pub kind: Mark,
    pub value: u64,
    pub text: u32,
    pub site: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RunRow {
    pub begin: u32,
    pub end: u32,
    pub number: u32,
    pub moves: u64,
    pub moved: u64,
    pub freed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BudgetRow {
    pub event: u32,
    pub heap: u32,
    pub budget: u64,
    pub usage: u64,
}
