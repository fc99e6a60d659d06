//! The second queue of a simulated device: order, owners, and what stays on the main queue.

use ash::vk;
use vkmem_engine::{Call, DeviceError, DeviceMemory, MemoryHandle};
use vkmem_vulkan::{
    Completion, Driver, LayoutChange, ResourceHandle, SimulatedDriver, Submission, TransferCommand,
    TransferQueue, first_texels,
};

use crate::{MIB, bound_buffer, buffer_info, copied, create_buffer, driver, image_info, of_type};
use crate::{read, write};

const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
const SIZE: u64 = 4096;

/// A driver with a copy engine, and three buffers of 4096 bytes; all memory is host-visible.
struct Setup {
    driver: SimulatedDriver,
    exclusive: [(vk::Buffer, MemoryHandle); 2],
    shared: (vk::Buffer, MemoryHandle),
}

impl Setup {
    fn new(queue: TransferQueue, families: &[u32]) -> Self {
        let driver = driver("lavapipe").with_transfer_queue(Some(queue));
        let exclusive = [(); 2].map(|()| bound_buffer(&driver, 0, SIZE));
        let info = buffer_info(SIZE, copied())
            .sharing_mode(vk::SharingMode::CONCURRENT)
            .queue_family_indices(families);
        let buffer = create_buffer(&driver, &info);
        let memory = driver.allocate(&of_type(0, SIZE)).unwrap();
        // SAFETY: a live buffer, live memory.
        unsafe { driver.bind_buffer(buffer, memory, 0) }.unwrap();
        Self { driver, exclusive, shared: (buffer, memory) }
    }

    fn of_two() -> Self {
        Self::new(SimulatedDriver::COPY_ENGINE, &[0, 1])
    }

    fn buffers(&self) -> [vk::Buffer; 3] {
        [self.exclusive[0].0, self.exclusive[1].0, self.shared.0]
    }

    fn handle(&self, index: usize) -> ResourceHandle {
        ResourceHandle::Buffer(self.buffers()[index])
    }

    fn copy(&self, source: usize, target: usize) -> TransferCommand {
        let buffers = self.buffers();
        TransferCommand::CopyBuffer {
            source: buffers[source],
            source_offset: 0,
            target: buffers[target],
            target_offset: 0,
            size: SIZE,
        }
    }

    fn fill(&self, index: usize, value: u32) -> TransferCommand {
        let buffer = self.buffers()[index];
        TransferCommand::FillBuffer { buffer, offset: 0, size: SIZE, value }
    }

    fn word(&self, index: usize) -> u32 {
        let memory = [self.exclusive[0].1, self.exclusive[1].1, self.shared.1][index];
        let bytes = self.driver.device().device_read(memory, SIZE - 4, 4);
        u32::from_ne_bytes(bytes.try_into().unwrap())
    }

    fn on_second(
        &self,
        commands: &[TransferCommand],
        exclusive: &[ResourceHandle],
    ) -> Result<Submission, vkmem_engine::CallError> {
        // SAFETY: live buffers; a wrong list is what the driver has to report.
        unsafe { self.driver.submit_to_transfer_queue(commands, exclusive) }
    }

    fn violations(&self) -> String {
        self.driver.device().take_violations().join("\n")
    }

    fn end(self) {
        let Self { driver, exclusive, shared } = self;
        for (buffer, memory) in exclusive.into_iter().chain([shared]) {
            // SAFETY: live handles of this driver.
            unsafe { driver.destroy_buffer(buffer) };
            driver.free(memory);
        }
        driver.assert_clean();
    }
}

