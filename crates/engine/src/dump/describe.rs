//! [`Describe`]: what a dump queries from the owner of the allocations.

use std::sync::Arc;

use crate::handle::{AllocationId, PoolId};
use crate::request::ResourceKind;

/// Properties of an allocation that its owner stores and the engine does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description<'a> {
    /// `VkBufferUsageFlags` or `VkImageUsageFlags`; 0 if not known.
    pub usage: u64,
    /// Custom data as text; empty if there is none.
    pub custom_data: &'a str,
    /// The place in the program where it was created: an index into [`Describe::call_sites`].
    pub call_site: Option<u32>,
    /// Other resources in its memory.
    pub aliases: &'a [AliasDescription],
    /// The frame of its last use, if it may be lost.
    pub last_use: Option<u64>,
}

/// A resource in the memory of another one.
#[derive(Clone, Debug)]
pub struct AliasDescription {
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Kind of resource: buffer or image.
    pub kind: ResourceKind,
    /// `VkBufferUsageFlags` or `VkImageUsageFlags`.
    pub usage: u64,
    /// Name, if it has one.
    pub name: Option<String>,
    /// Custom data as text.
    pub custom_data: Option<Arc<str>>,
    /// The place in the program where it was created: an index into [`Describe::call_sites`].
    pub call_site: Option<u32>,
}

/// Describes allocations and pools for a dump. Called without any lock of the engine.
pub trait Describe {
    /// Returns the description of an allocation.
    fn allocation(&self, id: AllocationId) -> Description<'_>;

    /// Returns the name of a pool.
    fn pool(&self, id: PoolId) -> Option<&str>;

    /// Returns all call sites: one `file:line in function` per line, the innermost first.
    fn call_sites(&self) -> &[String] {
        &[]
    }

    /// Returns whether any allocation has aliases.
    fn has_aliases(&self) -> bool {
        false
    }
}

/// Returns the name of a kind in VMA's dumps.
pub(super) fn type_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Unknown => "UNKNOWN",
        ResourceKind::Buffer => "BUFFER",
        ResourceKind::ImageUnknown => "IMAGE_UNKNOWN",
        ResourceKind::ImageLinear => "IMAGE_LINEAR",
        ResourceKind::ImageOptimal => "IMAGE_OPTIMAL",
    }
}

/// Sorts the texts of call sites, so that a dump does not depend on the order in which they were found. Returns them,
/// each once, and the new numbers by the old ones.
pub fn sort_call_sites(texts: &[String]) -> (Vec<String>, Vec<u32>) {
    let mut sorted = texts.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let number = |text: &String| sorted.binary_search(text).unwrap_or(0) as u32;
    let numbers = texts.iter().map(number).collect();
    (sorted, numbers)
}
