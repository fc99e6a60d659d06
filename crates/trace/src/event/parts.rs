//! Parameters that only calls in traces have.

use crate::bytes::{Input, put};
use crate::dictionary::Dictionary;
use crate::error::Damage;
use crate::field::{Field, Output};
use crate::value::{ToValue, Value, fields};

/// An object that can have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// An allocation, by its number.
    Allocation(u32),
    /// A pool, by its number.
    Pool(u32),
    /// A memory object, by its number.
    Memory(u32),
    /// A virtual block or a set of them, by its number.
    Space(u32),
}

impl<'a> Field<'a> for Object {
    fn put(&self, out: &mut Output<'_>) {
        let (kind, number) = match self {
            Self::Allocation(number) => (0, number),
            Self::Pool(number) => (1, number),
            Self::Memory(number) => (2, number),
            Self::Space(number) => (3, number),
        };
        put(out.bytes, kind);
        number.put(out);
    }

    fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
        Ok(match input.number()? {
            0 => Self::Allocation(input.small()?),
            1 => Self::Pool(input.small()?),
            2 => Self::Memory(input.small()?),
            3 => Self::Space(input.small()?),
            _ => return input.wrong("no such kind of object"),
        })
    }
}

impl ToValue for Object {
    fn to_value(&self) -> Value<'_> {
        let (kind, number) = match self {
            Self::Allocation(number) => ("allocation", number),
            Self::Pool(number) => ("pool", number),
            Self::Memory(number) => ("memory", number),
            Self::Space(number) => ("space", number),
        };
        Value::Fields(vec![("kind", Value::Text(kind)), ("number", number.to_value())])
    }
}

/// Custom data of an allocation: VMA's `pUserData`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data<'a> {
    /// None.
    #[default]
    None,
    /// A number or an address of the program.
    Number(u64),
    /// A text, or how an object of the program shows itself.
    Text(&'a str),
}

impl<'a> Field<'a> for Data<'a> {
    fn put(&self, out: &mut Output<'_>) {
        match self {
            Self::None => put(out.bytes, 0),
            Self::Number(number) => {
                put(out.bytes, 1);
                number.put(out);
            }
            Self::Text(text) => {
                put(out.bytes, 2);
                text.put(out);
            }
        }
    }

    fn get(input: &mut Input<'a>, dictionary: &'a Dictionary) -> Result<Self, Damage> {
        Ok(match input.number()? {
            0 => Self::None,
            1 => Self::Number(input.number()?),
            2 => Self::Text(Field::get(input, dictionary)?),
            _ => return input.wrong("no such kind of custom data"),
        })
    }
}

impl ToValue for Data<'_> {
    fn to_value(&self) -> Value<'_> {
        match self {
            Self::None => Value::None,
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text),
        }
    }
}

/// Gives an enumeration without values its numbers as bytes, and the names that people see.
macro_rules! numbered {
    ($type:ident: $($name:ident = $number:literal $text:literal,)+) => {
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                Value::Text(match self { $(Self::$name => $text,)+ })
            }
        }

        impl<'a> Field<'a> for $type {
            fn put(&self, out: &mut Output<'_>) {
                let number = match self { $(Self::$name => $number,)+ };
                put(out.bytes, number);
            }

            fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
                Ok(match input.number()? {
                    $($number => Self::$name,)+
                    _ => return input.wrong(concat!("no such ", stringify!($type))),
                })
            }
        }
    };
}

/// What the events of a group do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Allocate all or none.
    Allocate,
    /// Free.
    Free,
    /// Make host writes visible to the device.
    Flush,
    /// Make device writes visible to the host.
    Invalidate,
    /// Allocate in a virtual block, up to the first that fails.
    VirtualAllocate,
    /// Free in a virtual block.
    VirtualFree,
    /// Defragment a virtual block.
    VirtualMove,
}

numbered! { GroupKind:
    Allocate = 0 "allocate",
    Free = 1 "free",
    Flush = 2 "flush",
    Invalidate = 3 "invalidate",
    VirtualAllocate = 4 "virtual_allocate",
    VirtualFree = 5 "virtual_free",
    VirtualMove = 6 "virtual_move",
}

/// How a move of a defragmentation ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveResult {
    /// It was copied, and the allocation is at its destination.
    Moved,
    /// The caller left it where it was.
    Ignored,
    /// The caller said that it was copied, but it stays where it was: it was mapped meanwhile.
    Kept,
    /// The caller gave it up.
    Destroyed,
    /// It was freed meanwhile.
    Gone,
}

numbered! { MoveResult:
    Moved = 0 "moved",
    Ignored = 1 "ignored",
    Kept = 2 "kept",
    Destroyed = 3 "destroyed",
    Gone = 4 "gone",
}

/// The options of a defragmentation that VMA 2.3 has and later versions do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostAndDeviceLimits {
    /// `VmaDefragmentationFlags`
    pub flags: u32,
    /// The most bytes that the host moves.
    pub max_host_bytes: u64,
    /// The most allocations that the host moves.
    pub max_host_moves: u32,
    /// The most bytes that the device moves.
    pub max_device_bytes: u64,
    /// The most allocations that the device moves.
    pub max_device_moves: u32,
    /// The `VkCommandBuffer`; 0 if there was none.
    pub command_buffer: u64,
}

impl<'a> Field<'a> for HostAndDeviceLimits {
    fn put(&self, out: &mut Output<'_>) {
        self.flags.put(out);
        self.max_host_bytes.put(out);
        self.max_host_moves.put(out);
        self.max_device_bytes.put(out);
        self.max_device_moves.put(out);
        self.command_buffer.put(out);
    }

    fn get(input: &mut Input<'a>, _: &'a Dictionary) -> Result<Self, Damage> {
        Ok(Self {
            flags: input.small()?,
            max_host_bytes: input.number()?,
            max_host_moves: input.small()?,
            max_device_bytes: input.number()?,
            max_device_moves: input.small()?,
            command_buffer: input.number()?,
        })
    }
}

impl ToValue for HostAndDeviceLimits {
    fn to_value(&self) -> Value<'_> {
        fields!(
            self; flags, max_host_bytes, max_host_moves, max_device_bytes, max_device_moves,
            command_buffer,
        )
    }
}
