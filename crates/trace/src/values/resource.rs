//! [`Resource`]: what memory was asked for.

/// `VkBufferCreateInfo` without its size, which each event has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BufferInfo {
    /// `VkBufferCreateFlags`
    pub flags: u32,
    /// `VkBufferUsageFlags2`, which has the bits of `VkBufferUsageFlags`.
    pub usage: u64,
    /// `VkSharingMode`
    pub sharing_mode: u32,
}

/// `VkImageCreateInfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageInfo {
    /// `VkImageCreateFlags`
    pub flags: u32,
    /// `VkImageType`
    pub image_type: u32,
    /// `VkFormat`
    pub format: u32,
    /// Width, height and depth in texels.
    pub extent: [u32; 3],
    /// Number of mip levels.
    pub mip_levels: u32,
    /// Number of layers.
    pub array_layers: u32,
    /// `VkSampleCountFlagBits`
    pub samples: u32,
    /// `VkImageTiling`
    pub tiling: u32,
    /// `VkImageUsageFlags`
    pub usage: u64,
    /// `VkSharingMode`
    pub sharing_mode: u32,
    /// `VkImageLayout`
    pub initial_layout: u32,
}

/// The resource that memory is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Memory alone, or a resource that the trace does not describe.
    #[default]
    Unknown,
    /// A buffer.
    Buffer(BufferInfo),
    /// An image.
    Image(ImageInfo),
    /// Memory of a CUDA stream; streams are numbered in the order of their appearance, 0 is the default stream.
    Stream(u32),
}

impl Resource {
    /// Returns VmaReplay's class of the resource: `vertex/index/indirect buffer`, `storage buffer`, `uniform buffer`,
    /// `other buffer`, `depth/stencil image`, `attachment image`, `sampled image`, `other image`, `linear image`;
    /// `memory` or `stream` for what is neither.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unknown => "memory",
            Self::Stream(_) => "stream",
            Self::Buffer(BufferInfo { usage, .. }) => match usage {
                it if it & 0x1C0 != 0 => "vertex/index/indirect buffer",
                it if it & 0x28 != 0 => "storage buffer",
                it if it & 0x14 != 0 => "uniform buffer",
                _ => "other buffer",
            },
            Self::Image(ImageInfo { tiling: 1, .. }) => "linear image",
            Self::Image(ImageInfo { usage, .. }) => match usage {
                it if it & 0x20 != 0 => "depth/stencil image",
                it if it & 0xD0 != 0 => "attachment image",
                it if it & 0x4 != 0 => "sampled image",
                _ => "other image",
            },
        }
    }
}
