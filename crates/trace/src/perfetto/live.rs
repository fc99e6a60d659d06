//! [`LiveTimeline`]: a timeline of events that still come.

use std::collections::BTreeMap;

use super::TimelineOptions;
use super::packets::Packets;
use super::timeline::Timeline;
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::event::Event;
use crate::usage::Usage;

/// Turns events into a trace of Perfetto as they come. It keeps what exists, and nothing of what is over.
pub(crate) struct LiveTimeline {
    timeline: Timeline<Packets<Vec<u8>>>,
}

const TAKES_ALL: &str = "memory takes all bytes";

impl LiveTimeline {
    /// Begins with what is known of device and program.
    pub fn begin(description: &Description) -> Self {
        let usage = Usage::growing(description.device.as_ref());
        let (options, output) = (TimelineOptions::default(), Packets::new(Vec::new()));
        let timeline = Timeline::begin(description, options, usage, BTreeMap::new(), output);
        Self { timeline: timeline.expect(TAKES_ALL) }
    }

    /// Takes an event; events come in the order of their sequence numbers.
    pub fn event(&mut self, event: &Event<'_>, dictionary: &Dictionary) {
        self.timeline.event(event, dictionary).expect(TAKES_ALL);
    }

    /// Moves all packets so far to the end of `to`.
    pub fn take(&mut self, to: &mut Vec<u8>) {
        self.timeline.output_mut().take(to).expect(TAKES_ALL);
    }

    /// Ends all slices, and appends the last packets.
    pub fn finish(self, to: &mut Vec<u8>) {
        to.append(&mut self.timeline.finish().expect(TAKES_ALL).into_writer());
    }
}
