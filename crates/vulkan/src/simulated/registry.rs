//! Exports of the simulated devices of this process.
//!
//! An exported file descriptor is one end of a socket pair. The other end stays here with the exported
//! payload: it reports when the last copy of the descriptor was closed.

use vkmem_engine::SimulatedPayload;

#[cfg(not(unix))]
pub(super) use elsewhere::{export, find, forget_closed};
#[cfg(unix)]
pub(super) use of_unix::{export, find, forget_closed};

/// Exported memory, with the properties that an import is checked against.
#[derive(Clone)]
pub(super) struct Exported {
    pub(super) payload: SimulatedPayload,
    pub(super) device_name: String,
    pub(super) handle_type: u32,
    pub(super) memory_type_index: u32,
    pub(super) size: u64,
    /// Whether it is dedicated to one resource.
    pub(super) dedicated: bool,
}

#[cfg(unix)]
mod of_unix {
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use vkmem_engine::DeviceError;
    use vkmem_engine::lock::{Mutex, rank};

    use super::Exported;

    type Identity = (u64, u64);

    type Table = HashMap<Identity, (UnixStream, Exported)>;

    static EXPORTED: Mutex<Option<Table>, rank::SimulatedExports> = Mutex::new(None);

    fn identity(fd: BorrowedFd<'_>) -> std::io::Result<Identity> {
        let metadata = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Returns a new descriptor of an export.
    pub(crate) fn export(exported: Exported) -> Result<i32, DeviceError> {
        forget_closed();
        let make = || {
            let (kept, given) = UnixStream::pair()?;
            kept.set_nonblocking(true)?;
            let identity = identity(given.as_fd())?;
            EXPORTED.lock().get_or_insert_default().insert(identity, (kept, exported));
            Ok::<i32, std::io::Error>(given.into_raw_fd())
        };
        make().map_err(|_| DeviceError::OutOfHostMemory)
    }

    /// Returns the export that a descriptor refers to.
    pub(crate) fn find(fd: u64) -> Result<Exported, DeviceError> {
        let invalid = DeviceError::InvalidExternalHandle;
        let fd = i32::try_from(fd).map_err(|_| invalid)?;
        // SAFETY: not -1, and the caller keeps it open during the call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let identity = identity(fd).map_err(|_| invalid)?;
        let exported = EXPORTED.lock();
        let found = exported.as_ref().and_then(|exported| exported.get(&identity));
        found.map(|(_, exported)| exported.clone()).ok_or(invalid)
    }

    /// Removes exports of which no descriptor is open.
    pub(crate) fn forget_closed() {
        let mut closed = Vec::new();
        if let Some(exported) = &mut *EXPORTED.lock() {
            closed.extend(
                exported.extract_if(|_, (kept, _)| matches!(kept.read(&mut [0; 64]), Ok(0))),
            );
        }
        // Outside of the lock: returning pages to the system takes time.
        drop(closed);
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use vkmem_engine::DeviceError;

    use super::Exported;

    /// This system has no file descriptors.
    pub(crate) fn export(_exported: Exported) -> Result<i32, DeviceError> {
        Err(DeviceError::FeatureNotPresent)
    }

    pub(crate) fn find(_fd: u64) -> Result<Exported, DeviceError> {
        Err(DeviceError::InvalidExternalHandle)
    }

    pub(crate) fn forget_closed() {}
}
