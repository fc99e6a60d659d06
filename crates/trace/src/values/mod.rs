//! What calls ask for and what they answer.

mod failure;
mod numbers;
mod request;
mod request_bytes;
mod resource;

pub use failure::{Failure, FailureReason};
pub use numbers::Numbers;
pub use request::{Placed, Priority, Request};
pub use resource::{BufferInfo, ImageInfo, Resource};
