//! External memory: whether the memory of a request can be shared, and the structures for that in create
//! infos.

use ash::vk;
use vk::ExternalMemoryHandleTypeFlags as Type;
use vkmem_engine::{AllocationCreateInfo, Error, MemoryImport, PoolCreateInfo, PoolId, PoolKey};

use crate::allocator::DeviceAllocator;
use crate::driver::chain;
use crate::driver::external::{
    EXTENSIONS, ExternalSupport, FD_TYPES, HOST_TYPES, handle_type_names,
};

/// Whether memory is exported or imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Export,
    Import,
}

impl DeviceAllocator {
    /// Returns the handle types that the memory of a request is to be exported as: those of the request
    /// and those of its pool.
    #[inline(always)]
    pub(crate) fn export_types(&self, create_info: &AllocationCreateInfo) -> Result<u32, Error> {
        match (create_info.export_handle_types, create_info.pool) {
            (0, None) => Ok(0),
            (asked, pool) => self.checked_export_types(asked, pool),
        }
    }

    fn checked_export_types(&self, asked: u32, pool: Option<PoolId>) -> Result<u32, Error> {
        if asked != 0 {
            self.check_export(asked)?;
        }
        let of_pool =
            pool.map_or(Ok(0), |pool| self.export_types_of_pool(PoolKey::Custom(pool)))?;
        Ok(asked | of_pool)
    }

    /// Returns the handle types that all memory of a pool can be exported as: what is bound to that memory has to be
    /// created for them.
    pub(crate) fn export_types_of_pool(&self, pool: PoolKey) -> Result<u32, Error> {
        match pool {
            PoolKey::Default(_) => Ok(0),
            PoolKey::Custom(pool) => Ok(self.engine.pool_info(pool)?.all_export_handle_types()),
        }
    }

    /// Returns an error unless the extensions of all these handle types are enabled.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`]
    pub fn check_handle_types(&self, handle_types: u32) -> Result<(), Error> {
        let missing = handle_types & !self.driver().external().handle_types();
        if missing == 0 {
            return Ok(());
        }
        let names = handle_type_names(missing);
        let extension = EXTENSIONS.iter().find(|(types, _)| types & missing != 0);
        Err(match extension {
            Some((_, extension)) => Error::FeatureNotPresent(format!(
                "memory of type {names} needs {extension}, which is not enabled on this device"
            )),
            None => Error::FeatureNotPresent(format!("handles of type {names} are not known here")),
        })
    }

    /// Reads the handle types of a `VkExportMemoryAllocateInfo` in the `memory_allocate_next` of a pool.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `export_handle_types` has others, as one memory object has one such
    /// structure.
    ///
    /// # Safety
    /// `memory_allocate_next` is 0 or the address of a valid chain.
    pub unsafe fn read_export_chain(&self, rules: &mut PoolCreateInfo) -> Result<(), Error> {
        // SAFETY: the caller guarantees a valid chain.
        rules.next_export_handle_types = unsafe { chain::export_types(rules.memory_allocate_next) };
        rules
            .next_export_handle_types
            .map_or(Ok(()), |said| check_export_chain(rules.export_handle_types, said))
    }

    /// Rejects a file descriptor that cannot be memory.
    pub(crate) fn check_import(&self, import: MemoryImport) -> Result<(), Error> {
        let MemoryImport { handle_type, handle } = import;
        self.check_handle_types(handle_type)?;
        if handle_type & FD_TYPES == 0 {
            return Ok(());
        }
        let fd = i32::try_from(handle).unwrap_or(-1);
        match self.driver().external().why_not_memory(fd) {
            None => Ok(()),
            Some(what) => {
                let name = handle_type_names(handle_type);
                Err(Error::InvalidArgument(format!("fd {fd} is {what}, not memory ({name})")))
            }
        }
    }

    /// Returns an error unless memory can be exported as all these handle types; host pointers can only
    /// be imported.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`]
    pub fn check_export(&self, handle_types: u32) -> Result<(), Error> {
        if handle_types & HOST_TYPES != 0 {
            let names = handle_type_names(handle_types & HOST_TYPES);
            return Err(Error::FeatureNotPresent(format!("{names} can only be imported")));
        }
        self.check_handle_types(handle_types)
    }

