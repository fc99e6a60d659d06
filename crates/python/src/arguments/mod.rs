//! Arguments of the caller: numbers, texts, lists, buffers, Vulkan structs.

pub(crate) mod arrays;
pub(crate) mod callback;
pub(crate) mod calls;
pub(crate) mod chains;
pub(crate) mod create_info;
pub(crate) mod create_infos;
pub(crate) mod fast_call;
pub(crate) mod image_layout;
pub(crate) mod iterables;
pub(crate) mod numbers;
pub(crate) mod options;
pub(crate) mod plain;
pub(crate) mod sequences;
pub(crate) mod text;
