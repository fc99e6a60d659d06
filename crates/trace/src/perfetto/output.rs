//! [`Output`]: what a timeline consists of, for any format.

use std::io;

use crate::description::Description;
use crate::dictionary::{Dictionary, SiteId};

/// A track of a timeline. Tracks are numbered from 1 on, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackId(pub u64);

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackKind<'a> {
    /// Other tracks.
    Group,
    /// Bytes; those of one scale are drawn with the same height.
    Bytes { scale: &'a str },
    /// Slices and instants.
    Slices,
}

/// A value that is shown with a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    Text(&'a str),
}

/// How a slice or an instant is joined with others by an arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Starts(u64),
    Ends(u64),
}

/// A slice or an instant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark<'a> {
    pub name: &'a str,
    pub values: &'a [(&'static str, Value<'a>)],
    pub site: Option<SiteId>,
    pub flow: Option<Flow>,
}

/// An operation on a memory object or a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryOperation {
    /// Whether it is a memory object; otherwise a buffer or an image.
    pub is_memory: bool,
    pub is_image: bool,
    /// Whether it begins.
    pub begins: bool,
    pub size: u64,
    pub memory_type: u32,
    pub heap: u32,
    /// Numbers of memory object and allocation.
    pub memory: u64,
    pub object: u64,
    pub offset: u64,
}

/// Takes a timeline in the order of its times.
pub(super) trait Output {
    /// Begins the output.
    fn begin(&mut self, description: &Description) -> io::Result<()>;

    /// Declares a track inside another one.
    fn track(
        &mut self,
        id: TrackId,
        parent: Option<TrackId>,
        name: &str,
        kind: TrackKind<'_>,
    ) -> io::Result<()>;

    /// Sets a counter.
    fn counter(&mut self, track: TrackId, time: u64, value: u64) -> io::Result<()>;

    /// Begins a slice.
    fn slice(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()>;

    /// Ends the innermost slice of a track.
    fn end_slice(&mut self, track: TrackId, time: u64) -> io::Result<()>;

    /// Adds an instant.
    fn instant(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()>;

    /// Adds an operation of Vulkan's memory.
    fn memory(&mut self, time: u64, operation: &MemoryOperation) -> io::Result<()>;

    /// Ends the output.
    fn finish(&mut self) -> io::Result<()>;
}