#[test]
fn both_queues_run_in_the_order_of_their_submissions() {
    for completion in [Completion::AtOnce, Completion::WhenWaited, Completion::Held] {
        let setup = Setup::of_two();
        setup.driver.set_completion(completion);
        let listed = [setup.handle(0), setup.handle(1)];
        // SAFETY: the ranges lie inside the buffers.
        let first = unsafe { setup.driver.submit(&[setup.fill(0, 1)]) }.unwrap();
        let second = setup.on_second(&[setup.copy(0, 1)], &listed).unwrap();
        // SAFETY: as above.
        let third = unsafe { setup.driver.submit(&[setup.copy(1, 2), setup.fill(0, 2)]) }.unwrap();
        let fourth = setup.on_second(&[setup.copy(2, 1)], &listed[1..]).unwrap();
        assert!(first < second && second < third && third < fourth);
        if completion == Completion::Held {
            assert_eq!(setup.driver.pending_submissions(), 4);
            assert_eq!(setup.driver.complete_submissions(2), 2);
            assert_eq!(setup.driver.is_done(second), Ok(true));
            assert_eq!(setup.driver.is_done(third), Ok(false));
            assert_eq!(setup.driver.complete_submissions(9), 2);
        }
        assert_eq!(setup.driver.wait(fourth, u64::MAX), Ok(true));
        assert_eq!([0, 1, 2].map(|index| setup.word(index)), [2, 1, 1]);
        setup.end();
    }
}

#[test]
fn an_exclusive_resource_changes_its_owner_and_a_shared_one_has_none() {
    let setup = Setup::of_two();
    let refuse = |commands: &[TransferCommand], exclusive: &[ResourceHandle], why: &str| {
        assert!(setup.on_second(commands, exclusive).is_err());
        let said = setup.violations();
        assert!(said.contains(why), "{said}");
    };
    let all = [0, 1, 2].map(|index| setup.handle(index));
    setup.on_second(&[setup.copy(2, 0)], &all[..1]).unwrap();
    setup
        .on_second(&[setup.fill(0, 3), TransferCommand::Barrier, setup.copy(0, 2)], &all[..1])
        .unwrap();
    assert_eq!(setup.word(2), 3);
    refuse(&[setup.copy(0, 2)], &[], "is exclusive, and its owner is not changed");
    refuse(&[setup.copy(2, 0)], &all, "is shared, and has no owner to change");
    setup.end();
    let setup = Setup::of_two();
    assert!(setup.on_second(&[setup.copy(0, 2)], &[]).is_err());
    let said = setup.violations();
    assert!(said.contains("a command needs contents that another queue family owns"), "{said}");
    // What was not listed does not come back: the main queue finds it missing.
    assert!(setup.on_second(&[setup.fill(1, 1)], &[]).is_err());
    setup.violations();
    // SAFETY: the ranges lie inside the buffers.
    assert!(unsafe { setup.driver.submit(&[setup.copy(1, 2)]) }.is_err());
    let said = setup.violations();
    assert!(said.contains("a command needs contents that another queue family owns"), "{said}");
    setup.end();
}

#[test]
fn a_resource_that_other_families_share_is_not_for_the_second_queue() {
    let setup = Setup::new(SimulatedDriver::COPY_ENGINE, &[0, 2]);
    assert!(setup.on_second(&[setup.fill(2, 1)], &[]).is_err());
    assert!(setup.violations().contains("is not shared by the families of both queues"));
    setup.end();
}

#[test]
fn a_device_without_a_second_queue_uses_the_main_one() {
    let driver = driver("lavapipe");
    assert_eq!(driver.transfer_queue(), None);
    let (buffer, memory) = bound_buffer(&driver, 0, SIZE);
    let fill = TransferCommand::FillBuffer { buffer, offset: 0, size: SIZE, value: 1 };
    assert!(!driver.can_go_to_transfer_queue(&fill));
    // SAFETY: the range lies inside the buffer.
    unsafe { driver.submit_to_transfer_queue(&[fill], &[]) }.unwrap();
    assert_eq!(driver.device().call_count(Call::Submit), 1);
    // SAFETY: a live handle of this driver.
    unsafe { driver.destroy_buffer(buffer) };
    driver.free(memory);
    driver.assert_clean();
}

