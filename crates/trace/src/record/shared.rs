//! [`Shared`]: what a recording, its thread and its sources share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Release};

use vkmem_engine::lock::{Mutex, rank};

use super::clock::{Clock, Stamps};
use super::encoded::{Encoded, Round};
use super::inbox::Inbox;
use super::raw::Raw;
use super::sink::Sink;
use super::writing::Writing;
use crate::description::Description;

/// A function that is called when an output fails.
#[derive(Clone)]
pub struct OnFailure(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFailure")
    }
}

/// What is encoded, and where it goes.
pub(super) struct State {
    pub writing: Writing,
    pub stamps: Stamps,
    pub sink: Sink,
    pub description: Description,
    /// The head of the file.
    pub head: Vec<u8>,
    pub spare: Vec<Raw>,
    /// Number of calls that were dropped.
    pub dropped: u64,
    pub error: Option<io::Error>,
    /// Number of allocators so far.
    pub allocators: u16,
    /// Number of virtual blocks and sets so far.
    pub spaces: u32,
}

/// What a recording, its thread and its sources share.
pub(super) struct Shared {
    pub inbox: Arc<Inbox>,
    pub state: Mutex<State, rank::Recording>,
    pub ends: AtomicBool,
    /// Rounds of the thread.
    pub written: AtomicU64,
    pub has_failed: AtomicBool,
    pub on_failure: Option<OnFailure>,
    pub clock: Clock,
}

impl Shared {
    /// Encodes what was told; returns the bytes to write.
    pub fn encode(&self, round: Round) -> Vec<u8> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (mut events, dropped) = self.inbox.take(std::mem::take(&mut state.spare));
        state.stamps.compare();
        events.iter_mut().for_each(|it| it.head.time = state.stamps.time(it.head.time));
        if dropped > 0 {
            state.dropped += dropped;
            let text = format!("{dropped} calls were not recorded");
            let number = events.last().map_or(0, |it| it.head.number);
            events.push(Raw::mark(number, state.stamps.now(), text));
        }
        if let Encoded::Timeline(timeline) = &mut state.writing.encoded {
            timeline.turn(&mut events, &state.description, round);
        }
        state.writing.write_all(&events);
        state.spare = events;
        // Not kept for long: what is in it may hold memory.
        state.spare.clear();
        let encoder = match &mut state.writing.encoded {
            Encoded::Blocks(encoder) => encoder,
            Encoded::Timeline(timeline) => return timeline.take(round),
        };
        match &mut state.sink {
            Sink::Ring(ring) => {
                ring.take(encoder, round == Round::Last);
                Vec::new()
            }
            Sink::Out { pending, has_head } => {
                // Whoever reads the file meanwhile sees all up to now.
                encoder.end_block();
                let mut bytes = std::mem::take(pending);
                if !*has_head && (encoder.complete() > 0 || round == Round::Last) {
                    *has_head = true;
                    bytes.extend_from_slice(&state.head);
                }
                encoder.take(&mut bytes);
                bytes
            }
        }
    }

    /// Returns whether events wait for the next round.
    pub fn holds_any(&self) -> bool {
        match &self.state.lock().writing.encoded {
            Encoded::Blocks(_) => false,
            Encoded::Timeline(timeline) => timeline.holds_any(),
        }
    }

    /// Notes that the output failed.
    pub fn fail(&self, error: io::Error) {
        self.state.lock().error = Some(error);
        self.inbox.close();
        self.has_failed.store(true, Release);
        if let Some(on_failure) = &self.on_failure {
            (on_failure.0)();
        }
    }
}
