//! What a lost device tells, and which resources its faulting addresses belonged to.

use ash::vk::{self, Handle};
use pyo3::prelude::*;
use vkmem_vulkan::{AddressBinding, Driver, FaultAddress, ResourceHandle};

use super::Allocator;
use crate::errors::IntoPyResult;
use crate::interpreter::detach;
use crate::lifetime::fault_records::{End, Ended, Trace, address_of};
use crate::package::FAULT_REPORT;

/// How far before its start or behind its end a resource counts as the one that was meant, in bytes; as far as its
/// own size, if that is more.
const NEAR: u64 = 65_536;

/// How far beside a resource an address still points to it although something else has it, in bytes; and how far a
/// second neighbour may be in any case.
const BESIDE: u64 = 256;

/// How much farther than the nearest neighbour the second one may be.
const FARTHER: u64 = 16;

/// Class or `VkObjectType`, name, handle, first address, size in bytes, how it has ended, the frame index of the end,
/// call site, `VkDeviceMemory`, offset in that, memory type; None where that is unknown.
type OwnerRow = (
    String,
    Option<String>,
    u64,
    u64,
    u64,
    Option<&'static str>,
    Option<u64>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<u32>,
);

/// `VkDeviceFaultAddressTypeEXT`, the reported address and its precision, the lowest and the highest one that it
/// stands for, and what they belonged to, the most likely first.
type AddressRow = (i32, u64, u64, u64, u64, Vec<OwnerRow>);

/// A range of addresses, and whose it is or was.
struct Owner {
    trace: Trace,
    state: Option<&'static str>,
    frame: Option<u64>,
    /// Position among those that have ended, the newest first.
    age: usize,
}

impl Owner {
    /// Returns the first address and the one behind the last.
    fn range(&self) -> Option<(u64, u64)> {
        let start = self.trace.address?;
        Some((start, start.saturating_add(self.trace.size)))
    }

    /// Returns how many bytes lie between a range of addresses and this one; 0 if they overlap, `None` if it is too
    /// far away.
    fn distance(&self, (low, high): (u64, u64)) -> Option<u64> {
        let (start, end) = self.range()?;
        if start <= high && low < end {
            return Some(0);
        }
        let distance = if end <= low { low - end + 1 } else { start - high };
        (distance <= NEAR.max(self.trace.size)).then_some(distance)
    }
}

impl Allocator {
    /// Returns all that has, or had, an address: live resources, those that wait for their frame, and those that
    /// have ended.
    fn owners(&self) -> Vec<Owner> {
        let state = &self.state;
        let driver: &dyn Driver = &**state.device.driver;
        let mut owners = Vec::new();
        // With the GIL held none of them is closed, so what is open stays live; what is closed may be ending without
        // the GIL.
        let live = state.live.lock().all();
        for it in live.iter().filter(|it| !it.pins.is_closed()) {
            let (allocation, handle) = (it.allocation(), it.handle());
            let is_bound = handle == ResourceHandle::Memory || it.is_bound();
            if !is_bound || it.is_lost() {
                continue;
            }
            let place = (allocation.memory, allocation.offset);
            owners.push(Owner {
                trace: Trace {
                    handle,
                    // SAFETY: an open and bound resource, which nobody can close or move meanwhile.
                    address: unsafe { address_of(driver, handle, it.usage, place) },
                    size: it.host_size,
                    usage: it.usage,
                    memory: allocation.memory,
                    offset: allocation.offset,
                    memory_type_index: allocation.memory_type_index,
                    name: it.name().ok().flatten(),
                    origin: it.origin(),
                },
                state: None,
                frame: None,
                age: 0,
            });
        }
        for (handle, id, usage, is_bound, origin) in state.waiting_places() {
            let known = self.fault_records.as_ref().and_then(|it| it.find(id, handle));
            let Ok(place) = state.engine().info(id) else { continue };
            let usage = if is_bound { usage } else { 0 };
            let (memory, offset) = (place.memory, place.offset);
            // SAFETY: it is not released before its frame, nor without the GIL; it is bound if its usage is passed.
            let address = unsafe { address_of(driver, handle, usage, (memory, offset)) };
            let name = state.engine().name(id).ok().flatten();
            let trace = known.unwrap_or(Trace {
                handle,
                address,
                size: place.size,
                usage,
                memory,
                offset,
                memory_type_index: place.memory_type_index,
                name: None,
                origin,
            });
            let trace = Trace { name: name.or(trace.name), ..trace };
            owners.push(Owner { trace, state: Some("retired"), frame: None, age: 0 });
        }
        let ended = self.fault_records.as_ref().map_or_else(Vec::new, |it| it.ended());
        owners.extend(ended.into_iter().enumerate().map(|(age, Ended { trace, end, frame })| {
            let state = match end {
                End::Freed => "freed",
                End::Lost => "lost",
                End::Moved => "moved",
            };
            Owner { trace, state: Some(state), frame: Some(frame), age: age + 1 }
        }));
        owners
    }

