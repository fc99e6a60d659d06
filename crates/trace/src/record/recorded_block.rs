//! [`RecordedBlock`] and [`RecordedBlocks`]: virtual blocks, and sets of them, that may be recorded.
//!
//! While nobody records them, each call costs a branch more than that of the engine.

use std::ops::Deref;

use vkmem_engine::{
    DefragmentationAlgorithm, Error, SlotKey, Statistics, VirtualAllocation, VirtualBlock,
    VirtualBlocks, VirtualMove, VirtualRequest,
};

use super::raw_space::SpaceInfo;
use super::recording::Recording;
use super::space::SpaceSource;

/// A virtual block that may be recorded.
pub struct RecordedBlock {
    engine: VirtualBlock,
    source: Option<Box<SpaceSource>>,
}

impl Deref for RecordedBlock {
    type Target = VirtualBlock;

    fn deref(&self) -> &VirtualBlock {
        &self.engine
    }
}

impl RecordedBlock {
    /// Wraps a block that nobody records yet.
    pub fn new(engine: VirtualBlock) -> Self {
        Self { engine, source: None }
    }

    /// Records the block from now on; what is allocated is told first, with the text of its custom data. Only a block
    /// that is new can be replayed exactly. Ends what recorded it until now.
    pub fn begin<'a>(
        &mut self,
        recording: &Recording,
        is_new: bool,
        custom_data: &dyn Fn(SlotKey) -> Option<&'a str>,
    ) {
        self.end();
        let info = SpaceInfo {
            size: Some(self.engine.size()),
            algorithm: self.engine.algorithm(),
            alignment: 1,
            margin: self.engine.margin(),
        };
        let source = recording.attach_space(None, info, !is_new);
        self.engine.visit_live(&mut |it| {
            source.existed(None, it);
            if let Some(text) = custom_data(it.key) {
                source.data_set(it.key, Some(text), true);
            }
        });
        self.source = Some(Box::new(source));
    }

    /// Ends the recording of the block, which goes on without it.
    pub fn end(&mut self) {
        if let Some(source) = self.source.take() {
            source.destroyed();
        }
    }

    /// Ends the recording of the block if it is this one.
    pub fn end_in(&mut self, recording: &Recording) {
        if self.source.as_ref().is_some_and(|it| it.is_in(recording.inbox())) {
            self.end();
        }
    }

    /// See [`VirtualBlock::reserve`].
    pub fn reserve(&mut self, allocations: usize) {
        self.engine.reserve(allocations);
    }

    /// See [`VirtualBlock::allocate`].
    #[inline]
    pub fn allocate(&mut self, request: &VirtualRequest) -> Result<VirtualAllocation, Error> {
        let made = self.engine.allocate(request);
        if let Some(source) = &self.source {
            match &made {
                Ok(it) => source.allocated(None, *request, *it),
                Err(error) => source.refused(*request, Some(error)),
            }
        }
        made
    }

    /// See [`VirtualBlock::allocate_many`].
    ///
    /// # Errors
    /// Those of [`VirtualBlock::allocate_many`].
    pub fn allocate_many(
        &mut self,
        requests: impl Iterator<Item = VirtualRequest>,
        mut placed: impl FnMut(VirtualAllocation),
    ) -> Result<(), Error> {
        let Some(source) = &self.source else { return self.engine.allocate_many(requests, placed) };
        let requests: Vec<VirtualRequest> = requests.collect();
        let (mut made, mut next) = (Vec::with_capacity(requests.len()), requests.iter());
        let done = self.engine.allocate_many(requests.iter().copied(), |it| {
            made.extend(next.next().map(|request| (*request, it)));
            placed(it);
        });
        let failed = done.as_ref().err().and_then(|error| Some((*next.next()?, error)));
        source.allocated_many(made, failed);
        done
    }

    /// See [`VirtualBlock::free`].
    ///
    /// # Errors
    /// Those of [`VirtualBlock::free`].
    #[inline]
    pub fn free(&mut self, key: SlotKey) -> Result<(), Error> {
        self.engine.free(key)?;
        if let Some(source) = &self.source {
            source.freed(0, key);
        }
        Ok(())
    }

    /// See [`VirtualBlock::free_many`].
    ///
    /// # Errors
    /// Those of [`VirtualBlock::free_many`].
    pub fn free_many(&mut self, keys: impl Iterator<Item = SlotKey> + Clone) -> Result<(), Error> {
        self.engine.free_many(keys.clone())?;
        if let Some(source) = &self.source {
            source.freed_many(keys.collect());
        }
        Ok(())
    }

    /// See [`VirtualBlock::clear`].
    pub fn clear(&mut self) {
        self.engine.clear();
        if let Some(source) = &self.source {
            source.cleared();
        }
    }

    /// See [`VirtualBlock::grow`].
    ///
    /// # Errors
    /// Those of [`VirtualBlock::grow`].
    pub fn grow(&mut self, size: u64) -> Result<(), Error> {
        self.engine.grow(size)?;
        if let Some(source) = &self.source {
            source.grown(size);
        }
        Ok(())
    }

    /// See [`VirtualBlock::defragment`].
    ///
    /// # Errors
    /// Those of [`VirtualBlock::defragment`].
    pub fn defragment(&mut self, way: DefragmentationAlgorithm) -> Result<Vec<VirtualMove>, Error> {
        let moves = self.engine.defragment(way)?;
        if let Some(source) = &self.source {
            source.defragmented(way, &moves);
        }
        Ok(moves)
    }

    /// See [`VirtualBlock::statistics`].
    pub fn statistics(&mut self) -> Statistics {
        if let Some(source) = &self.source
            && self.engine.has_unmerged()
        {
            source.merged();
        }
        self.engine.statistics()
    }

    /// Tells who records the block what custom data of an allocation show themselves as.
    pub fn note_data<'a>(&self, key: SlotKey, text: impl FnOnce() -> Option<&'a str>) {
        if let Some(source) = &self.source {
            source.data_set(key, text(), false);
        }
    }

    /// Returns whether anybody records the block.
    pub fn is_recorded(&self) -> bool {
        self.source.is_some()
    }
}

