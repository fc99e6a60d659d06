//! The only crate of vk-mem that calls Vulkan.

mod allocator;
mod debugging;
mod device;
mod driver;
mod host;
mod instance;
mod simulated;
mod transfer;

pub use allocator::DeviceAllocator;
pub use allocator::bind::BindPlace;
pub use allocator::create::Allocate;
pub use allocator::import::Import;
pub use allocator::recreate::{Relocation, layout_after};
pub use allocator::request::image_kind;
pub use allocator::sharing::read_allocation_chain;
pub use debugging::MemoryDebugger;
pub use debugging::finding::{Checked, Finding, FreedContents, Unchecked};
pub use debugging::parts::{Divided, Part, PartOrder, PartRange};
pub use debugging::target::{FillTarget, ImageContents, LeftOut, LeftOutPart};
pub use debugging::unfinished::{CheckStopped, UnfinishedCheck};
pub use device::callbacks::AllocationCallbacks;
pub use device::memory_locks::set_wait;
pub use device::open::{DeviceSelector, OpenOptions, enumerate};
pub use device::vulkan_device::VulkanDevice;
pub use device::wrap::{WrapOptions, WrappedTransferQueue};
pub use driver::binding_log::BindingLog;
pub use driver::chain::buffer_usage;
pub use driver::contract::{DeviceHandles, Driver, HostSide};
pub use driver::external::{ExternalMemory, ExternalSupport};
pub use driver::faults::{AddressBinding, FaultAddress, FaultInfo, VendorFault};
pub use driver::host_image_copy::{HostCopyPerformance, HostImageCopy, HostRegion};
pub use driver::resource_handle::ResourceHandle;
pub use driver::stopped::{Pause, Stopped};
pub use driver::submission::{
    ClearValue, LayoutChange, QUEUE_LOCK, QUEUE_UNLOCK, QueueLock, Submission, TransferCommand,
    first_texels, has_run, layout_aspects,
};
pub use driver::transfer_queue::{Sharing, TransferQueue};
pub use driver::{disjoint, external, format, image_format, kept_info, texel};
pub use host::cache_hints::{prefetch_bytes, prefetch_line, prefetching};
pub use host::copy::{Target, copy_bytes};
pub use host::gather::StridedArray;
pub use instance::info::PhysicalDeviceSummary;
pub use instance::open_error::OpenError;
pub use instance::validation::ValidationLog;
pub use simulated::driver::SimulatedDriver;
pub use simulated::pending::Completion;
pub use simulated::rules::RequirementRules;
pub use transfer::engine::{Between, Fill, TransferCounts, TransferEngine};
pub use transfer::image::{ImagePart, MipChain, UsedImage};
pub use transfer::image_host::{HostImageCall, HostLayouts, HostSource, HostTexels};
pub use transfer::job::{Job, Progress};
pub use transfer::layout::TrackedLayout;
pub use transfer::pieces::TransferCall;
pub use transfer::queue_choice::QueueChoice;
pub use transfer::region::{ImageRegion, copied_texels};
pub use transfer::staging::TransferDirection;
pub use transfer::together::SmallTransfers;
pub use transfer::uses::BufferPart;
