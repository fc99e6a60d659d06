//! Traces: reading, looking, replaying, writing. Thin: what people see is `vk_mem.trace`.

mod background;
pub(crate) mod column;
mod convert;
pub(crate) mod data;
mod files;
mod page;
pub(crate) mod replayed;
mod settings;
mod usage;
