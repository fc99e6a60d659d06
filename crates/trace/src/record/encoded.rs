//! [`Encoded`]: what the events of a recording become: blocks, or a timeline.

use super::order::Order;
use super::raw::{Raw, What};
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::event::Event;
use crate::format::Encoder;
use crate::perfetto::LiveTimeline;

/// What events become.
#[expect(clippy::large_enum_variant, reason = "a recording has one, in a box of its own")]
pub(super) enum Encoded {
    /// Blocks of a recording.
    Blocks(Encoder),
    /// Packets of Perfetto.
    Timeline(Timeline),
}

/// A timeline, and what its events refer to.
#[derive(Default)]
pub(super) struct Timeline {
    order: Order,
    dictionary: Dictionary,
    /// The timeline, once the device is known, if there is one.
    begun: Option<LiveTimeline>,
    events: u64,
}

impl Encoded {
    /// Appends an event.
    #[inline]
    pub fn push(&mut self, event: &Event<'_>) {
        match self {
            Self::Blocks(encoder) => encoder.push(event),
            Self::Timeline(it) => {
                it.events += 1;
                if let Some(timeline) = &mut it.begun {
                    timeline.event(event, &it.dictionary);
                }
            }
        }
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        match self {
            Self::Blocks(encoder) => encoder.events(),
            Self::Timeline(it) => it.events,
        }
    }

    /// Returns the dictionary, to define call sites in.
    pub fn dictionary_mut(&mut self) -> &mut Dictionary {
        match self {
            Self::Blocks(encoder) => encoder.dictionary_mut(),
            Self::Timeline(it) => &mut it.dictionary,
        }
    }
}

impl Timeline {
    /// Takes the events of a round, and leaves those in `events` whose turn it is. Begins when there is something to show:
    /// an allocator tells its device before its first event.
    pub fn turn(&mut self, events: &mut Vec<Raw>, description: &Description, round: Round) {
        self.order.turn(events, round != Round::Usual);
        let shows = |it: &Raw| !matches!(it.what, What::Space(..) | What::Site(..));
        if self.begun.is_none() && (round == Round::Last || events.iter().any(shows)) {
            self.begun = Some(LiveTimeline::begin(description));
        }
    }

    /// Returns the packets so far; with the last round the timeline ends.
    pub fn take(&mut self, round: Round) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &mut self.begun {
            Some(_) if round == Round::Last => {
                self.begun.take().into_iter().for_each(|it| it.finish(&mut bytes));
            }
            Some(timeline) => timeline.take(&mut bytes),
            None => {}
        }
        bytes
    }

    /// Returns whether events wait for the next round.
    pub fn holds_any(&self) -> bool {
        self.order.holds_any()
    }
}

/// What is encoded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// What was told. Events may wait for the next round.
    Usual,
    /// All that was told.
    Whole,
    /// All that was told, and then nothing more.
    Last,
}
