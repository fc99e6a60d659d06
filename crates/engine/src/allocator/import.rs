//! Import of external memory, and what of an allocation can be exported.

use crate::allocator::Allocator;
use crate::check::check_request;
use crate::error::Error;
use crate::handle::{Allocation, AllocationId};
use crate::pools::memory_object::MemoryObject;
use crate::recording::is_active;
use crate::request::{AllocationCreateFlags as Create, ImportRequest};
use crate::words::bytes;

/// The properties of a memory object that matter for exporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryObjectInfo {
    /// Size in bytes.
    pub size: u64,
    /// `VkExternalMemoryHandleTypeFlags` that it was allocated for.
    pub export_handle_types: u32,
    /// Whether it was imported.
    pub is_imported: bool,
    /// Whether it is dedicated to one resource (`VkMemoryDedicatedAllocateInfo`).
    pub names_resource: bool,
}

impl Allocator {
    /// Imports external memory as a dedicated allocation, which counts towards its heap.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an invalid request or memory type; [`Error::FeatureNotPresent`] if
    /// no memory type is possible; those of the driver call.
    pub fn import(&self, request: &ImportRequest) -> Result<Allocation, Error> {
        let made = self.import_untold(request);
        if is_active() {
            self.tell_import(request, &made);
        }
        made
    }

    fn import_untold(&self, request: &ImportRequest) -> Result<Allocation, Error> {
        let whole = &request.whole;
        check_request(whole)?;
        let invalid = |what: &str| Err(Error::InvalidArgument(what.into()));
        if whole.create_info.pool.is_some() {
            return invalid("imported memory lives in no pool");
        }
        if whole.create_info.flags.contains(Create::NEVER_ALLOCATE) {
            return invalid("imported memory is a memory object of its own: not NEVER_ALLOCATE");
        }
        if whole.create_info.export_handle_types != 0 {
            return invalid(
                "imported memory is exported where it was allocated: no export_handle_types",
            );
        }
        let end = request.offset.checked_add(request.size);
        if request.size == 0 || end.is_none_or(|end| end > whole.requirements.size) {
            return Err(Error::InvalidArgument(format!(
                "{} from offset {} on, of imported memory of {}",
                bytes(request.size),
                request.offset,
                whole.requirements.size
            )));
        }
        let memory_type_index = self.type_of_import(request)?;
        let pool = self.pools.defaults.get(memory_type_index as usize).ok_or_else(|| {
            Error::InvalidArgument(format!("the device has no memory type {memory_type_index}"))
        })?;
        pool.import(request)
    }

    fn type_of_import(&self, request: &ImportRequest) -> Result<u32, Error> {
        let info = self.device().info();
        let whole = &request.whole;
        let bits = whole.requirements.memory_type_bits;
        if let Some(index) = request.memory_type_index {
            if index as usize >= info.types.len() {
                let types = info.types.len();
                return Err(Error::InvalidArgument(format!("memory type {index} of {types}")));
            }
            if bits >> index & 1 == 0 {
                return Err(Error::InvalidArgument(format!(
                    "memory type {index} cannot be: the resource and the handle allow \
                     memoryTypeBits {bits:#x}"
                )));
            }
            return Ok(index);
        }
        let mut candidates = self.candidates(whole);
        let Some(best) = candidates.best(&self.types) else {
            return Err(candidates.none_found(info, bits, &whole.create_info));
        };
        candidates.strike(best);
        if request.is_opaque && candidates.best(&self.types).is_some() {
            return Err(Error::InvalidArgument(
                "the memory type of an opaque handle cannot be asked for: give that of the memory \
                 that was exported"
                    .into(),
            ));
        }
        Ok(best)
    }

    /// Returns the properties of the memory object that contains an allocation.
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the id is stale.
    pub fn memory_of(&self, id: AllocationId) -> Result<MemoryObjectInfo, Error> {
        let ((), memory, ..) = self.update_tag(id, |_| ())?;
        let MemoryObject { size, export_handle_types, is_imported, names_resource, .. } = *memory;
        Ok(MemoryObjectInfo { size, export_handle_types, is_imported, names_resource })
    }
}
