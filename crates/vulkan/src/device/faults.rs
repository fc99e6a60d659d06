//! Why a device was lost (`VK_EXT_device_fault`), and what its addresses were bound to
//! (`VK_EXT_device_address_binding_report`).

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{CallError, DeviceError};

use crate::device::logical::{LogicalDevice, check};
use crate::driver::binding_log::BindingLog;
use crate::driver::faults::{AddressBinding, FaultAddress, FaultInfo, VendorFault};
use crate::instance::functions::{DebugUtilsFunctions, FaultFunctions};

const GET_FAULT_INFO: &str = "vkGetDeviceFaultInfoEXT";

/// Whether the device is lost, and the functions that explain why.
#[derive(Default)]
pub(crate) struct Faults {
    /// Whether a call of this library was told so.
    is_lost: AtomicBool,
    /// `vkGetDeviceFaultInfoEXT`, with the feature `deviceFault`.
    pub(crate) functions: Option<FaultFunctions>,
    /// What is needed to note bindings, with the feature `reportAddressBinding`.
    pub(crate) bindings: Option<BindingReports>,
    /// Whether the device was opened or wrapped with `fault_reports`.
    pub(crate) are_kept: bool,
}

/// A messenger that is told what addresses are bound to.
pub(crate) struct BindingReports {
    functions: DebugUtilsFunctions,
    log: Arc<BindingLog>,
    messenger: Mutex<Messenger, rank::BindingMessenger>,
}

/// The messenger, if there is one, and how many want it.
#[derive(Default)]
struct Messenger {
    handle: vk::DebugUtilsMessengerEXT,
    users: u64,
}

impl Drop for BindingReports {
    fn drop(&mut self) {
        // A wrapped instance may have gone without notice, or lives on with a messenger that refers to the log.
        if self.messenger.get_mut().handle != vk::DebugUtilsMessengerEXT::null() {
            std::mem::forget(self.log.clone());
        }
    }
}

impl Faults {
    /// Prepares for a device that is not lost; `are_kept` with `fault_reports`.
    pub(crate) fn new(are_kept: bool) -> Self {
        Self { are_kept, ..Self::default() }
    }

    /// Notes that the device is lost if a call says so.
    pub(crate) fn watch<T>(&self, result: Result<T, CallError>) -> Result<T, CallError> {
        result.inspect_err(|error| self.note(error.result))
    }

