//! [`Sink`]: where the blocks of a recording go.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::format::Encoder;

/// Blocks of the last events.
pub(super) struct Ring {
    /// The least number of events that are kept, once there were so many.
    least: u64,
    /// Blocks and the events in each.
    blocks: VecDeque<(Vec<u8>, u64)>,
    events: u64,
    /// The events that the encoder had pushed at the end of the last block.
    encoded: u64,
}

/// A ring has about so many blocks.
const BLOCKS: u64 = 32;

impl Ring {
    pub fn new(least: u64) -> Self {
        Self { least, blocks: VecDeque::new(), events: 0, encoded: 0 }
    }

    /// Takes complete blocks out of an encoder; ends the one that is being filled if that has many events.
    pub fn take(&mut self, encoder: &mut Encoder, all: bool) {
        let many = (self.least / BLOCKS).max(1);
        if all || encoder.events() - self.encoded >= many {
            encoder.end_block();
        }
        if encoder.complete() == 0 || encoder.pending() > 0 {
            return;
        }
        let mut block = Vec::new();
        encoder.take(&mut block);
        let count = encoder.events() - self.encoded;
        self.encoded = encoder.events();
        self.events += count;
        self.blocks.push_back((block, count));
        while let Some((_, oldest)) = self.blocks.front()
            && self.events - oldest >= self.least
        {
            self.events -= oldest;
            self.blocks.pop_front();
        }
    }

    /// Writes a recording of the events that are left.
    pub fn save(&self, head: &[u8], encoder: &Encoder, to: &mut dyn Write) -> io::Result<u64> {
        to.write_all(head)?;
        to.write_all(&encoder.definitions())?;
        for (block, _) in &self.blocks {
            to.write_all(block)?;
        }
        to.flush()?;
        Ok(self.events)
    }
}

/// Where blocks go.
pub(super) enum Sink {
    /// Bytes that are to be written, and whether the head was among them.
    Out {
        pending: Vec<u8>,
        has_head: bool,
    },
    Ring(Ring),
}
