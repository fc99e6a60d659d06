//! Events of traces.

mod call;
mod parts;
mod row;
mod timed;

pub use call::{Call, Kind};
pub use parts::{Data, GroupKind, HostAndDeviceLimits, MoveResult, Object};
pub(crate) use row::{DEDICATED, NO_TYPE, NONE, PAYLOAD, PLACED, Row, STATE};
pub use timed::Event;
