//! [`Field`]: a parameter of a call as bytes, and back.

use vkmem_engine::{
    Algorithm, AllocatorOptions, DebugOptions, DefragmentationAlgorithm, EmptyBlockRetention,
    FailureFigures, MoveKind, PoolCreateInfo, QuarantineLimit, ResourceKind, Strategy,
};

use crate::bytes::{Input, put, unzigzag, zigzag};
use crate::dictionary::Dictionary;
use crate::error::Damage;
use crate::values::{Failure, FailureReason, Numbers, Placed, Priority, Request};

/// Bytes under construction, and where texts and requests get their numbers.
pub(crate) struct Output<'o> {
    pub bytes: &'o mut Vec<u8>,
    pub dictionary: &'o mut Dictionary,
}

/// A value with a fixed form as bytes.
pub(crate) trait Field<'a>: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Output<'_>);

    /// Takes a value.
    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage>;
}

/// A number: LEB128.
macro_rules! numbers {
    ($($type:ty: $get:ident,)+) => {$(
        impl<'a> Field<'a> for $type {
            fn put(&self, out: &mut Output<'_>) {
                put(out.bytes, u64::from(*self));
            }

            fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
                input.$get()
            }
        }
    )+};
}

numbers! { u32: small, u64: number, }

/// One of several names: its number.
macro_rules! names {
    ($($type:ty: $all:expr,)+) => {$(
        impl<'a> Field<'a> for $type {
            fn put(&self, out: &mut Output<'_>) {
                put(out.bytes, *self as u64);
            }

            fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
                let number = input.number()?;
                let found = $all.into_iter().find(|it| *it as u64 == number);
                match found {
                    Some(found) => Ok(found),
                    None => input.wrong(concat!("no such ", stringify!($type))),
                }
            }
        }
    )+};
}

names! {
    bool: [false, true],
    Algorithm: Algorithm::ALL,
    DefragmentationAlgorithm: DefragmentationAlgorithm::ALL,
    FailureReason: FailureReason::ALL,
    MoveKind: [MoveKind::Apart, MoveKind::Slide],
    ResourceKind: [
        ResourceKind::Unknown,
        ResourceKind::Buffer,
        ResourceKind::ImageUnknown,
        ResourceKind::ImageLinear,
        ResourceKind::ImageOptimal,
    ],
    Strategy: [Strategy::Balanced, Strategy::MinMemory, Strategy::MinTime, Strategy::MinOffset],
}

/// Fields one after the other, in the order in which they are listed.
macro_rules! records {
    ($($type:ident$(<$life:lifetime>)? { $($field:ident),+ $(,)? } $(with $fixed:expr)?;)+) => {$(
        impl<'a> Field<'a> for $type$(<$life>)? {
            fn put(&self, out: &mut Output<'_>) {
                $(self.$field.put(out);)+
            }

            fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
                Ok(Self { $($field: Field::get(input, dictionary)?,)+ $(..$fixed)? })
            }
        }
    )+};
}

records! {
    Failure<'a> { reason, result, figures, message };
    FailureFigures {
        size, memory_type_index, heap_index, heap_usage, heap_budget, can_never_succeed,
    };
    Placed { memory_type, memory, offset, is_dedicated };
    PoolCreateInfo {
        memory_type_index, block_size, min_block_count, max_block_count, algorithm,
        ignore_buffer_image_granularity, min_alignment, priority, next_export_handle_types, fallback,
        export_handle_types, frames_in_use, debug,
    } with Self::default();
    EmptyBlockRetention { count, bytes, share };
    DebugOptions { margin, quarantine, min_granularity, always_dedicated, reaches_contents };
    AllocatorOptions {
        preferred_block_size, preferred_small_heap_block_size, heap_size_limits,
        empty_block_retention, exceed_allocation_count, prefetch, frames_in_use, debug,
    };
}

/// 0 and bytes, or 1 and frames.
impl<'a> Field<'a> for QuarantineLimit {
    fn put(&self, out: &mut Output<'_>) {
        let (kind, number) = match self {
            Self::Bytes(number) => (0, number),
            Self::Frames(number) => (1, number),
        };
        put(out.bytes, kind);
        number.put(out);
    }

    fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
        Ok(match input.number()? {
            0 => Self::Bytes(input.number()?),
            1 => Self::Frames(input.number()?),
            _ => return input.wrong("no such kind of quarantine"),
        })
    }
}

/// A number of either sign: zigzag.
impl<'a> Field<'a> for i32 {
    fn put(&self, out: &mut Output<'_>) {
        put(out.bytes, zigzag(i64::from(*self)));
    }

    fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
        let number = unzigzag(input.number()?);
        match i32::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) => input.wrong(format!("{number} where 32 bits are the most")),
        }
    }
}

/// The bits of a number of 32 bits.
impl<'a> Field<'a> for f32 {
    fn put(&self, out: &mut Output<'_>) {
        self.to_bits().put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        u32::get(input, dictionary).map(Self::from_bits)
    }
}

/// The bits of a number of 64 bits.
impl<'a> Field<'a> for f64 {
    fn put(&self, out: &mut Output<'_>) {
        self.to_bits().put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        u64::get(input, dictionary).map(Self::from_bits)
    }
}

impl<'a> Field<'a> for Priority {
    fn put(&self, out: &mut Output<'_>) {
        self.to_bits().put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        u32::get(input, dictionary).map(Self::from_bits)
    }
}

/// 0, or 1 and the value. Nothing, if an older version ended the fields before it.
impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    fn put(&self, out: &mut Output<'_>) {
        self.is_some().put(out);
        self.iter().for_each(|it| it.put(out));
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        if input.left() > 0 && bool::get(input, dictionary)? {
            T::get(input, dictionary).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<'a, T: Field<'a>> Field<'a> for Box<T> {
    fn put(&self, out: &mut Output<'_>) {
        (**self).put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        T::get(input, dictionary).map(Self::new)
    }
}

/// The count, then the values; each takes a byte at least.
impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    fn put(&self, out: &mut Output<'_>) {
        put(out.bytes, self.len() as u64);
        self.iter().for_each(|it| it.put(out));
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        let count = input.number()?;
        if count > input.left() as u64 {
            return input.wrong("a list is longer than the data");
        }
        (0..count).map(|_| T::get(input, dictionary)).collect()
    }
}

/// The number of the text.
impl<'a> Field<'a> for &'a str {
    fn put(&self, out: &mut Output<'_>) {
        let number = out.dictionary.text(self);
        number.put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        let number = input.small()?;
        match dictionary.texts().get(number as usize) {
            Some(text) => Ok(text),
            None => input.wrong(format!("text {number} is not defined")),
        }
    }
}

/// The number of the request.
impl<'a> Field<'a> for Request {
    fn put(&self, out: &mut Output<'_>) {
        let number = out.dictionary.request(self);
        number.put(out);
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        let number = input.small()?;
        match dictionary.requests().get(number as usize) {
            Some(request) => Ok(*request),
            None => input.wrong(format!("request {number} is not defined")),
        }
    }
}

impl<'a> Field<'a> for Numbers<'a> {
    fn put(&self, out: &mut Output<'_>) {
        self.encode(out.bytes);
    }

    fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
        Self::decode(input)
    }
}
