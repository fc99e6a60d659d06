"""Two images of a frame that are never needed at the same time, in the same memory."""

import vk_mem
from vk_mem import AllocationCreateFlags, Format, ImageUsage

SIZE = (512, 512)
TARGET = ImageUsage.COLOR_ATTACHMENT | ImageUsage.SAMPLED
KIB = 1 << 10


def open_device() -> vk_mem.Device:
    """The best device, or a simulated one where there is no driver."""
    try:
        return vk_mem.Device.open()
    except vk_mem.InitializationError:
        return vk_mem.SimulatedDevice()


def main() -> None:
    with vk_mem.Allocator(open_device()) as allocator:
        # CAN_ALIAS: should the memory be dedicated, it must not name this image alone.
        shadows = allocator.create_image(
            Format.R8G8B8A8_UNORM,
            SIZE,
            TARGET,
            flags=AllocationCreateFlags.CAN_ALIAS,
            name="shadows",
        )
        # After the lighting pass nobody reads the shadows any more. A barrier goes between the two.
        bloom = allocator.create_aliasing_image(
            shadows, Format.R8G8B8A8_UNORM, SIZE, TARGET, name="bloom"
        )
        apart = bloom.allocation.offset - shadows.allocation.offset
        same = bloom.allocation.device_memory == shadows.allocation.device_memory
        total = allocator.calculate_statistics().total
        print(f"the same memory: {same}, {apart} bytes apart")
        print(
            f"2 images in {total.allocation_bytes // KIB} KiB, {total.allocation_count} allocation"
        )
        try:
            shadows.destroy()
        except BufferError as error:
            print(f"refused: {error}")
        bloom.destroy()
        shadows.destroy()
        print(f"{allocator.calculate_statistics().total.allocation_count} left")


if __name__ == "__main__":
    main()
