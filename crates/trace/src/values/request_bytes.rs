//! [`Request`] as bytes, for the dictionary.

use vkmem_engine::{
    AllocationCreateFlags, Evict, MemoryPropertyFlags, MemoryUsage, ResourceKind, ResourceUse,
};

use super::request::{Priority, Request};
use super::resource::{BufferInfo, ImageInfo, Resource};
use crate::bytes::{Input, put};
use crate::error::Damage;

/// The bits of the first number, in this order.
const ALIGNMENT: u64 = 1;
const TYPE_BITS: u64 = 1 << 1;
const PREFERS_DEDICATED: u64 = 1 << 2;
const REQUIRES_DEDICATED: u64 = 1 << 3;
const POOL: u64 = 1 << 4;
const PRIORITY: u64 = 1 << 5;
const HAS_NEXT: u64 = 1 << 6;
const FIRST_CHOICE_ONLY: u64 = 1 << 7;
const NAMES_RESOURCE: u64 = 1 << 8;
const ALL: u64 = (1 << 9) - 1;

impl Request {
    /// Appends the request: bits that say what it has, then its numbers.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let bits = [
            (self.alignment.is_some(), ALIGNMENT),
            (self.memory_type_bits.is_some(), TYPE_BITS),
            (self.prefers_dedicated, PREFERS_DEDICATED),
            (self.requires_dedicated, REQUIRES_DEDICATED),
            (self.pool.is_some(), POOL),
            (self.priority.is_some(), PRIORITY),
            (self.has_next, HAS_NEXT),
            (self.first_choice_only, FIRST_CHOICE_ONLY),
            (self.names_resource, NAMES_RESOURCE),
        ];
        put(out, bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
        let optional = [
            self.alignment,
            self.memory_type_bits.map(u64::from),
            self.pool.map(u64::from),
            self.priority.map(|it| u64::from(it.to_bits())),
        ];
        optional.into_iter().flatten().for_each(|it| put(out, it));
        let (evict, frames) = match self.evict {
            Evict::Idle => (0, None),
            Evict::Never => (1, None),
            Evict::LowerPriority => (2, None),
            Evict::Frames(frames) => (3, Some(frames)),
        };
        for number in [
            u64::from(self.usage as u32),
            u64::from(self.flags.bits()),
            u64::from(self.required_flags.bits()),
            u64::from(self.preferred_flags.bits()),
            u64::from(self.not_preferred_flags.bits()),
            u64::from(self.allowed_types),
            self.min_alignment,
            u64::from(self.export_handle_types),
            self.kind as u64,
            self.resource_use as u64,
            evict,
        ] {
            put(out, number);
        }
        frames.into_iter().for_each(|it| put(out, u64::from(it)));
        self.resource.put(out);
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Damage> {
        let bits = input.number()?;
        if bits & !ALL != 0 {
            return input.wrong("a request has parts that this version does not know");
        }
        let has = |bit| bits & bit != 0;
        let alignment = if has(ALIGNMENT) { Some(input.number()?) } else { None };
        let memory_type_bits = if has(TYPE_BITS) { Some(input.small()?) } else { None };
        let pool = if has(POOL) { Some(input.small()?) } else { None };
        let priority = if has(PRIORITY) { Some(input.small()?) } else { None };
        Ok(Self {
            alignment,
            memory_type_bits,
            prefers_dedicated: has(PREFERS_DEDICATED),
            requires_dedicated: has(REQUIRES_DEDICATED),
            pool,
            priority: priority.map(Priority::from_bits),
            has_next: has(HAS_NEXT),
            first_choice_only: has(FIRST_CHOICE_ONLY),
            names_resource: has(NAMES_RESOURCE),
            usage: match MemoryUsage::from_raw(input.small()?) {
                Some(usage) => usage,
                None => return input.wrong("no such memory usage"),
            },
            flags: AllocationCreateFlags::from_bits_retain(input.small()?),
            required_flags: MemoryPropertyFlags::from_bits_retain(input.small()?),
            preferred_flags: MemoryPropertyFlags::from_bits_retain(input.small()?),
            not_preferred_flags: MemoryPropertyFlags::from_bits_retain(input.small()?),
            allowed_types: input.small()?,
            min_alignment: input.number()?,
            export_handle_types: input.small()?,
            kind: kind_from(input)?,
            resource_use: match input.number()? {
                0 => ResourceUse::Unknown,
                1 => ResourceUse::Device,
                2 => ResourceUse::TransferOnly,
                _ => return input.wrong("no such use of a resource"),
            },
            evict: match input.number()? {
                0 => Evict::Idle,
                1 => Evict::Never,
                2 => Evict::LowerPriority,
                3 => Evict::Frames(input.small()?),
                _ => return input.wrong("no such rule of eviction"),
            },
            resource: Resource::get(input)?,
        })
    }
}

/// Takes the number of a [`ResourceKind`].
pub(crate) fn kind_from(input: &mut Input<'_>) -> Result<ResourceKind, Damage> {
    Ok(match input.number()? {
        0 => ResourceKind::Unknown,
        1 => ResourceKind::Buffer,
        2 => ResourceKind::ImageUnknown,
        3 => ResourceKind::ImageLinear,
        4 => ResourceKind::ImageOptimal,
        _ => return input.wrong("no such kind of resource"),
    })
}

impl Resource {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unknown => put(out, 0),
            Self::Buffer(BufferInfo { flags, usage, sharing_mode }) => {
                let numbers = [1, u64::from(*flags), *usage, u64::from(*sharing_mode)];
                numbers.into_iter().for_each(|it| put(out, it));
            }
            Self::Image(it) => {
                put(out, 2);
                let [width, height, depth] = it.extent;
                for number in [it.flags, it.image_type, it.format, width, height, depth] {
                    put(out, u64::from(number));
                }
                for number in [it.mip_levels, it.array_layers, it.samples, it.tiling] {
                    put(out, u64::from(number));
                }
                put(out, it.usage);
                put(out, u64::from(it.sharing_mode));
                put(out, u64::from(it.initial_layout));
            }
            Self::Stream(stream) => {
                put(out, 3);
                put(out, u64::from(*stream));
            }
        }
    }

    fn get(input: &mut Input<'_>) -> Result<Self, Damage> {
        Ok(match input.number()? {
            0 => Self::Unknown,
            1 => Self::Buffer(BufferInfo {
                flags: input.small()?,
                usage: input.number()?,
                sharing_mode: input.small()?,
            }),
            2 => Self::Image(ImageInfo {
                flags: input.small()?,
                image_type: input.small()?,
                format: input.small()?,
                extent: [input.small()?, input.small()?, input.small()?],
                mip_levels: input.small()?,
                array_layers: input.small()?,
                samples: input.small()?,
                tiling: input.small()?,
                usage: input.number()?,
                sharing_mode: input.small()?,
                initial_layout: input.small()?,
            }),
            3 => Self::Stream(input.small()?),
            _ => return input.wrong("no such kind of resource"),
        })
    }
}
