"""Tells why a device was lost, and which allocations its faulting addresses belonged to."""

from __future__ import annotations

from dataclasses import dataclass

from vk_mem.flags import DeviceFaultAddressType
from vk_mem.observe.tables import clean, quoted, short_path, size_text
from vk_mem.text import counted

__all__ = ["AddressOwner", "FaultAddress", "FaultReport", "FaultVendorInfo"]

_VENDORS = ("KHR", "EXT", "NV", "NVX", "AMD", "INTEL", "ARM", "QCOM", "HUAWEI", "FUCHSIA", "AMDX")
"""Vendors at the end of a `VkObjectType`."""
_ACTIONS: dict[int, str] = {
    DeviceFaultAddressType.READ_INVALID_EXT: "read",
    DeviceFaultAddressType.WRITE_INVALID_EXT: "wrote",
    DeviceFaultAddressType.EXECUTE_INVALID_EXT: "executed code",
    DeviceFaultAddressType.INSTRUCTION_POINTER_UNKNOWN_EXT: "ran code",
    DeviceFaultAddressType.INSTRUCTION_POINTER_INVALID_EXT: "ran invalid code",
    DeviceFaultAddressType.INSTRUCTION_POINTER_FAULT_EXT: "ran the code that faulted",
}
_OWNERS_SHOWN = 4
"""Most owners of one address in a printed report."""


@dataclass(frozen=True, slots=True)
class AddressOwner:
    """What an address belongs or belonged to: an allocation, or another object of the program."""

    kind: str
    """`Buffer`, `Image` or `Allocation`; or the Vulkan type of an object that the allocator did not
    create, such as `VkPipeline`."""
    name: str | None
    handle: int
    """The Vulkan handle; 0 for an `Allocation`. After the end another object may have it."""
    address: int
    """The first address on the device."""
    size: int
    """Size in bytes: that of a buffer, or of the memory of anything else."""
    state: str
    """`live`; `retired`, waiting for its frame; or how it left these addresses: `freed`, `lost`
    (`CAN_BECOME_LOST`), `moved`, `destroyed` (an object of the program)."""
    frame: int | None
    """The frame index (`Allocator.set_current_frame_index`) when it was freed, lost or moved."""
    call_site: str | None
    """Where it was created, if `track_call_sites` is set: one `file:line in function` per line,
    innermost first."""
    device_memory: int | None
    """The `VkDeviceMemory`; None for an object of the program."""
    memory_offset: int | None
    """Offset in the memory object, in bytes."""
    memory_type_index: int | None

    @property
    def is_freed(self) -> bool:
        """Whether it has left these addresses. What was retired and waits has not."""
        return self.state not in ("live", "retired")

    def __str__(self) -> str:
        facts = [size_text(self.size)]
        if self.state != "live":
            facts.append(f"{self.state} in frame {self.frame}" if self.frame else self.state)
        if self.call_site is not None:
            facts.append(f"made at {clean(short_path(self.call_site.split(chr(10))[0]))}")
        name = "" if self.name is None else f" {quoted(self.name)}"
        return f"{self.kind}{name} ({', '.join(facts)})"


@dataclass(frozen=True, slots=True)
class FaultAddress:
    """An address at which the device found a fault (`VkDeviceFaultAddressInfoEXT`)."""

    address_type: DeviceFaultAddressType | int
    """What the device did there; an int where this library has no name for it."""
    reported_address: int
    precision: int
    """Size in bytes, a power of two, of the aligned range around `reported_address` that the fault
    lies in; some drivers report 0 for 1."""
    lower_address: int
    """The lowest address that the fault may have been at: `reported_address & ~(precision - 1)`."""
    upper_address: int
    """The highest address that it may have been at: `reported_address | (precision - 1)`."""
    owners: tuple[AddressOwner, ...]
    """What has or had one of these addresses, the most likely first: living ones before those that
    are freed, these from the newest on. If none has, the nearest one or two in front or behind."""

    @property
    def owner(self) -> AddressOwner | None:
        """The most likely of `owners`; None if nothing is known of the address."""
        return self.owners[0] if self.owners else None

    @property
    def offset(self) -> int | None:
        """Bytes from the start of `owner` to `reported_address`.

        Negative in front of it, at least its `size` behind its end, None without an owner.
        """
        return None if self.owner is None else self.reported_address - self.owner.address

    def _place(self, owner: AddressOwner) -> str:
        """Where the range lies in an owner, or beside it."""
        end = owner.address + owner.size
        if self.upper_address < owner.address:
            gap = owner.address - self.upper_address
            return f"{counted(gap, 'byte')} before the start of"
        if self.lower_address >= end:
            gap = self.lower_address - end
            return f"{counted(gap, 'byte')} past the end of" if gap else "just past the end of"
        if self.lower_address == self.upper_address:
            return f"at byte {self.lower_address - owner.address:,} of"
        inside = owner.address <= self.lower_address and self.upper_address < end
        return "inside of" if inside else "in or beside of"

    def __str__(self) -> str:
        action = _ACTIONS.get(self.address_type)
        text = "the device used" if action is None else f"the device {action}"
        where = f"at address {self.reported_address:#x}"
        if self.lower_address != self.upper_address:
            size = self.upper_address - self.lower_address + 1
            where = f"within {size_text(size)} around {where[3:]}"
        if self.owner is None:
            return f"{text} {where}, which belongs to nothing that is known"
        shown = [f"{self._place(it)} {it}" for it in self.owners[:_OWNERS_SHOWN]]
        more = len(self.owners) - len(shown)
        rest = f"; and {counted(more, 'more owner')}" if more else ""
        return "; or ".join([f"{text} {shown[0]}, {where}", *shown[1:]]) + rest