    /// Notes that the device is lost if that is the error of a call.
    pub(crate) fn note(&self, error: DeviceError) {
        if error == DeviceError::DeviceLost {
            self.is_lost.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether a call was told that the device is lost.
    pub(crate) fn is_known_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Returns whether the device is lost. If no call was told so, the driver is asked by the status of a fence that
    /// nothing signals.
    pub(crate) fn is_lost(&self, device: &LogicalDevice) -> Result<bool, CallError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let (functions, mut fence) = (&device.functions, vk::Fence::null());
        let info = vk::FenceCreateInfo::default();
        // SAFETY: the device is live; the create info and the pointer are valid for the call.
        let created = unsafe {
            (functions.create_fence)(device.handle, &info, device.callbacks(), &mut fence)
        };
        if let Err(error) = self.watch(checked(created, "vkCreateFence")) {
            return if self.is_lost.load(Ordering::Relaxed) { Ok(true) } else { Err(error) };
        }
        // SAFETY: just created, and destroyed below.
        let status = unsafe { (functions.get_fence_status)(device.handle, fence) };
        // SAFETY: created above; nothing was submitted with it.
        unsafe { (functions.destroy_fence)(device.handle, fence, device.callbacks()) };
        let status = self.watch(checked(status, "vkGetFenceStatus"));
        match status {
            Err(error) if error.result != DeviceError::DeviceLost => Err(error),
            status => Ok(status.is_err()),
        }
    }

    /// Returns what the device tells about its faults.
    ///
    /// # Safety
    /// The device is lost.
    pub(crate) unsafe fn info(
        &self,
        device: &LogicalDevice,
    ) -> Result<Option<FaultInfo>, CallError> {
        let Some(functions) = &self.functions else { return Ok(None) };
        let get = functions.get_device_fault_info;
        let failed = |result| checked(result, GET_FAULT_INFO);
        let mut counts = vk::DeviceFaultCountsEXT::default();
        // SAFETY: the caller guarantees a lost device; the counts live for the call.
        failed(unsafe { get(device.handle, &mut counts, ptr::null_mut()) })?;
        let mut addresses: Vec<vk::DeviceFaultAddressInfoEXT> = items(counts.address_info_count)?;
        let mut vendor: Vec<vk::DeviceFaultVendorInfoEXT> = items(counts.vendor_info_count)?;
        // The vendor's crash dump is for tools of the vendor.
        counts.vendor_binary_size = 0;
        let mut info = vk::DeviceFaultInfoEXT {
            p_address_infos: addresses.as_mut_ptr(),
            p_vendor_infos: vendor.as_mut_ptr(),
            ..Default::default()
        };
        // SAFETY: the caller guarantees a lost device; there is room for as many items as the counts say.
        failed(unsafe { get(device.handle, &mut counts, &mut info) })?;
        addresses.truncate(counts.address_info_count as usize);
        vendor.truncate(counts.vendor_info_count as usize);
        Ok(Some(FaultInfo {
            description: text(&info.description),
            addresses: addresses.iter().map(address).collect(),
            vendor: vendor.iter().map(vendor_fault).collect(),
        }))
    }

    /// Returns the log of bindings, if the device reports them.
    pub(crate) fn log(&self) -> Option<&BindingLog> {
        self.bindings.as_ref().map(|it| &*it.log)
    }

    /// Begins to note bindings, unless that has begun, for one more user; also if it fails.
    ///
    /// # Safety
    /// The instance is live, and `end` is called for each user, or `end_all`, before it is destroyed.
    pub(crate) unsafe fn begin(&self, instance: vk::Instance) -> Result<(), CallError> {
        let Some(BindingReports { functions, log, messenger }) = &self.bindings else {
            return Ok(());
        };
        let mut messenger = messenger.lock();
        messenger.users += 1;
        if messenger.handle != vk::DebugUtilsMessengerEXT::null() {
            return Ok(());
        }
        let info = vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(
                vk::DebugUtilsMessageSeverityFlagsEXT::VERBOSE
                    | vk::DebugUtilsMessageSeverityFlagsEXT::INFO
                    | vk::DebugUtilsMessageSeverityFlagsEXT::WARNING
                    | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR,
            )
            .message_type(vk::DebugUtilsMessageTypeFlagsEXT::DEVICE_ADDRESS_BINDING)
            .pfn_user_callback(Some(on_binding))
            .user_data(Arc::as_ptr(log).cast_mut().cast());
        let create = functions.create_debug_utils_messenger;
        // SAFETY: the caller guarantees a live instance; the log lives as long as the messenger.
        let created = unsafe { create(instance, &info, ptr::null(), &mut messenger.handle) };
        checked(created, "vkCreateDebugUtilsMessengerEXT").inspect_err(|_| {
            messenger.handle = vk::DebugUtilsMessengerEXT::null();
        })
    }

    /// Ends what [`begin`](Self::begin) began for one user, and with the last one the notes. The log stays.
    ///
    /// # Safety
    /// The instance is that of `begin`, and live.
    pub(crate) unsafe fn end(&self, instance: vk::Instance) {
        // SAFETY: the caller guarantees the instance.
        unsafe { self.end_some(instance, 1) };
    }

    /// Ends the notes for all users.
    ///
    /// # Safety
    /// As for [`end`](Self::end).
    pub(crate) unsafe fn end_all(&self, instance: vk::Instance) {
        // SAFETY: the caller guarantees the instance.
        unsafe { self.end_some(instance, u64::MAX) };
    }

    /// # Safety
    /// As for [`end`](Self::end).
    unsafe fn end_some(&self, instance: vk::Instance, users: u64) {
        let Some(BindingReports { functions, messenger, .. }) = &self.bindings else { return };
        let mut messenger = messenger.lock();
        messenger.users = messenger.users.saturating_sub(users);
        if messenger.users == 0 {
            let destroy = functions.destroy_debug_utils_messenger;
            // SAFETY: created by `begin` with this instance, or null.
            unsafe { destroy(instance, std::mem::take(&mut messenger.handle), ptr::null()) };
        }
    }
}

impl BindingReports {
    /// Prepares a log; nothing is noted yet.
    pub(crate) fn new(functions: DebugUtilsFunctions) -> Self {
        Self { functions, log: Arc::default(), messenger: Mutex::default() }
    }
}

/// Returns so many empty items, for a driver to fill; an error without host memory for what it counts.
fn items<T: Clone + Default>(count: u32) -> Result<Vec<T>, CallError> {
    let mut made = Vec::new();
    let room = made.try_reserve_exact(count as usize);
    room.map_err(|_| DeviceError::OutOfHostMemory.of(GET_FAULT_INFO))?;
    made.resize(count as usize, T::default());
    Ok(made)
}

/// Converts a result of a call; positive ones are no errors: a fence that is not signalled, a list of which not all
/// fits.
fn checked(result: vk::Result, call: &'static str) -> Result<(), CallError> {
    if result.as_raw() >= 0 { Ok(()) } else { check(result).map_err(|error| error.of(call)) }
}

fn address(found: &vk::DeviceFaultAddressInfoEXT) -> FaultAddress {
    FaultAddress {
        address_type: found.address_type.as_raw(),
        reported_address: found.reported_address,
        precision: found.address_precision,
    }
}

fn vendor_fault(found: &vk::DeviceFaultVendorInfoEXT) -> VendorFault {
    VendorFault {
        description: text(&found.description),
        code: found.vendor_fault_code,
        data: found.vendor_fault_data,
    }
}

/// Returns a text of fixed size up to its end, or up to NUL.
fn text(characters: &[c_char]) -> String {
    // `c_char` is signed on some systems and unsigned on others.
    let bytes = characters.iter().map(|it| it.to_ne_bytes()[0]).take_while(|it| *it != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// Notes what an address was bound to. Called by the driver inside of any call, so it takes one short lock.
unsafe extern "system" fn on_binding(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _types: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user_data: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: `user_data` is the pointer from `begin`, and the log outlives its messenger; Vulkan passes data that
    // is valid for the call.
    let (log, data) = unsafe { (&*user_data.cast::<BindingLog>(), &*data) };
    let mut next = data.p_next.cast::<vk::BaseInStructure<'_>>();
    // SAFETY: Vulkan passes a valid chain.
    while let Some(structure) = unsafe { next.as_ref() } {
        if structure.s_type == vk::StructureType::DEVICE_ADDRESS_BINDING_CALLBACK_DATA_EXT {
            // SAFETY: the type says which structure it is.
            let binding = unsafe { &*next.cast::<vk::DeviceAddressBindingCallbackDataEXT<'_>>() };
            note(log, data, binding);
        }
        next = structure.p_next;
    }
    // The call that caused the message continues.
    vk::FALSE
}

fn note(
    log: &BindingLog,
    data: &vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    binding: &vk::DeviceAddressBindingCallbackDataEXT<'_>,
) {
    let objects = if data.p_objects.is_null() {
        &[]
    } else {
        // SAFETY: there are as many objects as the count says.
        unsafe { std::slice::from_raw_parts(data.p_objects, data.object_count as usize) }
    };
    let is_internal = binding.flags.contains(vk::DeviceAddressBindingFlagsEXT::INTERNAL_OBJECT);
    let is_bound = binding.binding_type == vk::DeviceAddressBindingTypeEXT::BIND;
    let of = |object_type, object, name| AddressBinding {
        address: binding.base_address,
        size: binding.size,
        object_type,
        object,
        name,
        is_internal,
        order: 0,
        is_unbound: false,
    };
    if objects.is_empty() {
        log.note(of(vk::ObjectType::UNKNOWN, 0, None), is_bound);
    }
    for object in objects {
        let name = ptr::NonNull::new(object.p_object_name.cast_mut()).map(|name| {
            // SAFETY: a name ends with NUL.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) };
            name.to_string_lossy().into_owned().into_boxed_str()
        });
        log.note(of(object.object_type, object.object_handle, name), is_bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ash::vk::Handle;

    /// Sends a message to the callback as a driver does.
    fn send(
        log: &BindingLog,
        binding: &mut vk::DeviceAddressBindingCallbackDataEXT<'_>,
        names: &[&CStr],
    ) {
        let objects: Vec<_> = (names.iter().zip(7..))
            .map(|(name, handle)| {
                vk::DebugUtilsObjectNameInfoEXT::default()
                    .object_handle(vk::Buffer::from_raw(handle))
                    .object_name(name)
            })
            .collect();
        let data =
            vk::DebugUtilsMessengerCallbackDataEXT::default().objects(&objects).push_next(binding);
        let user_data = ptr::from_ref(log).cast_mut().cast();
        // SAFETY: the log and the data are valid for the call.
        let result = unsafe {
            on_binding(
                vk::DebugUtilsMessageSeverityFlagsEXT::INFO,
                vk::DebugUtilsMessageTypeFlagsEXT::DEVICE_ADDRESS_BINDING,
                &data,
                user_data,
            )
        };
        assert_eq!(result, vk::FALSE);
    }

    #[test]
    fn a_message_of_the_driver_is_noted_for_each_object() {
        let log = BindingLog::default();
        let mut binding =
            vk::DeviceAddressBindingCallbackDataEXT::default().base_address(4096).size(64);
        send(&log, &mut binding, &[c"vertices", c"indices"]);
        let names = |log: &BindingLog| -> Vec<_> {
            log.covering(4159, 4159)
                .into_iter()
                .map(|it| (it.object, it.name, it.is_unbound))
                .collect()
        };
        assert_eq!(
            names(&log),
            [(8, Some("indices".into()), false), (7, Some("vertices".into()), false)]
        );
        binding.binding_type = vk::DeviceAddressBindingTypeEXT::UNBIND;
        send(&log, &mut binding, &[c"vertices"]);
        assert_eq!(
            names(&log),
            [(8, Some("indices".into()), false), (7, Some("vertices".into()), true)]
        );
        let mut internal = vk::DeviceAddressBindingCallbackDataEXT::default()
            .base_address(0)
            .size(8)
            .flags(vk::DeviceAddressBindingFlagsEXT::INTERNAL_OBJECT);
        send(&log, &mut internal, &[]);
        let found = log.covering(0, 0);
        assert_eq!((found.len(), found[0].is_internal), (1, true));
        assert_eq!(found[0].object_type, vk::ObjectType::UNKNOWN);
    }

    #[test]
    fn a_text_without_an_end_is_taken_whole() {
        let full = [b'x'.cast_signed(); 4];
        assert_eq!(text(&full.map(|it| it as c_char)), "xxxx");
        assert_eq!(text(&[b'a' as c_char, 0, b'b' as c_char]), "a");
    }
}
