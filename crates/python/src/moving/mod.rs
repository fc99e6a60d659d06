//! Moves of resources: new handles, copies by the device, and what is left until nothing can use it.

pub(crate) mod by_host;
pub(crate) mod callbacks;
pub(crate) mod mover;
pub(crate) mod moves;
pub(crate) mod obstacle;
pub(crate) mod passes;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod room;
pub(crate) mod run;
pub(crate) mod scratch;
pub(crate) mod slide;
pub(crate) mod step;