@dataclass(frozen=True, slots=True)
class FaultVendorInfo:
    """What the vendor of the device adds (`VkDeviceFaultVendorInfoEXT`)."""

    description: str
    code: int
    """`vendorFaultCode`"""
    data: int
    """`vendorFaultData`"""


@dataclass(frozen=True, slots=True)
class FaultReport:
    """Why a device was lost: the result of `Allocator.explain_fault`. Prints as a short text."""

    description: str
    """A text of the driver; empty if it gives none."""
    addresses: tuple[FaultAddress, ...]
    vendor_infos: tuple[FaultVendorInfo, ...]
    unavailable: str | None
    """Why nothing is known of the fault; None if the device was asked."""
    has_records: bool
    """Whether freed allocations and other objects were looked at, too (`fault_reports=True`, or a
    `Debug` that watches memory)."""

    def __str__(self) -> str:
        lines = [f"the device is lost: {clean(self.description)}".removesuffix(": ")]
        if self.unavailable is not None:
            lines.append(self.unavailable)
        lines += [str(it) for it in self.addresses]
        for it in self.vendor_infos:
            lines.append(f"{clean(it.description)} (code {it.code:#x}, data {it.data:#x})")
        if self.unavailable is None and not self.addresses:
            lines.append("the driver reports no address")
        if not self.has_records and any(it.owner is None for it in self.addresses):
            lines.append(
                "what was freed was not looked at: Device.open(fault_reports=True) keeps it"
            )
        return "\n".join(lines)


_OwnerRow = tuple[
    str,
    str | None,
    int,
    int,
    int,
    str | None,
    int | None,
    str | None,
    int | None,
    int | None,
    int | None,
]
_AddressRow = tuple[int, int, int, int, int, list[_OwnerRow]]

_UNAVAILABLE = (
    "nothing is known of the fault: VK_EXT_device_fault with its feature deviceFault is not "
    "enabled, as the device lacks it, or was opened or wrapped without it"
)


def _kind(kind: str) -> str:
    """`VkDeviceMemory` for `DEVICE_MEMORY`; classes of this library stay."""
    if not kind.isupper():
        return kind
    return "Vk" + "".join(it if it in _VENDORS else it.capitalize() for it in kind.split("_"))


def _address_type(number: int) -> DeviceFaultAddressType | int:
    try:
        return DeviceFaultAddressType(number)
    except ValueError:
        return number


def _owner(row: _OwnerRow) -> AddressOwner:
    kind, name, handle, address, size, state, frame, site, memory, offset, index = row
    return AddressOwner(
        _kind(kind),
        name,
        handle,
        address,
        size,
        state or "live",
        frame,
        site,
        memory,
        offset,
        index,
    )


def _fault_report(
    is_available: bool,
    description: str,
    addresses: list[_AddressRow],
    vendor_infos: list[tuple[str, int, int]],
    has_records: bool,
) -> FaultReport:
    """Makes a `FaultReport` for `Allocator.explain_fault`."""
    return FaultReport(
        description,
        tuple(
            FaultAddress(
                _address_type(kind), reported, precision, low, high, tuple(map(_owner, owners))
            )
            for kind, reported, precision, low, high, owners in addresses
        ),
        tuple(FaultVendorInfo(*it) for it in vendor_infos),
        None if is_available else _UNAVAILABLE,
        has_records,
    )
