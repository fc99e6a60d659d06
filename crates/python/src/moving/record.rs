//! `DefragmentationPass.record`: the copies of a pass, in a command buffer of the caller.

use std::sync::atomic::Ordering;

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::kept_info::KeptInfo;
use vkmem_vulkan::{Relocation, ResourceHandle, TransferCommand, layout_after};

use super::moves::{COPY, DefragmentationMove};
use super::passes::DefragmentationPass;
use crate::arguments::iterables;
use crate::arguments::numbers::live_handle;
use crate::errors::{IntoPyResult, invalid, use_after_free};

/// `VK_BUFFER_USAGE_TRANSFER_SRC_BIT` and `VK_IMAGE_USAGE_TRANSFER_SRC_BIT`
const TRANSFER_SRC: u64 = 1;

impl DefragmentationMove {
    /// Adds the commands that copy to its destination; or says why there are none.
    fn add_copies(&self, commands: &mut Vec<TransferCommand>) -> Result<(), String> {
        let resource = &self.object.get().resource;
        let (source, class) = (resource.handle(), resource.handle().class().to_lowercase());
        let what = resource.describe();
        if source == ResourceHandle::Memory {
            return Err(format!(
                "{what} is memory whose contents the library does not know: copy it yourself and leave its move \
                 out of moves=, or set 'ignore'"
            ));
        }
        let (Some(target), Some(kept)) =
            (self.run.handle_of(self.plan.destination.id), self.made())
        else {
            return Err(format!(
                "the move of {what} has no new handle to copy to: call destination.create_{class}() before, or \
                 set 'ignore'"
            ));
        };
        if resource.usage & TRANSFER_SRC == 0 {
            return Err(format!(
                "{what} was created without TRANSFER_SRC, so no command can copy it: copy it yourself and leave its \
                 move out of moves=, or set 'ignore'"
            ));
        }
        let layout = match &kept {
            KeptInfo::Buffer(_) => vk::ImageLayout::UNDEFINED,
            KeptInfo::Image(image) => resource.layout(image.initial_layout()).get(),
        };
        let destination = self.plan.destination;
        let pool = destination.id.pool_key();
        Relocation { kept: &kept, source, destination, pool, layout }.add_copies(target, commands);
        Ok(())
    }

    /// Notes the layout that the recorded copy has left a moved image in.
    pub(super) fn leave_layout(&self) {
        if let (true, Some(KeptInfo::Image(image))) = (self.is_recorded(), self.made()) {
            let layout = self.object.get().resource.layout(image.initial_layout());
            layout.set(layout_after(layout.get()));
        }
    }

    /// Whether there is something to record: it is to be copied, and was not recorded.
    fn is_open(&self) -> bool {
        let has_ended = self.object.get().resource.pins.is_closed();
        self.operation_number() == COPY && !self.is_recorded() && !has_ended
    }
}

impl DefragmentationPass {
    /// The moves of an argument; raises unless all of them are of this pass.
    fn chosen(&self, moves: &Bound<'_, PyAny>) -> PyResult<Vec<Py<DefragmentationMove>>> {
        let py = moves.py();
        let read = |item: &Bound<'_, PyAny>| -> PyResult<Py<DefragmentationMove>> {
            match item.cast::<DefragmentationMove>() {
                Ok(it) if self.moves.iter().any(|of_pass| of_pass.is(it)) => {
                    Ok(it.clone().unbind())
                }
                Ok(_) => Err(invalid(py, "moves has a move of another pass")),
                Err(_) => {
                    let kind = item.get_type().name()?;
                    let why = format!("moves must be moves of the pass, not {kind}");
                    Err(pyo3::exceptions::PyTypeError::new_err(why))
                }
            }
        };
        let mut chosen: Vec<Py<DefragmentationMove>> = Vec::new();
        for it in iterables::read(moves, "moves", self.moves.len(), read)? {
            // Twice in one list, it is copied once.
            if !chosen.iter().any(|other| other.is(&it)) {
                chosen.push(it);
            }
        }
        Ok(chosen)
    }

    /// Why there is nothing to record.
    fn nothing(&self, all: &[Py<DefragmentationMove>]) -> String {
        let count = |wanted: &dyn Fn(&DefragmentationMove) -> bool| {
            all.iter().filter(|it| wanted(it.get())).count()
        };
        let recorded = count(&|it| it.is_recorded());
        let others = count(&|it| !it.is_recorded() && it.operation_number() != COPY);
        let ended = all.len() - recorded - others;
        format!(
            "no move is left to be recorded: of {}, {recorded} recorded before, {others} set to 'ignore' or \
             'destroy', {ended} of resources that were destroyed",
            all.len()
        )
    }
}

#[pymethods]
impl DefragmentationPass {
    /// Writes the copies of this pass into a command buffer of the caller's, a `VkCommandBuffer` of any binding in
    /// the recording state and outside of a render pass; returns how many moves that were.
    ///
    /// Before it, `destination.create_buffer()` or `create_image()` makes the new handle of each move that is to be
    /// copied. Buffers are copied by `vkCmdCopyBuffer`, images by `vkCmdCopyImage` from the layout that
    /// `Image.layout` names, in which both are afterwards; of an image in UNDEFINED nothing is copied. Barriers
    /// against all commands before and after are written as well. Moves that are to be ignored or destroyed are left
    /// out, as are those that were recorded before; `moves` are the moves to record, by default all of the pass.
    ///
    /// Submit the command buffer to a queue whose family owns the resources, and end the pass when the device has
    /// executed it: the resources have their new handles then. Depth, stencil and multisampled images need a queue
    /// with GRAPHICS. The places of one pass never overlap.
    ///
    /// Raises `InvalidArgumentError` for a null handle, for a move without a new handle, of memory without a buffer
    /// or an image, or of a resource without TRANSFER_SRC, and if nothing is left to be recorded: then nothing was
    /// written. Raises `UseAfterFreeError` after the end of the pass.
    #[pyo3(signature = (command_buffer, moves = None))]
    fn record(
        &self,
        py: Python<'_>,
        command_buffer: &Bound<'_, PyAny>,
        moves: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let buffer = live_handle(command_buffer, "VkCommandBuffer", "command_buffer")?;
        let chosen = moves.map(|moves| self.chosen(moves)).transpose()?;
        let all = chosen.as_deref().unwrap_or(&self.moves);
        let Some(allocator) = self.moves.first().map(|it| it.get().allocator.clone()) else {
            return Ok(0);
        };
        allocator.change(py, || {
            let _inside = allocator.enter(py)?;
            if self.has_ended.load(Ordering::Relaxed) {
                return Err(use_after_free(
                    py,
                    "the pass has ended: its copies would come too late",
                ));
            }
            let open: Vec<&DefragmentationMove> =
                all.iter().map(Py::get).filter(|it| it.is_open()).collect();
            if open.is_empty() {
                return Err(invalid(py, self.nothing(all)));
            }
            let mut commands = Vec::new();
            for it in &open {
                it.add_copies(&mut commands).map_err(|why| invalid(py, why))?;
            }
            let driver = allocator.device_allocator.driver();
            // With the GIL, without which neither the handles nor the resources end.
            // SAFETY: the caller guarantees the command buffer, as documented; the handles are live, and the resources
            // have the sizes and layouts that the commands name.
            let recorded = unsafe { driver.record(vk::CommandBuffer::from_raw(buffer), &commands) };
            recorded.map_err(Error::from).or_raise(py)?;
            open.iter().for_each(|it| it.note_recorded());
            Ok(open.len())
        })
    }
}
