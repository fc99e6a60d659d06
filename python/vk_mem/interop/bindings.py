"""Handles and create-info structs of the Python bindings of Vulkan: to this package and back.

The bindings are `vulkan` (cffi), `volkano` (ctypes) and `vulkan-py` (ctypes; it imports as
`vulkan_py`), and by their shapes every other one that is made with ctypes or cffi. None of them is
imported before one of the functions that name it is called, and neither is cffi.
"""

from __future__ import annotations

import ctypes
import operator
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from vk_mem._lazy import load
from vk_mem._readable import read_memory
from vk_mem.errors import InvalidArgumentError
from vk_mem.text import counted, with_article

__all__ = [
    "DeviceArguments",
    "StructAddress",
    "as_handle",
    "chain_address",
    "device_arguments",
    "function_address",
    "is_struct_at",
    "struct_address",
    "to_int",
    "to_volkano",
    "to_vulkan",
    "to_vulkan_py",
]

# Codes of ctypes' simple types that can hold a handle: void pointers and integers. Left out are
# characters, strings, booleans and floating-point numbers.
_CTYPES_HANDLE_CODES = frozenset("PBHILQbhilq")
_CTYPES_BYREF = type(ctypes.byref(ctypes.c_int()))
_CTYPES_FUNCTION = ctypes._CFuncPtr  # type: ignore[attr-defined]  # documented, not in typeshed
_CFFI_NOT_HANDLES = frozenset({"_Bool", "char", "float", "double", "long double"})
# What stands for the name of a struct where any of a `pNext` chain will do, and the bytes of the
# `sType` and `pNext` that it begins with.
_ANY_STRUCT = "struct of a pNext chain"
_CHAIN_HEADER = 16
_CFFI_HANDLE_TYPE = re.compile(r"(?:struct )?(Vk\w+)_T \*")


class _Parameter(ctypes.c_uint64):
    """A handle as the `_as_parameter_` of an object of this package.

    A plain int would do for a function with `argtypes`, but ctypes cuts it to 32 bits for one
    without; a plain `c_uint64` the other way round.
    """

    def __index__(self) -> int:
        return self.value

    @property
    def _as_parameter_(self) -> int:
        return self.value


# Which handles our own objects have: Vulkan's name, and the attributes that lead there. The first
# is meant where no name is given.
_OWN_HANDLES: dict[str, dict[str, str]] = {
    "Buffer": {"VkBuffer": "handle", "VkDeviceMemory": "allocation.device_memory"},
    "Image": {"VkImage": "handle", "VkDeviceMemory": "allocation.device_memory"},
    "BufferSlice": {"VkBuffer": "handle", "VkDeviceMemory": "buffer.allocation.device_memory"},
    "Allocation": {"VkDeviceMemory": "device_memory"},
    "Device": {
        "VkDevice": "handle",
        "VkPhysicalDevice": "physical_device",
        "VkInstance": "instance",
        "VkQueue": "queue",
    },
    "Allocator": {
        "VkDevice": "device.handle",
        "VkPhysicalDevice": "device.physical_device",
        "VkInstance": "device.instance",
        "VkQueue": "device.queue",
    },
}
# No system maps its first page, so a smaller "address" is a number that came to the wrong place.
_LOWEST_ADDRESS = 4096


class StructAddress(NamedTuple):
    """Where a create-info struct lies, and what is known of it.

    The address is good only while the object that it came from is alive.
    """

    address: int
    """Not null, aligned to 8 bytes."""
    type_verified: bool
    """Whether the binding's type has the name that was expected. `sType` then need not be filled
    in (volkano leaves it 0); for a bare address it is all there is to check."""


class DeviceArguments(NamedTuple):
    """The handles of a device as integers, and the loader that they came from."""

    instance: int
    """`VkInstance`."""
    physical_device: int
    """`VkPhysicalDevice`."""
    device: int
    """`VkDevice`."""
    get_instance_proc_addr: int | None
    """Address of the binding's `vkGetInstanceProcAddr`, or `None` where it was not found."""


