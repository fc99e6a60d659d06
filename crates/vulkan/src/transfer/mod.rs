//! Transfers between the host and buffers or images: rings of staging memory, what is submitted from them, and how
//! each transfer ends.

pub(crate) mod batch;
mod batch_images;
pub(crate) mod batches;
pub(crate) mod engine;
pub(crate) mod image;
pub(crate) mod image_host;
mod image_pieces;
pub(crate) mod job;
pub(crate) mod lane;
pub(crate) mod layout;
pub(crate) mod pieces;
pub(crate) mod pipeline;
pub(crate) mod queue_choice;
pub(crate) mod region;
pub(crate) mod ring;
mod segments;
pub(crate) mod staging;
pub(crate) mod together;
pub(crate) mod uses;
mod waits;
pub(crate) mod workers;
