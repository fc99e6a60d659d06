//! Barriers that release parts of resources to another queue family, and acquire them there.

use std::ptr;

use ash::vk;

use crate::device::transfer_commands::Recorder;
use crate::driver::ownership::Owned;

/// The two families of a change of owner.
#[derive(Clone, Copy)]
pub(crate) struct Families {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Recorder<'_> {
    /// Records that a queue of the first family lets go of parts, after all commands before. A semaphore follows
    /// it.
    ///
    /// # Safety
    /// The command buffer is recording; the parts are live and in the layouts that they name.
    pub(crate) unsafe fn release(&self, owned: &Owned, families: Families) {
        let access = (vk::AccessFlags::MEMORY_WRITE, vk::AccessFlags::empty());
        // SAFETY: the caller guarantees the parts.
        unsafe { self.change_owner(owned, families, access) };
    }

    /// Records that a queue of the second family takes the parts, before all commands after. A semaphore that
    /// `ALL_COMMANDS` waits for stands before it.
    ///
    /// # Safety
    /// That of [`release`](Self::release).
    pub(crate) unsafe fn acquire(&self, owned: &Owned, families: Families) {
        let after = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        // SAFETY: the caller guarantees the parts.
        unsafe { self.change_owner(owned, families, (vk::AccessFlags::empty(), after)) };
    }

    /// # Safety
    /// That of [`release`](Self::release).
    unsafe fn change_owner(
        &self,
        owned: &Owned,
        Families { from, to }: Families,
        (before, after): (vk::AccessFlags, vk::AccessFlags),
    ) {
        if owned.is_empty() {
            return;
        }
        let buffers: Vec<_> = owned
            .buffers
            .iter()
            .map(|it| {
                vk::BufferMemoryBarrier::default()
                    .src_access_mask(before)
                    .dst_access_mask(after)
                    .src_queue_family_index(from)
                    .dst_queue_family_index(to)
                    .buffer(it.buffer)
                    .offset(it.offset)
                    .size(it.size)
            })
            .collect();
        let images: Vec<_> = owned
            .images
            .iter()
            .map(|it| {
                vk::ImageMemoryBarrier::default()
                    .src_access_mask(before)
                    .dst_access_mask(after)
                    .src_queue_family_index(from)
                    .dst_queue_family_index(to)
                    .old_layout(it.layout)
                    .new_layout(it.layout)
                    .image(it.image)
                    .subresource_range(it.range)
            })
            .collect();
        let count = |length: usize| u32::try_from(length).expect("fewer parts than memory holds");
        // SAFETY: the command buffer is recording; the caller guarantees the parts.
        unsafe {
            (self.device.functions.cmd_pipeline_barrier)(
                self.buffer,
                vk::PipelineStageFlags::ALL_COMMANDS,
                vk::PipelineStageFlags::ALL_COMMANDS,
                vk::DependencyFlags::empty(),
                0,
                ptr::null(),
                count(buffers.len()),
                buffers.as_ptr(),
                count(images.len()),
                images.as_ptr(),
            );
        }
    }
}