def to_int(handle: object, type_name: str | None = None, keyword: str | None = None) -> int:
    """The integer value of a Vulkan handle from any binding; 0 for `None` and null handles.

    Takes an int, ctypes and cffi handles, anything with `__index__`, and objects of this package:
    of a `Buffer` it is the `VkBuffer`, of an `Allocation` the `VkDeviceMemory`, of a `Device` the
    `VkDevice`. With `type_name`, such as `"VkBuffer"`, a handle whose own type says that it is
    another kind is refused. Errors begin with `keyword`.

    Raises `InvalidArgumentError` for anything else: a bool, a struct, a pointer *to* a handle, a
    number outside of 0 to 2**64 - 1. `UseAfterFreeError` for an object that was destroyed.
    """
    _check_texts(type_name=type_name, keyword=keyword)
    with _named(keyword):
        return _to_int(handle, type_name)


def _to_int(handle: object, type_name: str | None) -> int:
    # NumPy's, too, which is no subclass and says so itself only in newer versions.
    if isinstance(handle, bool) or type(handle).__name__ in {"bool", "bool_"}:
        raise _no_handle(type_name, "a bool")
    if isinstance(handle, int):
        return _in_range(int(handle), type_name)
    if handle is None:
        return 0
    if isinstance(handle, ctypes._SimpleCData | ctypes._Pointer):
        return _in_range(_ctypes_to_int(handle, type_name), type_name)
    ffi = _cffi_for(handle)
    if ffi is not None:
        return _in_range(_cffi_to_int(ffi, handle, type_name), type_name)
    own = _own_handles(handle)
    if own is not None:
        return _own_to_int(handle, own, type_name)
    _refuse_pool(handle, type_name)
    try:
        return _in_range(operator.index(handle), type_name)  # type: ignore[arg-type]
    except TypeError:
        raise _no_handle(type_name, with_article(type(handle).__name__)) from None


def struct_address(
    struct: object, type_name: str, min_size: int, keyword: str | None = None
) -> StructAddress:
    """The address of a create-info struct of any binding.

    `struct` is a struct of ctypes or cffi, a pointer to one (`byref` included), or an address: an
    int, a void pointer, anything with `__index__`. `type_name` is the C name, such as
    `"VkBufferCreateInfo"`; bindings may leave its `Vk` out. `min_size` is its size in bytes. The
    caller keeps `struct` alive for as long as it uses the address. Errors begin with `keyword`.

    Raises `InvalidArgumentError` for a struct of another name, one that is too small, a null, and
    an address that is not one of a struct (below 4096, not a multiple of 8, or without memory).
    """
    _check_texts(type_name=type_name, keyword=keyword)
    with _named(keyword):
        return _struct_address(struct, type_name, min_size)


def chain_address(first: object, keyword: str | None = None) -> int:
    """The address of the first struct of a `pNext` chain of any binding; 0 for `None`.

    `first` is a struct of ctypes or cffi that begins with `sType` and `pNext`, a pointer to one, or
    an address. The caller keeps the chain alive for as long as it uses the address. Errors begin
    with `keyword`.

    Raises `InvalidArgumentError` for anything else, and for an address without memory.
    """
    if first is None:
        return 0
    with _named(keyword):
        return _struct_address(first, _ANY_STRUCT, _CHAIN_HEADER).address


def is_struct_at(number: object, type_name: str, min_size: int, s_type: int) -> bool:
    """Whether a number is the address of a struct of Vulkan, by the `sType` that stands there.

    Nothing is read where there is no memory, so any number may be asked about.
    """
    _check_texts(type_name=type_name)
    try:
        address = _struct_address(operator.index(number), type_name, min_size).address  # type: ignore[arg-type]
    except InvalidArgumentError:
        return False
    found = read_memory(address, 4)
    return found is not None and int.from_bytes(found, sys.byteorder, signed=True) == s_type


