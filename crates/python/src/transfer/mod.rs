//! Copies and fills by the device, and transfers between it and the host.

pub(crate) mod batch;
pub(crate) mod copies;
pub(crate) mod download;
pub(crate) mod explain;
pub(crate) mod image_direct;
pub(crate) mod image_download;
pub(crate) mod image_forms;
pub(crate) mod image_host;
pub(crate) mod image_place;
pub(crate) mod image_upload;
pub(crate) mod image_way;
pub(crate) mod in_flight;
pub(crate) mod jobs;
pub(crate) mod many;
pub(crate) mod mipmaps;
pub(crate) mod overlap;
pub(crate) mod register;
pub(crate) mod short_forms;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod transfers;
pub(crate) mod upload;
pub(crate) mod waiting;
pub(crate) mod watch;
pub(crate) mod way;
