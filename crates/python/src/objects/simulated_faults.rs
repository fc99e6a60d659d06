//! The loss of a simulated device by a fault.

use pyo3::prelude::*;
use vkmem_vulkan::{FaultAddress, FaultInfo, VendorFault};

use super::simulated::SimulatedDevice;
use crate::arguments::iterables;
use crate::arguments::numbers::{DEVICE_FAULT_ADDRESS_TYPE, of_class, unsigned};
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::interpreter::detach;

/// Maximum number of vendor infos in one call.
const MOST_VENDOR_INFOS: usize = 1024;

/// `VK_DEVICE_FAULT_ADDRESS_TYPE_READ_INVALID_EXT`
const READ_INVALID: i32 = 1;

/// `VK_DEVICE_FAULT_ADDRESS_TYPE_INSTRUCTION_POINTER_FAULT_EXT`, the last one.
const LAST_TYPE: i32 = 6;

#[pymethods]
impl SimulatedDevice {
    /// Loses the device, as a real one is by a fault: nothing of what was submitted and has not ended is carried
    /// out, and all later submissions and waits raise `DeviceLostError`. `Allocator.explain_fault` tells why then.
    ///
    /// The fault was at `address`, which is known to lie in the aligned range of `precision` bytes around it, a power
    /// of two; `address_type` says what the device did there (`DeviceFaultAddressType`), READ_INVALID_EXT by default.
    /// `description` is a text of the driver, and `vendor_infos` are triples of a text, a code and data (integers).
    /// A second call adds another fault.
    ///
    /// The address of a buffer is `Buffer.device_address`.
    #[pyo3(signature = (
        address = None, address_type = None, *, precision = None, description = None, vendor_infos = None
    ), text_signature = "($self, address=None, address_type=None, *, precision=1, description='', \
       vendor_infos=())")]
    fn lose_device(
        &self,
        py: Python<'_>,
        address: Option<&Bound<'_, PyAny>>,
        address_type: Option<&Bound<'_, PyAny>>,
        precision: Option<&Bound<'_, PyAny>>,
        description: Option<Text>,
        vendor_infos: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let precision = precision.map_or(Ok(1), |it| unsigned(it, "precision"))?;
        if !precision.is_power_of_two() {
            return Err(invalid(
                py,
                format!("precision is {precision}; it must be a power of two"),
            ));
        }
        let address_type = address_type.map_or(Ok(READ_INVALID), |it| {
            Ok::<_, PyErr>(of_class(it, "address_type", &DEVICE_FAULT_ADDRESS_TYPE)?.cast_signed())
        })?;
        if !(0..=LAST_TYPE).contains(&address_type) {
            return Err(invalid(
                py,
                format!(
                    "address_type is {address_type}; it is from 0 to {LAST_TYPE} (DeviceFaultAddressType)"
                ),
            ));
        }
        let address = address.map(|it| unsigned(it, "address")).transpose()?;
        let info = |item: &Bound<'_, PyAny>| {
            let (description, code, data): (String, Bound<'_, PyAny>, Bound<'_, PyAny>) =
                item.extract()?;
            let (code, data) = (unsigned(&code, "vendor_infos")?, unsigned(&data, "vendor_infos")?);
            Ok(VendorFault { description, code, data })
        };
        let vendor = vendor_infos.map_or(Ok(Vec::new()), |it| {
            iterables::read(it, "vendor_infos", MOST_VENDOR_INFOS, info)
        })?;
        let addresses = address.map(|reported_address| FaultAddress {
            address_type,
            reported_address,
            precision,
        });
        let faults = FaultInfo {
            description: description.map_or(String::new(), |it| it.0),
            addresses: addresses.into_iter().collect(),
            vendor,
        };
        let driver = self.driver(py)?;
        detach(py, || driver.lose(faults));
        Ok(())
    }
}