def _struct_address(struct: object, type_name: str, min_size: int) -> StructAddress:
    ffi = _cffi_for(struct)
    if ffi is not None:
        address, verified = _cffi_struct(ffi, struct, type_name, min_size)
    elif isinstance(struct, ctypes.Structure):
        verified = _check_ctypes_struct(type(struct), type_name, min_size)
        address = ctypes.addressof(struct)
    elif isinstance(struct, ctypes._Pointer):
        verified = _check_ctypes_struct(type(struct)._type_, type_name, min_size)
        address = _ctypes_pointer_value(struct)
    elif isinstance(struct, _CTYPES_BYREF):
        address = _ctypes_pointer_value(struct)
        target = struct._obj  # type: ignore[attr-defined]
        verified = _check_ctypes_struct(type(target), type_name, min_size)
        if address != ctypes.addressof(target):
            raise InvalidArgumentError(f"expected a {type_name}, got a byref() with an offset")
    else:
        try:
            if _own_handles(struct) is not None:
                raise InvalidArgumentError
            address, verified = _to_int(struct, None), False
        except InvalidArgumentError:
            raise _not_the_struct(type_name, with_article(type(struct).__name__)) from None
    if address == 0:
        raise _not_the_struct(type_name, "a null pointer")
    if address < _LOWEST_ADDRESS or address % 8 != 0:
        raise _not_the_struct(type_name, f"{address:#x}, which is no address of a struct")
    # What a binding points to is the binding's; a number may be anything.
    if not verified and read_memory(address, min_size) is None:
        raise _not_the_struct(type_name, f"{address:#x}, where there is no memory")
    return StructAddress(address, verified)


def function_address(function: object, name: str) -> int:
    """The address of a C function: of a ctypes function, a cffi function pointer, or an int.

    The caller keeps the function alive for as long as the address is used. `name` is what errors
    call it. Raises `InvalidArgumentError` for anything else, and for null.
    """
    _check_texts(name=name)
    if isinstance(function, _CTYPES_FUNCTION):
        address = _ctypes_pointer_value(function)
    else:
        ffi = _cffi_for(function)
        if ffi is not None and ffi.typeof(function).kind == "pointer":
            address = int(ffi.cast("uintptr_t", function))
        else:
            try:
                address = to_int(function)
            except InvalidArgumentError:
                raise InvalidArgumentError(
                    f"{name} must be a function of ctypes or cffi, or its address, not a "
                    f"{type(function).__name__}"
                ) from None
    # No system maps its first page.
    if address < _LOWEST_ADDRESS:
        raise InvalidArgumentError(f"{name} is {address:#x}, which is no address of a function")
    return address


def as_handle(value: object, binding: Any, type_name: str | None = None) -> Any:
    """`value` as a handle `type_name` of `binding`.

    Seldom needed: a `Buffer`, an `Image` and an `Allocation` have `__int__`, `__index__` and
    `_as_parameter_`, so `vulkan` takes them in its structs, lists and calls, and ctypes in calls.
    A field of a struct of ctypes takes `int(buffer)`.

    `value` is an int, a handle of any binding, or an object of this package, of which `type_name`
    may be left out: a `Buffer` is a `VkBuffer`, an `Image` a `VkImage`, an `Allocation` a
    `VkDeviceMemory`, a `Device` a `VkDevice`. `binding` is a module, or whatever holds the names:
    one with an `ffi` is taken as cffi, one whose `type_name`, or that without `Vk`, is a ctypes
    class as ctypes.

    Raises `InvalidArgumentError` where `value` is no handle, `binding` has no such type, or neither
    says a type; `UseAfterFreeError` for an object that was destroyed.
    """
    _check_texts(type_name=type_name)
    own = _own_handles(value)
    if type_name is None and own is not None:
        type_name = next(iter(own))
    if type_name is None:
        raise InvalidArgumentError(
            f"type_name is missing: {with_article(type(value).__name__)} does not tell its type"
        )
    number = to_int(value, type_name)
    if not (str.isascii(type_name) and str.isidentifier(type_name)):
        # cffi ends the process over a lone surrogate.
        raise InvalidArgumentError(f"type_name is {type_name!r}, which is no name in C")
    ffi = getattr(binding, "ffi", None)
    for name in (type_name, type_name.removeprefix("Vk")):
        if ffi is not None:
            try:
                return ffi.cast(name, number)
            except (ffi.error, KeyError, TypeError):
                continue
        handle_type = getattr(binding, name, None)
        if isinstance(handle_type, type) and issubclass(handle_type, ctypes._SimpleCData):
            return handle_type(number)
    raise _no_such_type(binding, type_name)