    fn address_row(&self, py: Python<'_>, owners: &[Owner], fault: &FaultAddress) -> AddressRow {
        let bounds = fault.bounds();
        let mut near: Vec<(u64, &Owner)> = Vec::new();
        near.extend(owners.iter().filter_map(|it| Some((it.distance(bounds)?, it))));
        // The newest that an address belonged to is the most likely, then the nearest.
        near.sort_by_key(|(distance, it)| (*distance, it.age, it.trace.size));
        let hits = near.iter().take_while(|(distance, _)| *distance == 0).count();
        let bindings = self.state.device.driver.binding_log();
        let bindings = bindings.map_or_else(Vec::new, |it| it.covering(bounds.0, bounds.1));
        let is_known =
            |it: &&AddressBinding| near[..hits].iter().any(|(_, owner)| is_of(&owner.trace, it));
        let others: Vec<_> = bindings.iter().filter(|it| !is_known(it)).collect();
        let (memory, others): (Vec<&AddressBinding>, Vec<_>) =
            others.into_iter().partition(|it| it.object_type == vk::ObjectType::DEVICE_MEMORY);
        // Two neighbours are enough where none has the address, and only those that are about as likely.
        let most = match near.first() {
            Some((nearest, _)) if others.is_empty() => BESIDE.max(nearest.saturating_mul(FARTHER)),
            _ => BESIDE,
        };
        let neighbours = near[hits..].iter().take_while(|(distance, _)| *distance <= most);
        let kept = if hits > 0 { hits } else { neighbours.take(2).count() };
        let rows = near[..hits].iter().map(|(_, it)| self.own_row(py, it));
        let mut rows: Vec<OwnerRow> = rows.collect();
        rows.extend(others.into_iter().map(foreign_row));
        rows.extend(near[hits..kept].iter().map(|(_, it)| self.own_row(py, it)));
        rows.extend(memory.into_iter().map(foreign_row));
        (fault.address_type, fault.reported_address, fault.precision, bounds.0, bounds.1, rows)
    }

    fn own_row(&self, py: Python<'_>, owner: &Owner) -> OwnerRow {
        let Trace { handle, address, size, memory, offset, memory_type_index, .. } = owner.trace;
        let site = owner.trace.origin.map(|it| self.state.sites.lines(py, it.site).join("\n"));
        (
            handle.class().to_owned(),
            owner.trace.name.clone(),
            handle.raw(),
            address.unwrap_or_default(),
            size,
            owner.state,
            owner.frame,
            site,
            Some(memory.0),
            Some(offset),
            Some(memory_type_index),
        )
    }
}

/// Whether a binding is that of a resource of the allocator.
fn is_of(trace: &Trace, binding: &AddressBinding) -> bool {
    let object = match trace.handle {
        ResourceHandle::Buffer(buffer) => (vk::ObjectType::BUFFER, buffer.as_raw()),
        ResourceHandle::Image(image) => (vk::ObjectType::IMAGE, image.as_raw()),
        ResourceHandle::Memory => (vk::ObjectType::DEVICE_MEMORY, trace.memory.0),
    };
    object == (binding.object_type, binding.object) && trace.address == Some(binding.address)
}

fn foreign_row(binding: &AddressBinding) -> OwnerRow {
    (
        format!("{:?}", binding.object_type),
        binding.name.as_ref().map(|it| it.to_string()),
        binding.object,
        binding.address,
        binding.size,
        binding.is_unbound.then_some("destroyed"),
        None,
        None,
        None,
        None,
        None,
    )
}

#[pymethods]
impl Allocator {
    /// Tells why the device was lost, and which allocations the faulting addresses belonged to: living ones, and
    /// those that were freed. None if the device is not lost.
    ///
    /// Addresses are known where the device has `VK_EXT_device_fault`, which `Device.open` enables; `unavailable` of
    /// the report says so otherwise. They are matched with buffers that have `BufferUsage.SHADER_DEVICE_ADDRESS`. On a
    /// device that was opened with `fault_reports=True`, or with a `Debug` that watches memory, they are also matched
    /// with what was freed lately. With `fault_reports=True`, and where
    /// it has `VK_EXT_device_address_binding_report`, with images, all other buffers and objects of the program.
    ///
    /// A driver may say only in a call of the program that the device is lost (`VK_ERROR_DEVICE_LOST`): if this
    /// returns None then, `device_lost=True` asks the driver nonetheless. Vulkan forbids that for a device that is
    /// not lost.
    ///
    /// Raises `OutOfHostMemoryError` and the like if the driver's call fails, `UseAfterFreeError` (closed).
    #[pyo3(signature = (*, device_lost = false))]
    fn explain_fault<'py>(
        &self,
        py: Python<'py>,
        device_lost: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let _inside = self.state.enter(py)?;
        let driver = &**self.state.device.driver;
        let told = detach(py, || {
            if !device_lost && !driver.is_lost()? {
                return Ok(None);
            }
            // SAFETY: the device is lost, or the caller says so, as documented.
            unsafe { driver.fault_info() }.map(Some)
        });
        let Some(info) = told.map_err(vkmem_engine::Error::from).or_raise(py)? else {
            return Ok(None);
        };
        let is_available = info.is_some();
        let info = info.unwrap_or_default();
        let owners = if info.addresses.is_empty() { Vec::new() } else { self.owners() };
        let addresses: Vec<AddressRow> =
            info.addresses.iter().map(|it| self.address_row(py, &owners, it)).collect();
        let vendor: Vec<_> =
            info.vendor.into_iter().map(|it| (it.description, it.code, it.data)).collect();
        let has_records = self.fault_records.is_some();
        FAULT_REPORT
            .get(py)?
            .call1((is_available, info.description, addresses, vendor, has_records))
            .map(Some)
    }
}
