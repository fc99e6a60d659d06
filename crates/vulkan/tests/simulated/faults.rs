//! The loss of a simulated device, what it tells afterwards, and the log of its bindings.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ash::vk::{self, Handle};
use vkmem_engine::{Call, DeviceError, DeviceMemory, MemoryAllocateInfo};
use vkmem_vulkan::{
    Completion, Driver, FaultAddress, FaultInfo, SimulatedDriver, Submission, TransferCommand,
    VendorFault,
};

/// `VK_BUFFER_USAGE_TRANSFER_DST_BIT`
const TARGET: vk::BufferUsageFlags = vk::BufferUsageFlags::TRANSFER_DST;

fn fault(reported_address: u64) -> FaultInfo {
    let address = FaultAddress { address_type: 2, reported_address, precision: 64 };
    FaultInfo { addresses: vec![address], ..FaultInfo::default() }
}

/// Creates a buffer of 256 bytes in memory of its own.
fn buffer(driver: &SimulatedDriver) -> (vk::Buffer, vkmem_engine::MemoryHandle) {
    let info = vk::BufferCreateInfo::default().size(256).usage(TARGET);
    // SAFETY: a valid create info; the buffer is live and not bound yet.
    unsafe {
        let buffer = driver.create_buffer(&info).unwrap();
        let requirements = driver.buffer_requirements(buffer);
        let memory_type = requirements.memory_type_bits.trailing_zeros();
        let memory =
            driver.allocate(&MemoryAllocateInfo::of_type(memory_type, requirements.size)).unwrap();
        driver.bind_buffer(buffer, memory, 0).unwrap();
        (buffer, memory)
    }
}

fn fill(buffer: vk::Buffer) -> [TransferCommand; 1] {
    [TransferCommand::FillBuffer { buffer, offset: 0, size: 256, value: 7 }]
}

#[test]
fn faults_of_a_lost_device_are_told_together() {
    let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
    assert_eq!(driver.is_lost(), Ok(false));
    driver.lose(FaultInfo { description: "first".into(), ..fault(4096) });
    let vendor = VendorFault { description: "warp".into(), code: 1, data: 2 };
    driver.lose(FaultInfo { vendor: vec![vendor.clone()], ..fault(8192) });
    assert_eq!(driver.is_lost(), Ok(true));
    // SAFETY: the device is lost.
    let told = unsafe { driver.fault_info() }.unwrap().unwrap();
    let addresses: Vec<_> = told.addresses.iter().map(|it| it.reported_address).collect();
    assert_eq!((told.description.as_str(), addresses), ("first", vec![4096, 8192]));
    assert_eq!(told.vendor, [vendor]);
    let error = DeviceError::OutOfHostMemory;
    driver.device().fail_next(Call::DeviceFaultInfo, 1, error);
    // SAFETY: the device is lost.
    let failed = unsafe { driver.fault_info() };
    assert_eq!(failed, Err(error.of("vkGetDeviceFaultInfoEXT")));
    driver.assert_clean();
}

#[test]
fn a_device_that_is_not_lost_must_not_be_asked() {
    let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
    // SAFETY: a simulated device reports it.
    let told = unsafe { driver.fault_info() };
    assert_eq!(told, Ok(Some(FaultInfo::default())));
    assert_eq!(driver.device().violations().len(), 1);
    // SAFETY: a device without the extension cannot be asked.
    let told = unsafe { SimulatedDriver::profile("moltenvk").unwrap().fault_info() };
    assert_eq!(told, Ok(None));
}

#[test]
fn nothing_runs_or_waits_on_a_lost_device() {
    for completion in [Completion::AtOnce, Completion::WhenWaited, Completion::Held] {
        let driver = Arc::new(SimulatedDriver::profile("discrete-8gib").unwrap());
        driver.set_completion(completion);
        let (buffer, memory) = buffer(&driver);
        // SAFETY: a live buffer of 256 bytes.
        let before = unsafe { driver.submit(&fill(buffer)) }.unwrap();
        let waiting = (completion == Completion::Held).then(|| {
            let driver = driver.clone();
            thread::spawn(move || driver.wait(before, u64::MAX))
        });
        thread::sleep(Duration::from_millis(5));
        driver.lose(fault(0));
        let lost = |call| Err(DeviceError::DeviceLost.of(call));
        if let Some(waiting) = waiting {
            assert_eq!(waiting.join().unwrap(), lost("vkWaitSemaphores"));
        }
        assert_eq!(driver.pending_submissions(), 0);
        assert_eq!(driver.wait(before, 0), lost("vkWaitSemaphores"));
        assert_eq!(driver.wait(Submission::NONE, 0), Ok(true));
        assert_eq!(driver.is_done(before), lost("vkGetSemaphoreCounterValue"));
        // SAFETY: a live buffer of 256 bytes.
        let later = unsafe {
            [driver.submit(&fill(buffer)), driver.submit_to_transfer_queue(&fill(buffer), &[])]
        };
        assert!(later.iter().all(|it| *it == Err(DeviceError::DeviceLost.of("vkQueueSubmit"))));
        // SAFETY: nothing uses it any more.
        unsafe { driver.destroy_buffer(buffer) };
        driver.free(memory);
        driver.assert_clean();
    }
}

#[test]
fn an_error_that_says_so_is_remembered() {
    for call in [Call::Submit, Call::Allocate] {
        let driver = SimulatedDriver::profile("nvidia-h200").unwrap();
        driver.device().fail_next(call, 1, DeviceError::DeviceLost);
        if call == Call::Submit {
            // SAFETY: nothing is submitted.
            assert!(unsafe { driver.submit(&[]) }.is_err());
        } else {
            let info = MemoryAllocateInfo::of_type(0, 64);
            assert!(driver.allocate(&info).is_err());
        }
        assert_eq!(driver.is_lost(), Ok(true), "{call:?}");
    }
}

#[test]
fn bindings_are_noted_from_the_first_allocator_to_the_last() {
    let driver = SimulatedDriver::profile("lavapipe").unwrap().with_fault_reports(true);
    let count = || driver.binding_log().unwrap().covering(0, u64::MAX).len();
    let early = buffer(&driver);
    assert_eq!(count(), 0);
    driver.begin_binding_reports().unwrap();
    let late = buffer(&driver);
    let log = driver.binding_log().unwrap();
    let address = log.address_of(vk::ObjectType::BUFFER, late.0.as_raw()).unwrap();
    let found = log.covering(address + 255, address + 255);
    assert_eq!((found.len(), found[0].object, found[0].is_unbound), (1, late.0.as_raw(), false));
    for (buffer, memory) in [early, late] {
        // SAFETY: nothing uses it.
        unsafe { driver.destroy_buffer(buffer) };
        driver.free(memory);
    }
    let ended: Vec<_> = log.covering(address, address).iter().map(|it| it.is_unbound).collect();
    assert_eq!(ended, [true]);
    // SAFETY: a simulated device is live.
    unsafe { driver.end_binding_reports() };
    let before = count();
    let last = buffer(&driver);
    assert_eq!(count(), before);
    // SAFETY: nothing uses it.
    unsafe { driver.destroy_buffer(last.0) };
    driver.free(last.1);
    driver.assert_clean();
    let without = SimulatedDriver::profile("lavapipe").unwrap();
    assert!(without.binding_log().is_none() && !without.has_fault_reports());
}