def to_vulkan(value: object, type_name: str | None = None) -> Any:
    """`value` as a handle of the binding `vulkan`: `to_vulkan(buffer)`, or
    `to_vulkan(number, "VkBuffer")`. See `as_handle`.

    Imports `vulkan`; `ImportError` where it is not installed.
    """
    return as_handle(value, load("vulkan"), type_name)


def to_volkano(value: object, type_name: str | None = None) -> Any:
    """`value` as a handle of the binding `volkano`, such as `volkano.VkBuffer`. See `as_handle`.

    Imports `volkano`, which on first use looks for a `vk.xml` (see its `VOLKANO_XML`);
    `ImportError` where it is not installed.
    """
    return as_handle(value, load("volkano"), type_name)


def to_vulkan_py(value: object, type_name: str | None = None) -> Any:
    """`value` as a handle of the binding `vulkan-py`, such as `vulkan_py.VkBuffer`; see
    `as_handle`.

    Imports `vulkan_py`; `ImportError` where it is not installed.
    """
    return as_handle(value, load("vulkan_py"), type_name)


def device_arguments(
    instance: object,
    physical_device: object,
    device: object,
    *,
    binding: Any = None,
    device_keyword: str = "device",
) -> DeviceArguments:
    """The three handles as integers, with the loader of the binding that `instance` came from.

    Each may also be a `Device`, which has them all. Errors begin with the name of the argument,
    that of `device` with `device_keyword`.

    `binding` names the binding where its handles do not tell: a module, or a volkano registry.
    Without it the loader of `vulkan`, `volkano` and of any ctypes binding whose module has
    `vkGetInstanceProcAddr` is found; for plain integers it is not. Nothing is imported.

    Raises `InvalidArgumentError` for a null handle and for one of another type.
    """
    values = []
    for keyword, handle, type_name in (
        ("instance", instance, "VkInstance"),
        ("physical_device", physical_device, "VkPhysicalDevice"),
        (device_keyword, device, "VkDevice"),
    ):
        value = to_int(handle, type_name, keyword)
        if value == 0:
            raise InvalidArgumentError(
                f"{keyword}: expected a {type_name} handle, got a null handle"
            )
        values.append(value)
    if binding is None:
        binding = _binding_of(instance)
    loader = None if binding is None else _loader_of(binding, values[0])
    return DeviceArguments(values[0], values[1], values[2], loader)


# ---- our own ----


def _own_handles(value: object) -> dict[str, str] | None:
    """The handles of an object of this package; None for one of anybody else."""
    for cls in type(value).__mro__:
        # The native module is not needed here, so classes are known by their names.
        if cls.__module__.partition(".")[0] == "vk_mem" and cls.__name__ in _OWN_HANDLES:
            return _OWN_HANDLES[cls.__name__]
    return None


def _refuse_pool(value: object, type_name: str | None) -> None:
    cls = type(value)
    if (cls.__module__, cls.__name__) == ("vk_mem", "Pool"):
        raise _no_handle(
            type_name,
            "a Pool, which has none: what is allocated from it has, as allocation.device_memory",
        )


def _own_to_int(value: object, handles: dict[str, str], type_name: str | None) -> int:
    path = next(iter(handles.values())) if type_name is None else handles.get(type_name)
    if path is None:
        raise _no_handle(type_name, with_article(type(value).__name__))
    return int(operator.attrgetter(path)(value))


# ---- ctypes ----


