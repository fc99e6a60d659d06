//! [`Subject`]: the resource that memory is allocated for, which the engine itself need not know.

use std::cell::RefCell;

use super::order::is_active;

/// A buffer or an image, as numbers of Vulkan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Memory alone.
    #[default]
    None,
    /// `VkBufferCreateInfo`
    Buffer {
        /// Size in bytes.
        size: u64,
        /// `VkBufferCreateFlags`
        flags: u32,
        /// `VkBufferUsageFlags2`
        usage: u64,
        /// `VkSharingMode`
        sharing_mode: u32,
    },
    /// `VkImageCreateInfo`
    Image {
        /// `VkImageCreateFlags`
        flags: u32,
        /// `VkImageType`
        image_type: u32,
        /// `VkFormat`
        format: u32,
        /// Width, height and depth in texels.
        extent: [u32; 3],
        /// Number of mip levels.
        mip_levels: u32,
        /// Number of layers.
        array_layers: u32,
        /// `VkSampleCountFlagBits`
        samples: u32,
        /// `VkImageTiling`
        tiling: u32,
        /// `VkImageUsageFlags`
        usage: u64,
        /// `VkSharingMode`
        sharing_mode: u32,
        /// `VkImageLayout`
        initial_layout: u32,
    },
}

thread_local! {
    /// The resources that the next call of this thread allocates for.
    static SUBJECTS: RefCell<Vec<Subject>> = const { RefCell::new(Vec::new()) };
}

/// Says for what the next call of this thread allocates, for those who record it; nothing is done, and `subject` is not
/// called, if nobody does.
#[inline(always)]
pub fn set_subject(subject: impl FnOnce() -> Subject) {
    if is_active() {
        set(&mut std::iter::once_with(subject));
    }
}

/// Says for what the next call of this thread allocates, as [`set_subject`] does; one for each request.
#[inline(always)]
pub fn set_subjects<I: Iterator<Item = Subject>>(subjects: impl FnOnce() -> I) {
    if is_active() {
        set(&mut subjects());
    }
}

#[cold]
#[inline(never)]
fn set(subjects: &mut dyn Iterator<Item = Subject>) {
    SUBJECTS.with_borrow_mut(|kept| {
        kept.clear();
        for subject in subjects {
            // Without host memory the recording says less.
            if kept.try_reserve(1).is_ok() {
                kept.push(subject);
            }
        }
    });
}

/// Calls a function with the resources of the call that ends, and forgets them.
pub(crate) fn with_subjects<R>(run: impl FnOnce(&[Subject]) -> R) -> R {
    SUBJECTS.with_borrow_mut(|kept| {
        let result = run(kept);
        kept.clear();
        result
    })
}