/// Several virtual blocks as one, which may be recorded.
pub struct RecordedBlocks {
    engine: VirtualBlocks,
    info: SpaceInfo,
    source: Option<Box<SpaceSource>>,
}

impl Deref for RecordedBlocks {
    type Target = VirtualBlocks;

    fn deref(&self) -> &VirtualBlocks {
        &self.engine
    }
}

impl RecordedBlocks {
    /// Creates an empty set that nobody records yet; `info` has no size.
    pub fn new(info: SpaceInfo) -> Self {
        let engine = VirtualBlocks::with_margin(info.algorithm, info.alignment, info.margin);
        Self { engine, info, source: None }
    }

    /// Records the set from now on in the recording of an allocator; what is allocated is told first.
    pub fn begin(&mut self, recording: &Recording, allocator: u16, is_new: bool) {
        self.end();
        let source = recording.attach_space(Some(allocator), self.info, !is_new);
        self.engine
            .visit(&mut |block, size| source.block_existed(block, size), &mut |block, it| {
                source.existed(Some(block), it)
            });
        self.source = Some(Box::new(source));
    }

    /// Ends the recording of the set, which goes on without it.
    pub fn end(&mut self) {
        if let Some(source) = self.source.take() {
            source.destroyed();
        }
    }

    /// See [`VirtualBlocks::add`].
    ///
    /// # Errors
    /// Those of [`VirtualBlocks::add`].
    pub fn add(&mut self, size: u64) -> Result<u32, Error> {
        let block = self.engine.add(size)?;
        if let Some(source) = &self.source {
            source.added_block(block, size);
        }
        Ok(block)
    }

    /// See [`VirtualBlocks::remove`].
    ///
    /// # Errors
    /// Those of [`VirtualBlocks::remove`].
    pub fn remove(&mut self, block: u32) -> Result<(), Error> {
        self.engine.remove(block)?;
        if let Some(source) = &self.source {
            source.removed_block(block);
        }
        Ok(())
    }

    /// See [`VirtualBlocks::allocate`].
    ///
    /// # Errors
    /// Those of [`VirtualBlocks::allocate`].
    pub fn allocate(
        &mut self,
        size: u64,
        alignment: u64,
    ) -> Result<Option<(u32, VirtualAllocation)>, Error> {
        let made = self.engine.allocate(size, alignment);
        if let Some(source) = &self.source {
            let request = VirtualRequest::new(size, alignment);
            match &made {
                Ok(Some((block, it))) => source.allocated(Some(*block), request, *it),
                Ok(None) => source.refused(request, None),
                Err(error) => source.refused(request, Some(error)),
            }
        }
        made
    }

    /// See [`VirtualBlocks::free`].
    ///
    /// # Errors
    /// Those of [`VirtualBlocks::free`].
    pub fn free(&mut self, block: u32, key: SlotKey) -> Result<bool, Error> {
        let is_empty = self.engine.free(block, key)?;
        if let Some(source) = &self.source {
            source.freed(block, key);
        }
        Ok(is_empty)
    }
}
