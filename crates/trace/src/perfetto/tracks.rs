//! [`Tracks`]: the output of a timeline, whose tracks are numbered.

use std::io;

use super::output::{Output, TrackId, TrackKind};

/// The track of the process, in which all others are.
pub(super) const PROCESS: TrackId = TrackId(1);

/// An output and the number of its last track.
pub(super) struct Tracks<O> {
    pub output: O,
    last: u64,
}

impl<O: Output> Tracks<O> {
    /// Declares the track of the process.
    pub fn begin(mut output: O, name: &str) -> io::Result<Self> {
        output.track(PROCESS, None, name, TrackKind::Group)?;
        Ok(Self { output, last: PROCESS.0 })
    }

    /// Declares a track.
    pub fn declare(
        &mut self,
        parent: TrackId,
        name: &str,
        kind: TrackKind<'_>,
    ) -> io::Result<TrackId> {
        self.last += 1;
        let id = TrackId(self.last);
        self.output.track(id, Some(parent), name, kind)?;
        Ok(id)
    }
}