#[test]
fn failures_leave_everything_as_it_was_or_done() {
    let errors =
        [DeviceError::OutOfHostMemory, DeviceError::OutOfDeviceMemory, DeviceError::DeviceLost];
    for error in errors {
        for part in 0..3 {
            for times in 1..=2 {
                for completion in [Completion::AtOnce, Completion::Held] {
                    let setup = Setup::of_two();
                    setup.on_second(&[setup.fill(0, 1)], &[setup.handle(0)]).unwrap();
                    setup.driver.set_completion(completion);
                    for number in part..part + times {
                        setup.driver.device().fail_call(number, error);
                    }
                    let done = setup.on_second(&[setup.fill(0, 2)], &[setup.handle(0)]);
                    setup.driver.device().clear_failures();
                    let is_lost = error == DeviceError::DeviceLost;
                    if part > 0 && times == 1 && !is_lost {
                        assert!(done.is_ok());
                    } else {
                        assert_eq!(done, Err(error.of("vkQueueSubmit")));
                        assert_eq!(setup.driver.pending_submissions(), 0);
                        // The copies were submitted before their last part failed.
                        assert_eq!(setup.word(0), if part == 2 { 2 } else { 1 });
                    }
                    setup.driver.set_completion(Completion::AtOnce);
                    setup
                        .on_second(&[setup.copy(0, 1)], &[setup.handle(0), setup.handle(1)])
                        .unwrap();
                    assert_eq!(setup.word(1), setup.word(0));
                    setup.end();
                }
            }
        }
    }
}

/// Uploads 8 x 4 texels, and downloads them, through the second queue where that can; returns how many
/// `vkQueueSubmit`s that took.
fn image_round_trip(queue: TransferQueue, format: vk::Format, aspect: vk::ImageAspectFlags) -> u64 {
    let setup = Setup::new(queue, &[0, queue.family_index]);
    let driver = &setup.driver;
    let bytes: Vec<u8> = (0..128).map(|at| at as u8 + 1).collect();
    write(driver.map(setup.shared.1).unwrap(), &bytes);
    let mut region = first_texels(0, vk::Extent3D { width: 8, height: 4, depth: 1 });
    region.image_subresource.aspect_mask = aspect;
    // SAFETY: live handles of this driver; the regions lie inside the image and the buffers.
    let found = unsafe {
        let image = driver.create_image(&image_info(format, 8, 4)).unwrap();
        let memory = driver.allocate(&of_type(0, MIB)).unwrap();
        driver.bind_image(image, memory, 0).unwrap();
        let exclusive = [ResourceHandle::Image(image), setup.handle(1)];
        let kept = LayoutChange::kept(&region, GENERAL);
        let up = TransferCommand::CopyBufferToImage {
            buffer: setup.shared.0,
            image,
            region,
            layouts: LayoutChange { old: vk::ImageLayout::UNDEFINED, ..kept },
        };
        let down = TransferCommand::CopyImageToBuffer {
            image,
            buffer: setup.exclusive[1].0,
            region,
            layouts: kept,
        };
        driver.submit_to_transfer_queue(&[up], &exclusive[..1]).unwrap();
        driver.submit(&[down]).unwrap();
        driver.submit_to_transfer_queue(&[down], &exclusive).unwrap();
        let found = read(driver.map(setup.exclusive[1].1).unwrap(), 128);
        driver.destroy_image(image);
        driver.free(memory);
        found
    };
    let texels = if aspect == vk::ImageAspectFlags::STENCIL { 32 } else { 128 };
    assert_eq!(found[..texels], bytes[..texels]);
    let submits = driver.device().call_count(Call::Submit);
    setup.end();
    submits
}

#[test]
fn images_go_there_unless_vulkan_forbids_it() {
    let engine = SimulatedDriver::COPY_ENGINE;
    let (colour, stencil) = (vk::ImageAspectFlags::COLOR, vk::ImageAspectFlags::STENCIL);
    let rgba = vk::Format::R8G8B8A8_UNORM;
    assert_eq!(image_round_trip(engine, rgba, colour), 3 + 1 + 3);
    assert_eq!(image_round_trip(engine, vk::Format::S8_UINT, stencil), 3);
    for (width, height, depth) in [(0, 0, 0), (16, 16, 8)] {
        let granularity = vk::Extent3D { width, height, depth };
        assert_eq!(image_round_trip(TransferQueue { granularity, ..engine }, rgba, colour), 3);
    }
    let same = TransferQueue { family_index: 0, ..engine };
    assert!(!same.is_of_another_family());
}
