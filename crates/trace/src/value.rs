//! [`Value`]: fields of events in a form that says itself what it is, for those who know no types of this crate.

use vkmem_engine::{
    Algorithm, AllocatorOptions, DebugOptions, DefragmentationAlgorithm, EmptyBlockRetention,
    Evict, FailureFigures, MoveKind, PoolCreateInfo, QuarantineLimit, ResourceKind, ResourceUse,
    Strategy,
};

use crate::values::{
    BufferInfo, Failure, FailureReason, ImageInfo, Numbers, Placed, Request, Resource,
};

/// A field of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    /// Not there, or not known.
    None,
    /// Yes or no.
    Bool(bool),
    /// A number, a size, flags.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A number that may be no integer.
    Real(f64),
    /// A text, or the name of one of several values.
    Text(&'v str),
    /// Numbers of objects.
    Numbers(Numbers<'v>),
    /// Several values.
    List(Vec<Value<'v>>),
    /// Fields with their names.
    Fields(Vec<(&'static str, Value<'v>)>),
    /// A request, which is one of few: [`Request::fields`] has its fields.
    Request(&'v Request),
}

/// What can be shown as a [`Value`].
pub(crate) trait ToValue {
    /// Returns the value.
    fn to_value(&self) -> Value<'_>;
}

macro_rules! show {
    ($($type:ty: |$it:ident| $value:expr;)+) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                let $it = self;
                $value
            }
        }
    )+};
}

show! {
    bool: |it| Value::Bool(*it);
    u32: |it| Value::Number(u64::from(*it));
    u64: |it| Value::Number(*it);
    i32: |it| Value::Signed(i64::from(*it));
    f32: |it| Value::Real(f64::from(*it));
    f64: |it| Value::Real(*it);
    &str: |it| Value::Text(it);
    Numbers<'_>: |it| Value::Numbers(*it);
    Request: |it| Value::Request(it);
    Algorithm: |it| Value::Text(it.name());
    DefragmentationAlgorithm: |it| Value::Text(it.name());
    FailureReason: |it| Value::Text(it.name());
    MoveKind: |it| Value::Text(match it {
        MoveKind::Apart => "apart",
        MoveKind::Slide => "slide",
    });
    Strategy: |it| Value::Text(match it {
        Strategy::Balanced => "balanced",
        Strategy::MinMemory => "min_memory",
        Strategy::MinTime => "min_time",
        Strategy::MinOffset => "min_offset",
    });
    ResourceKind: |it| Value::Text(match it {
        ResourceKind::Unknown => "unknown",
        ResourceKind::Buffer => "buffer",
        ResourceKind::ImageUnknown => "image",
        ResourceKind::ImageLinear => "linear image",
        ResourceKind::ImageOptimal => "optimal image",
    });
    ResourceUse: |it| Value::Text(match it {
        ResourceUse::Unknown => "unknown",
        ResourceUse::Device => "device",
        ResourceUse::TransferOnly => "transfer",
    });
    Evict: |it| match it {
        Evict::Idle => Value::Text("idle"),
        Evict::Never => Value::Text("never"),
        Evict::LowerPriority => Value::Text("lower_priority"),
        Evict::Frames(frames) => Value::Number(u64::from(*frames)),
    };
    QuarantineLimit: |it| Value::Fields(match it {
        QuarantineLimit::Bytes(bytes) => vec![("bytes", Value::Number(*bytes))],
        QuarantineLimit::Frames(frames) => vec![("frames", Value::Number(*frames))],
    });
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::None, T::to_value)
    }
}

impl<T: ToValue> ToValue for Box<T> {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Value<'_> {
        Value::List(self.iter().map(T::to_value).collect())
    }
}

impl<const N: usize> ToValue for [u32; N] {
    fn to_value(&self) -> Value<'_> {
        Value::List(self.iter().map(u32::to_value).collect())
    }
}

/// Lists the fields of a record.
macro_rules! fields {
    ($it:expr; $($field:ident),+ $(,)?) => {
        Value::Fields(vec![$((stringify!($field), $it.$field.to_value()),)+])
    };
}
pub(crate) use fields;

show! {
    Failure<'_>: |it| fields!(it; reason, result, figures, message);
    FailureFigures: |it| fields!(
        it; size, memory_type_index, heap_index, heap_usage, heap_budget, can_never_succeed,
    );
    Placed: |it| fields!(it; memory_type, memory, offset, is_dedicated);
    PoolCreateInfo: |it| fields!(
        it; memory_type_index, block_size, min_block_count, max_block_count, algorithm,
        ignore_buffer_image_granularity, min_alignment, priority, export_handle_types, fallback,
        frames_in_use, debug,
    );
    EmptyBlockRetention: |it| fields!(it; count, bytes, share);
    DebugOptions: |it| fields!(it; margin, quarantine, min_granularity, always_dedicated);
    AllocatorOptions: |it| fields!(
        it; preferred_block_size, preferred_small_heap_block_size, heap_size_limits,
        empty_block_retention, exceed_allocation_count, prefetch, frames_in_use, debug,
    );
    BufferInfo: |it| fields!(it; flags, usage, sharing_mode);
    ImageInfo: |it| fields!(
        it; flags, image_type, format, extent, mip_levels, array_layers, samples, tiling, usage,
        sharing_mode, initial_layout,
    );
    Resource: |it| match it {
        Resource::Unknown => Value::None,
        Resource::Buffer(buffer) => Value::Fields(vec![("buffer", buffer.to_value())]),
        Resource::Image(image) => Value::Fields(vec![("image", image.to_value())]),
        Resource::Stream(stream) => Value::Fields(vec![("stream", stream.to_value())]),
    };
}

impl Request {
    /// Returns the fields with their names.
    pub fn fields(&self) -> Vec<(&'static str, Value<'_>)> {
        let number = |bits: u32| Value::Number(u64::from(bits));
        vec![
            ("alignment", self.alignment.to_value()),
            ("memory_type_bits", self.memory_type_bits.to_value()),
            ("prefers_dedicated", self.prefers_dedicated.to_value()),
            ("requires_dedicated", self.requires_dedicated.to_value()),
            ("usage", number(self.usage as u32)),
            ("flags", number(self.flags.bits())),
            ("required_flags", number(self.required_flags.bits())),
            ("preferred_flags", number(self.preferred_flags.bits())),
            ("not_preferred_flags", number(self.not_preferred_flags.bits())),
            ("allowed_types", number(self.allowed_types)),
            ("min_alignment", self.min_alignment.to_value()),
            ("pool", self.pool.to_value()),
            ("priority", self.priority.map_or(Value::None, |it| Value::Real(it.get().into()))),
            ("export_handle_types", number(self.export_handle_types)),
            ("has_next", self.has_next.to_value()),
            ("first_choice_only", self.first_choice_only.to_value()),
            ("evict", self.evict.to_value()),
            ("kind", self.kind.to_value()),
            ("resource_use", self.resource_use.to_value()),
            ("names_resource", self.names_resource.to_value()),
            ("resource", self.resource.to_value()),
        ]
    }
}

/// Returns the fields of allocator options with their names.
pub fn options_fields(options: &AllocatorOptions) -> Value<'_> {
    options.to_value()
}