    /// Returns an error unless a kind of resource can be shared as these handle types; else whether it
    /// then needs dedicated memory.
    pub(crate) fn check_support(
        &self,
        what: &str,
        handle_types: u32,
        direction: Direction,
        ask: impl Fn(u32) -> Option<ExternalSupport>,
    ) -> Result<bool, Error> {
        let (needed, verb) = match direction {
            Direction::Export => (vk::ExternalMemoryFeatureFlags::EXPORTABLE, "exported"),
            Direction::Import => (vk::ExternalMemoryFeatureFlags::IMPORTABLE, "imported"),
        };
        let mut dedicated_only = false;
        for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| handle_types & bit != 0) {
            let Some(support) = ask(bit) else { continue };
            let features = vk::ExternalMemoryFeatureFlags::from_raw(support.features);
            if !features.contains(needed) {
                let name = handle_type_names(bit);
                return Err(Error::FeatureNotPresent(format!(
                    "this device has no {what} of this kind that can be {verb} as {name}"
                )));
            }
            let others = handle_types & !bit & !support.compatible_types;
            if others != 0 {
                let (name, others) = (handle_type_names(bit), handle_type_names(others));
                return Err(Error::FeatureNotPresent(format!(
                    "the memory of a {what} of this kind cannot be both {name} and {others}"
                )));
            }
            dedicated_only |= features.contains(vk::ExternalMemoryFeatureFlags::DEDICATED_ONLY);
        }
        Ok(dedicated_only)
    }

    /// Prepares a buffer whose memory is shared; returns whether it needs dedicated memory.
    ///
    /// `link` is chained to `info`, unless the caller's chain has such a structure already.
    ///
    /// # Safety
    /// The chain of `info` is valid, and `link` lives as long as `info` is used.
    pub(crate) unsafe fn share_buffer(
        &self,
        info: &mut vk::BufferCreateInfo<'_>,
        link: &mut vk::ExternalMemoryBufferCreateInfo<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<bool, Error> {
        if handle_types == 0 {
            return Ok(false);
        }
        // SAFETY: the caller guarantees a valid chain.
        let (flags, usage) = (info.flags, unsafe { chain::buffer_usage(info) });
        let external = self.driver().external();
        let dedicated_only = self.check_support("buffer", handle_types, direction, |bit| {
            external.buffer_support(flags, usage, bit)
        })?;
        // SAFETY: the caller guarantees a valid chain.
        if unsafe { chain::external_types_of_buffer(info) }.is_none() {
            link.handle_types = Type::from_raw(handle_types);
            link.p_next = info.p_next;
            info.p_next = (&raw const *link).cast();
        }
        Ok(dedicated_only)
    }

    /// Prepares an image whose memory is shared; returns whether it needs dedicated memory.
    ///
    /// # Safety
    /// The chain of `info` is valid, and `link` lives as long as `info` is used.
    pub(crate) unsafe fn share_image(
        &self,
        info: &mut vk::ImageCreateInfo<'_>,
        link: &mut vk::ExternalMemoryImageCreateInfo<'_>,
        handle_types: u32,
        direction: Direction,
    ) -> Result<bool, Error> {
        if handle_types == 0 {
            return Ok(false);
        }
        let external = self.driver().external();
        let dedicated_only = self.check_support("image", handle_types, direction, |bit| {
            external.image_support(info, bit)
        })?;
        // SAFETY: the caller guarantees a valid chain.
        if unsafe { chain::external_types_of_image(info) }.is_none() {
            link.handle_types = Type::from_raw(handle_types);
            link.p_next = info.p_next;
            info.p_next = (&raw const *link).cast();
        }
        Ok(dedicated_only)
    }
}

/// Rejects handle types in `export_handle_types` that the caller's chain does not have.
fn check_export_chain(asked: u32, said: u32) -> Result<(), Error> {
    match asked & !said {
        0 => Ok(()),
        more => Err(Error::InvalidArgument(format!(
            "export_handle_types={} is more than the VkExportMemoryAllocateInfo in \
             memory_allocate_next says, which is {}: name all handle types in one of them",
            handle_type_names(more),
            handle_type_names(said)
        ))),
    }
}

/// Copies the handle types of a `VkExportMemoryAllocateInfo` in the `memory_allocate_next` of an
/// allocation into its `export_handle_types`.
///
/// # Errors
/// [`Error::InvalidArgument`] if `export_handle_types` has others.
///
/// # Safety
/// `memory_allocate_next` is 0 or the address of a valid chain.
pub unsafe fn read_allocation_chain(create_info: &mut AllocationCreateInfo) -> Result<(), Error> {
    // SAFETY: the caller guarantees a valid chain.
    let Some(said) = (unsafe { chain::export_types(create_info.memory_allocate_next) }) else {
        return Ok(());
    };
    check_export_chain(create_info.export_handle_types, said)?;
    create_info.export_handle_types = said;
    Ok(())
}
