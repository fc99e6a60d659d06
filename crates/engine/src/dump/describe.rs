//! What a dump asks the owner of the allocations.

use std::sync::Arc;

use crate::handle::{AllocationId, PoolId};
use crate::request::ResourceKind;

/// What the owner of an allocation knows and the engine does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description<'a> {
    /// `VkBufferUsageFlags` or `VkImageUsageFlags`; 0 if not known.
    pub usage: u64,
    /// User data as a text; empty if there is none.
    pub custom_data: &'a str,
    /// Where it was created: an index into [`Describe::call_sites`].
    pub call_site: Option<u32>,
    /// Other resources in its memory.
    pub aliases: &'a [AliasDescription],
}

/// A resource in the memory of another one.
#[derive(Clone, Debug)]
pub struct AliasDescription {
    /// In the memory object, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// Buffer or image.
    pub kind: ResourceKind,
    /// `VkBufferUsageFlags` or `VkImageUsageFlags`.
    pub usage: u64,
    /// If it has one.
    pub name: Option<String>,
    /// User data as a text.
    pub custom_data: Option<Arc<str>>,
    /// As of an allocation.
    pub call_site: Option<u32>,
}

/// Looks allocations and pools up for a dump. No lock of the engine is held meanwhile.
pub trait Describe {
    /// What an allocation is for.
    fn allocation(&self, id: AllocationId) -> Description<'_>;

    /// The name of a pool.
    fn pool(&self, id: PoolId) -> Option<&str>;

    /// All places where something was created: one `file:line in function` a line, the innermost
    /// first.
    fn call_sites(&self) -> &[String] {
        &[]
    }

    /// Whether any allocation has aliases.
    fn has_aliases(&self) -> bool {
        false
    }
}

/// The name of a kind in VMA's dumps.
pub(super) fn type_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Unknown => "UNKNOWN",
        ResourceKind::Buffer => "BUFFER",
        ResourceKind::ImageUnknown => "IMAGE_UNKNOWN",
        ResourceKind::ImageLinear => "IMAGE_LINEAR",
        ResourceKind::ImageOptimal => "IMAGE_OPTIMAL",
    }
}