def _ctypes_to_int(handle: Any, type_name: str | None) -> int:
    cls = type(handle)
    if isinstance(handle, ctypes._Pointer):
        # Some bindings type a handle as a pointer to an opaque, field-less struct.
        target = cls._type_
        if not issubclass(target, ctypes.Structure) or ctypes.sizeof(target) != 0:
            raise _no_handle(type_name, f"a pointer to {target.__name__}")
        _check_handle_name(target.__name__.removesuffix("_T"), type_name)
        return _ctypes_pointer_value(handle)
    if cls._type_ not in _CTYPES_HANDLE_CODES:
        raise _no_handle(type_name, with_article(cls.__name__))
    _check_handle_name(cls.__name__, type_name)
    # `.value` and nothing else: `int()` of a c_uint64 reads its bytes as digits.
    return int(handle.value or 0)


def _ctypes_pointer_value(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _check_ctypes_struct(cls: type, type_name: str, min_size: int) -> bool:
    """Whether the name is proof enough of what it is."""
    if not any(_is_named(base.__name__, type_name) for base in cls.__mro__):
        raise _not_the_struct(type_name, with_article(cls.__name__))
    if not issubclass(cls, ctypes.Structure):
        raise _not_the_struct(
            type_name, f"{with_article(cls.__name__)} that is no ctypes Structure"
        )
    _check_size(ctypes.sizeof(cls), type_name, min_size)
    fields = [name for base in cls.__mro__[::-1] for name, *_ in base.__dict__.get("_fields_", ())]
    return _is_proof([base.__name__ for base in cls.__mro__], type_name, fields)


# ---- cffi ----


def _cffi_for(value: object) -> Any:
    """An FFI that reads `value`, where that is a CData of whatever FFI; `None` otherwise."""
    # Who has a CData has loaded this module: cffi need not be imported to recognise one. An FFI
    # of one's own reads the CData of all others.
    backend = sys.modules.get("_cffi_backend")
    if backend is None or not isinstance(value, backend.FFI.CData):
        return None
    return backend.FFI()


def _cffi_to_int(ffi: Any, handle: object, type_name: str | None) -> int:
    ctype = ffi.typeof(handle)
    if ctype.kind == "pointer":
        # A handle points to void or to an opaque struct. What points to anything that has a size
        # is the place where a handle or a struct lies.
        if ctype.item.kind not in {"void", "struct"} or _cffi_size(ffi, ctype.item) is not None:
            raise _no_handle(type_name, with_article(ctype.cname))
        match = _CFFI_HANDLE_TYPE.fullmatch(ctype.cname)
        if match:
            _check_handle_name(match[1], type_name)
        return int(ffi.cast("uintptr_t", handle))
    if ctype.kind != "primitive" or ctype.cname in _CFFI_NOT_HANDLES:
        raise _no_handle(type_name, with_article(ctype.cname))
    return int(handle)  # type: ignore[call-overload, no-any-return]


def _cffi_size(ffi: Any, ctype: Any) -> int | None:
    """The size in bytes; `None` for void and for an opaque struct."""
    # Not by asking for `fields`: on an opaque struct some versions of cffi abort the process.
    try:
        return int(ffi.sizeof(ctype))
    except (ffi.error, ValueError):
        return None


def _cffi_struct(ffi: Any, struct: Any, type_name: str, min_size: int) -> tuple[int, bool]:
    ctype = ffi.typeof(struct)
    if ctype.kind == "struct":
        struct, target = ffi.addressof(struct), ctype
    elif ctype.kind == "pointer" or (ctype.kind == "array" and len(struct) > 0):
        target = ctype.item
    elif ctype.kind == "primitive":
        return _cffi_to_int(ffi, struct, None), False
    else:
        raise _not_the_struct(type_name, with_article(ctype.cname))
    address = int(ffi.cast("uintptr_t", struct))
    if target.kind == "void":
        return address, False
    name = target.cname.removeprefix("struct ")
    if not _is_named(name, type_name):
        raise _not_the_struct(type_name, with_article(name))
    size = _cffi_size(ffi, target)
    if size is None:
        # Opaque: the name is all there is, as that of a void pointer would be none.
        return address, name == type_name
    _check_size(size, type_name, min_size)
    return address, _is_proof([name], type_name, [field for field, _ in target.fields or ()])


# ---- bindings ----


def _binding_of(handle: object) -> Any:
    """The loaded module that `handle` came from, where it can be told."""
    ffi = _cffi_for(handle)
    if ffi is not None:
        module = sys.modules.get("vulkan")
        module_ffi = getattr(module, "ffi", None)
        # Each FFI has struct types of its own, so an equal type proves where the handle is from.
        if module_ffi is not None and module_ffi.typeof("VkInstance") == ffi.typeof(handle):
            return module
        return None
    if not isinstance(handle, ctypes._SimpleCData):
        return None
    root = type(handle).__module__.partition(".")[0]
    if root == "volkano":
        # Its module builds a registry (and may look for a vk.xml) on the first look at a name.
        # One that is not built yet made no handles.
        return getattr(sys.modules.get("volkano"), "_registry", None)
    return None if root in {"ctypes", "_ctypes"} else sys.modules.get(root)


def _loader_of(binding: Any, instance: int) -> int | None:
    """The address of the binding's `vkGetInstanceProcAddr`, where it can be told."""
    ffi, lib = getattr(binding, "ffi", None), getattr(binding, "lib", None)
    if ffi is not None and lib is not None:
        function = getattr(lib, "vkGetInstanceProcAddr", None)
        return None if function is None else int(ffi.cast("uintptr_t", function)) or None
    function = getattr(binding, "vkGetInstanceProcAddr", None)
    if isinstance(function, _CTYPES_FUNCTION):
        return _ctypes_pointer_value(function) or None
    if not callable(function) or not type(function).__module__.startswith("volkano."):
        return None
    # volkano wraps its functions; vkGetInstanceProcAddr also answers for itself.
    found = function(binding.VkInstance(instance), b"vkGetInstanceProcAddr")
    return _ctypes_pointer_value(found) or None


# ---- checks ----


def _in_range(value: int, type_name: str | None) -> int:
    if not 0 <= value < 1 << 64:
        raise _no_handle(type_name, f"{value}, which is outside of 0 to 2**64 - 1")
    return value


def _check_handle_name(name: str, type_name: str | None) -> None:
    # A name without Vk (c_void_p, a name of one's own) says nothing about the kind.
    if type_name is not None and name.startswith("Vk") and name != type_name:
        raise InvalidArgumentError(f"expected a {type_name} handle, got a {name}")


def _is_named(name: str, type_name: str) -> bool:
    """Some bindings write `BufferCreateInfo`, and ctypesgen `struct_VkBufferCreateInfo`."""
    if type_name == _ANY_STRUCT:
        return True
    return name.removeprefix("struct_") in (type_name, type_name.removeprefix("Vk"))


def _is_proof(names: list[str], type_name: str, fields: list[str]) -> bool:
    """Other libraries have a `BufferCreateInfo`, too: then it has to begin with an `sType`."""
    if any(name.removeprefix("struct_") == type_name for name in names):
        return True
    return bool(fields) and fields[0].replace("_", "").lower() == "stype"


@contextmanager
def _named(keyword: str | None) -> Iterator[None]:
    """Errors inside begin with the name of an argument."""
    try:
        yield
    except InvalidArgumentError as error:
        if keyword is None:
            raise
        raise InvalidArgumentError(f"{keyword}: {error}") from None


def _check_texts(**texts: object) -> None:
    """Errors are made of them."""
    for keyword, text in texts.items():
        if text is not None and not isinstance(text, str):
            what = with_article(type(text).__name__)
            raise TypeError(f"{keyword} must be a str, not {what}")


def _check_size(size: int, type_name: str, min_size: int) -> None:
    if size < min_size:
        raise InvalidArgumentError(
            f"expected a {type_name} of at least {counted(min_size, 'byte')}, got one of "
            f"{counted(size, 'byte')}"
        )


def _no_handle(type_name: str | None, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"expected a {type_name or 'Vulkan'} handle, got {what}")


def _not_the_struct(type_name: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"expected a {type_name}, got {what}")


def _no_such_type(binding: Any, type_name: str) -> InvalidArgumentError:
    name = getattr(binding, "__name__", type(binding).__name__)
    return InvalidArgumentError(f"the binding {name} has no handle type {type_name}")
