//! The lines that allocate, and those that free many.

use vkmem_engine::{
    AllocationCreateFlags, MemoryPropertyFlags, MemoryUsage, ResourceKind, ResourceUse,
};

use super::super::lines::Fields;
use super::calls::{Calls, Head, user_data};
use crate::event::{Call, GroupKind};
use crate::trace::TraceBuilder;
use crate::values::{BufferInfo, Failure, ImageInfo, Request, Resource};

/// `VMA_ALLOCATION_CREATE_USER_DATA_COPY_STRING_BIT`
pub(crate) const COPY_STRING: u32 = 0x20;
/// `VMA_ALLOCATION_CREATE_STRATEGY_WORST_FIT_BIT` of VMA 2.3.
const WORST_FIT: u32 = 0x2_0000;
/// `VMA_ALLOCATION_CREATE_STRATEGY_FIRST_FIT_BIT` of VMA 2.3.
pub(crate) const FIRST_FIT: u32 = 0x4_0000;

impl Calls {
    /// Takes the columns of a `VmaAllocationCreateInfo` into a request.
    fn create_info(
        &self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
        request: Request,
    ) -> Result<Request, String> {
        let flags: u32 = fields.number()?;
        let first_fit = match flags & FIRST_FIT {
            0 => AllocationCreateFlags::empty(),
            _ => AllocationCreateFlags::STRATEGY_MIN_TIME,
        };
        let flags = AllocationCreateFlags::from_bits_retain(flags & !(WORST_FIT | FIRST_FIT));
        let usage: u32 = fields.number()?;
        let usage = MemoryUsage::from_raw(usage).ok_or(format!("no memory usage is {usage}"))?;
        let mut property_flags = || fields.number().map(MemoryPropertyFlags::from_bits_retain);
        let (required_flags, preferred_flags) = (property_flags()?, property_flags()?);
        let allowed_types = fields.number()?;
        let pool = fields.pointer()?;
        Ok(Request {
            flags: flags | first_fit,
            usage,
            required_flags,
            preferred_flags,
            allowed_types,
            pool: if pool == 0 { None } else { self.pool(trace, head, pool) },
            ..request
        })
    }

    /// Takes the last columns, allocation and user data.
    fn allocate(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
        request: Request,
        size: Option<u64>,
        buffer_size: Option<u64>,
    ) -> Result<(), String> {
        let address = fields.pointer()?;
        let has_text = request.flags.bits() & COPY_STRING != 0;
        let (name, data) = user_data(fields.rest(), has_text);
        if address == 0 {
            let failure = Some(Box::new(Failure::default()));
            let call = Call::AllocateFailed { request, size, buffer_size, failure };
            return self.push(trace, head, call);
        }
        let allocation = self.add(trace, head, address, has_text);
        let call =
            Call::Allocate { allocation, request, size, buffer_size, placed: None, name, data };
        self.push(trace, head, call)
    }

    pub(super) fn create_buffer(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let flags = fields.number()?;
        let size = fields.number()?;
        let (usage, sharing_mode) = (fields.number()?, fields.number()?);
        let request = Request {
            kind: ResourceKind::Buffer,
            resource_use: use_of(usage),
            resource: Resource::Buffer(BufferInfo { flags, usage, sharing_mode }),
            ..Request::default()
        };
        let request = self.create_info(trace, head, fields, request)?;
        self.allocate(trace, head, fields, request, None, Some(size))
    }

    pub(super) fn create_image(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let image = ImageInfo {
            flags: fields.number()?,
            image_type: fields.number()?,
            format: fields.number()?,
            extent: [fields.number()?, fields.number()?, fields.number()?],
            mip_levels: fields.number()?,
            array_layers: fields.number()?,
            samples: fields.number()?,
            tiling: fields.number()?,
            usage: fields.number()?,
            sharing_mode: fields.number()?,
            initial_layout: fields.number()?,
        };
        let is_linear = image.tiling == 1;
        let request = Request {
            kind: if is_linear { ResourceKind::ImageLinear } else { ResourceKind::ImageOptimal },
            resource_use: use_of(image.usage),
            resource: Resource::Image(image),
            ..Request::default()
        };
        let request = self.create_info(trace, head, fields, request)?;
        self.allocate(trace, head, fields, request, None, None)
    }

    pub(super) fn allocate_memory(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        function: &str,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let size = Some(fields.number()?);
        let mut request = Request {
            alignment: Some(fields.number()?),
            memory_type_bits: Some(fields.number()?),
            ..Request::default()
        };
        let kind = match function {
            "vmaAllocateMemoryForBuffer" => Some(ResourceKind::Buffer),
            "vmaAllocateMemoryForImage" => Some(ResourceKind::ImageUnknown),
            _ => None,
        };
        if let Some(kind) = kind {
            request.kind = kind;
            request.requires_dedicated = fields.number::<u32>()? != 0;
            request.prefers_dedicated = fields.number::<u32>()? != 0;
        }
        let request = self.create_info(trace, head, fields, request)?;
        if function != "vmaAllocateMemoryPages" {
            return self.allocate(trace, head, fields, request, size, None);
        }
        let addresses = fields.pointers()?;
        let has_text = request.flags.bits() & COPY_STRING != 0;
        let (name, data) = user_data(fields.rest(), has_text);
        if addresses.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(addresses.len()).map_err(|_| "too many allocations")?;
        self.push(trace, head, Call::Group { kind: GroupKind::Allocate, count })?;
        for (index, &address) in addresses.iter().enumerate() {
            let call = if address == 0 {
                let failure = (index == 0).then(Box::default);
                Call::AllocateFailed { request, size, buffer_size: None, failure }
            } else {
                let allocation = self.add(trace, head, address, has_text);
                let (buffer_size, placed) = (None, None);
                Call::Allocate { allocation, request, size, buffer_size, placed, name, data }
            };
            self.push(trace, head, call)?;
        }
        Ok(())
    }

    pub(super) fn free_pages(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        addresses: &[u64],
    ) -> Result<(), String> {
        let mut found = Vec::new();
        for address in addresses {
            found.extend(self.find(trace, head, *address));
            self.allocations.remove(address);
        }
        if found.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(found.len()).map_err(|_| "too many allocations")?;
        self.push(trace, head, Call::Group { kind: GroupKind::Free, count })?;
        for it in found {
            self.push(trace, head, Call::Free { allocation: it.number })?;
        }
        Ok(())
    }
}

/// Buffers and images have the two usages of transfers in the same bits.
fn use_of(usage: u64) -> ResourceUse {
    match usage {
        0 => ResourceUse::Unknown,
        1..=3 => ResourceUse::TransferOnly,
        _ => ResourceUse::Device,
    }
}
