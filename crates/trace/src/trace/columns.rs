//! [`Columns`]: the events of a trace, field by field.

use crate::event::{Kind, Row};

macro_rules! columns {
    ($($(#[$doc:meta])* $column:ident: $type:ty = $field:ident,)+) => {
        /// The events of a trace, field by field; entry i of each column belongs to event i. Numbers of objects and of
        /// the dictionary are `u32::MAX` for none.
        #[derive(Clone, Debug, Default)]
        pub struct Columns {
            kinds: Vec<u8>,
            $($column: Vec<$type>,)+
            payloads: Vec<u32>,
            lines: Vec<u32>,
        }

        impl Columns {
            $($(#[$doc])* pub fn $column(&self) -> &[$type] { &self.$column })+

            /// Appends an event whose payload begins at `payload`, or at `u32::MAX` for none.
            #[inline]
            pub(crate) fn push(&mut self, row: &Row, payload: u32) {
                self.kinds.push(row.kind as u8);
                $(self.$column.push(row.$field);)+
                self.payloads.push(payload);
            }

            /// Returns an event, and where its payload begins.
            #[inline]
            pub(crate) fn row(&self, index: usize) -> (Row, u32) {
                let row = Row { kind: self.kind(index), $($field: self.$column[index],)+ };
                (row, self.payloads[index])
            }

            /// Gives back the room for more events.
            pub(crate) fn shrink(&mut self) {
                self.kinds.shrink_to_fit();
                $(self.$column.shrink_to_fit();)+
                self.payloads.shrink_to_fit();
                self.lines.shrink_to_fit();
            }

            /// Sorts events by a key; those with equal keys stay as they are.
            pub(crate) fn sort<K: Ord>(&mut self, key: impl Fn(&Self, usize) -> K) {
                if self.is_sorted(&key) {
                    return;
                }
                let mut order: Vec<usize> = (0..self.len()).collect();
                order.sort_by_key(|&index| key(self, index));
                self.kinds = order.iter().map(|&index| self.kinds[index]).collect();
                $(self.$column = order.iter().map(|&index| self.$column[index]).collect();)+
                self.payloads = order.iter().map(|&index| self.payloads[index]).collect();
                if !self.lines.is_empty() {
                    self.lines = order.iter().map(|&index| self.lines[index]).collect();
                }
            }
        }
    };
}

columns! {
    /// Bit 0: the event tells what existed before the recording; bit 1: it is known where the allocation is; bit 2: the
    /// allocation has a memory object of its own.
    flags: u8 = flags,
    /// Indices into the device's memory types; 255 if it is not known.
    memory_types: u8 = memory_type,
    /// Numbers of allocators.
    allocators: u16 = allocator,
    /// Numbers of threads.
    threads: u32 = thread,
    /// Positions in the order of all calls.
    sequences: u64 = sequence,
    /// Times in ns since the start.
    times: u64 = time,
    /// Indices of frames.
    frames: u64 = frame,
    /// Numbers of call sites in the dictionary.
    sites: u32 = site,
    /// Numbers of allocations or virtual allocations; of pools for the events of those.
    objects: u32 = object,
    /// Numbers of requests in the dictionary.
    requests: u32 = request,
    /// Sizes in bytes, or in units of virtual blocks; 0 if it is not known.
    sizes: u64 = size,
    /// Sizes of buffers in bytes, 0 if it is not known or no buffer; blocks in their sets for virtual allocations.
    buffer_sizes: u64 = buffer_size,
    /// Offsets in memory objects or virtual blocks; of flushed ranges in their allocation.
    offsets: u64 = offset,
    /// Numbers of memory objects; of virtual blocks and sets for the events of those.
    memories: u32 = memory,
}

impl Columns {
    /// Kinds of events, by their numbers.
    pub fn kinds(&self) -> &[u8] {
        &self.kinds
    }

    /// Lines of a text file, from 1, that events were read from; empty for binary files.
    pub fn lines(&self) -> &[u32] {
        &self.lines
    }

    /// Notes the line of all events that have none yet.
    pub(crate) fn set_line(&mut self, line: u64) {
        self.lines.resize(self.len(), u32::try_from(line).unwrap_or(u32::MAX));
    }

    /// Returns the kind of an event.
    ///
    /// # Panics
    /// If there is no such event.
    #[inline]
    pub fn kind(&self, index: usize) -> Kind {
        Kind::from_number(self.kinds[index]).expect("it was the number of a kind")
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_sorted<K: Ord>(&self, key: impl Fn(&Self, usize) -> K) -> bool {
        (1..self.len()).all(|index| key(self, index - 1) <= key(self, index))
    }

    /// Numbers the events from 0 on, in the order in which they are.
    pub(crate) fn number(&mut self) {
        (0..).zip(&mut self.sequences).for_each(|(number, it)| *it = number);
    }
}
