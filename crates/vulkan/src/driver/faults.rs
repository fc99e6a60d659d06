//! [`FaultInfo`]: what a lost device tells about the faults that it was lost by (`VK_EXT_device_fault`).

use ash::vk;

/// An address at which a device found a fault (`VkDeviceFaultAddressInfoEXT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAddress {
    /// `VkDeviceFaultAddressTypeEXT`
    pub address_type: i32,
    /// The address that the device reported.
    pub reported_address: u64,
    /// A power of two, in bytes: the address is known to lie in the aligned range of this size around the
    /// reported one.
    pub precision: u64,
}

impl FaultAddress {
    /// Returns the lowest and the highest address at which the fault may have been.
    ///
    /// Drivers report a precision of 0 as well, which counts as 1; any other that is no power of two is rounded up.
    pub fn bounds(&self) -> (u64, u64) {
        let below = self.precision.checked_next_power_of_two().map_or(u64::MAX, |it| it - 1);
        (self.reported_address & !below, self.reported_address | below)
    }
}

/// What only the vendor of a device can explain of a fault (`VkDeviceFaultVendorInfoEXT`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendorFault {
    /// A readable description.
    pub description: String,
    /// `vendorFaultCode`
    pub code: u64,
    /// `vendorFaultData`
    pub data: u64,
}

/// The faults of a lost device (`VkDeviceFaultInfoEXT`), without the vendor's crash dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultInfo {
    /// A readable description.
    pub description: String,
    /// Faulting addresses and instruction pointers.
    pub addresses: Vec<FaultAddress>,
    /// What the vendor adds.
    pub vendor: Vec<VendorFault>,
}

/// A part of the device's address space that was bound to an object (`VkDeviceAddressBindingCallbackDataEXT`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBinding {
    /// The first address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    /// `VkObjectType`
    pub object_type: vk::ObjectType,
    /// The handle of the object.
    pub object: u64,
    /// The name of the object that the program told the driver (`vkSetDebugUtilsObjectNameEXT`).
    pub name: Option<Box<str>>,
    /// Whether the driver made it for itself (`INTERNAL_OBJECT`).
    pub is_internal: bool,
    /// Its number among all bindings and unbindings.
    pub order: u64,
    /// Whether it is bound no longer.
    pub is_unbound: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_the_aligned_range_around_it() {
        let bounds = |reported_address, precision| {
            FaultAddress { address_type: 0, reported_address, precision }.bounds()
        };
        assert_eq!(bounds(0x12345, 0x1000), (0x12000, 0x12fff));
        assert_eq!(bounds(0x12345, 1), (0x12345, 0x12345));
        assert_eq!(bounds(0x12345, 0), (0x12345, 0x12345));
        assert_eq!(bounds(0x12345, 0xfff), (0x12000, 0x12fff));
        assert_eq!(bounds(5, 1 << 63), (0, (1 << 63) - 1));
        assert_eq!(bounds(5, u64::MAX), (0, u64::MAX));
    }
}
