"""Converts handles and create-info structs between this package and Python's Vulkan bindings.

Supported are `vulkan` (cffi), `volkano` (ctypes), `vulkan-py` (ctypes; imported as `vulkan_py`),
and any other binding made with ctypes or cffi. A binding, or cffi, is imported only when a function
that names it is called.
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
from vk_mem.text import counted, short, visible, with_article

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

# Type codes of ctypes' simple types that can hold a handle: void pointers and integers, but not
# characters, strings, booleans or floating-point numbers.
_CTYPES_HANDLE_CODES = frozenset("PBHILQbhilq")
_CTYPES_BYREF = type(ctypes.byref(ctypes.c_int()))
_CTYPES_FUNCTION = ctypes._CFuncPtr  # type: ignore[attr-defined]  # documented, not in typeshed
_CFFI_NOT_HANDLES = frozenset({"_Bool", "char", "float", "double", "long double"})
# Stands for a struct name where any struct of a `pNext` chain is allowed, and the size in bytes of
# the `sType` and `pNext` at its beginning.
_ANY_STRUCT = "struct of a pNext chain"
_CHAIN_HEADER = 16
_CFFI_HANDLE_TYPE = re.compile(r"(?:struct )?(Vk\w+)_T \*")


class _Parameter(ctypes.c_uint64):
    """The `_as_parameter_` of objects with a handle.

    ctypes truncates a plain int to 32 bits for a function without `argtypes`, and does not accept a
    plain `c_uint64` for some functions with `argtypes`. This class works for both.
    """

    def __index__(self) -> int:
        return self.value

    @property
    def _as_parameter_(self) -> int:
        return self.value


# Handles of our own objects: Vulkan's type name, and the attribute path. The first is the default.
_OWN_HANDLES: dict[str, dict[str, str]] = {
    "Buffer": {"VkBuffer": "handle", "VkDeviceMemory": "allocation.device_memory"},
    "Image": {"VkImage": "handle", "VkDeviceMemory": "allocation.device_memory"},
    "BufferRange": {"VkBuffer": "handle", "VkDeviceMemory": "buffer.allocation.device_memory"},
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
# No system maps the first page, so a smaller "address" is a number passed by mistake.
_LOWEST_ADDRESS = 4096


class StructAddress(NamedTuple):
    """The address of a create-info struct.

    Valid only while the object that it came from is alive.
    """

    address: int
    """Not null, and aligned to 8 bytes."""
    type_verified: bool
    """Whether the binding's type has the expected name, so that `sType` need not be checked
    (volkano leaves it 0). For a bare address only `sType` tells the type."""


class DeviceArguments(NamedTuple):
    """The handles of a device as integers, and the address of its loader function."""

    instance: int
    """`VkInstance`."""
    physical_device: int
    """`VkPhysicalDevice`."""
    device: int
    """`VkDevice`."""
    get_instance_proc_addr: int | None
    """Address of the binding's `vkGetInstanceProcAddr`, or `None` if not found."""


def to_int(handle: object, type_name: str | None = None, keyword: str | None = None) -> int:
    """Converts a Vulkan handle of any binding to an integer; `None` and null handles give 0.

    Accepts an int, ctypes and cffi handles, objects with `__index__`, and objects of this package:
    a `Buffer` gives its `VkBuffer`, an `Allocation` its `VkDeviceMemory`, a `Device` its
    `VkDevice`. With `type_name`, such as `"VkBuffer"`, a handle of another type is refused, if its
    type is known. Errors begin with `keyword`.

    Raises `InvalidArgumentError` for anything else: a bool, a struct, a pointer *to* a handle, a
    number outside 0 to 2**64 - 1. `UseAfterFreeError` for an object that was destroyed.
    """
    _check_texts(type_name=type_name, keyword=keyword)
    with _named(keyword):
        return _to_int(handle, type_name)


def _to_int(handle: object, type_name: str | None) -> int:
    # NumPy's bool is not a subclass of bool, and only newer versions refuse `__index__`.
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
    """Returns the address of a create-info struct of any binding.

    `struct` is a ctypes or cffi struct, a pointer to one (`byref` included), or an address: an int,
    a void pointer, or an object with `__index__`. `type_name` is the C name, such as
    `"VkBufferCreateInfo"`; bindings may omit `Vk`. `min_size` is its size in bytes. The caller
    keeps `struct` alive while it uses the address. Errors begin with `keyword`.

    Raises `InvalidArgumentError` for a struct of another type, one that is too small, null, and
    an invalid address (below 4096, not a multiple of 8, or not mapped).
    """
    _check_texts(type_name=type_name, keyword=keyword)
    with _named(keyword):
        return _struct_address(struct, type_name, min_size)


def chain_address(first: object, keyword: str | None = None) -> int:
    """Returns the address of the first struct of a `pNext` chain of any binding; 0 for `None`.

    `first` is a ctypes or cffi struct that begins with `sType` and `pNext`, a pointer to one, or an
    address. The caller keeps the chain alive while it uses the address. Errors begin with
    `keyword`.

    Raises `InvalidArgumentError` for anything else, and for an address that is not mapped.
    """
    _check_texts(keyword=keyword)
    if first is None:
        return 0
    with _named(keyword):
        return _struct_address(first, _ANY_STRUCT, _CHAIN_HEADER).address


def is_struct_at(number: object, type_name: str, min_size: int, s_type: int) -> bool:
    """Whether a number is the address of a Vulkan struct, judged by the `sType` there.

    Safe for any number: an address that is not mapped is not read.
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
            raise _not_the_struct(type_name, "a byref() with an offset")
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
    # A typed pointer of a binding is trusted; a bare number may be anything.
    if not verified and read_memory(address, min_size) is None:
        raise _not_the_struct(type_name, f"{address:#x}, where there is no memory")
    return StructAddress(address, verified)


def function_address(function: object, name: str) -> int:
    """Returns the address of a C function: a ctypes function, a cffi function pointer, or an int.

    The caller keeps the function alive while it uses the address. Errors call it `name`. Raises
    `InvalidArgumentError` for anything else, and for null.
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
                    f"{_shown(name)} must be a function of ctypes or cffi, or its address, not a "
                    f"{type(function).__name__}"
                ) from None
    # No system maps the first page.
    if address < _LOWEST_ADDRESS:
        why = f"{_shown(name)} is {address:#x}, which is no address of a function"
        raise InvalidArgumentError(why)
    return address


def as_handle(value: object, binding: Any, type_name: str | None = None) -> Any:
    """Converts `value` to a handle of type `type_name` of `binding`.

    Seldom needed: `Buffer`, `Image` and `Allocation` have `__int__`, `__index__` and
    `_as_parameter_`, so `vulkan` takes them in structs, lists and calls, and ctypes in calls. A
    ctypes struct field takes `int(buffer)`.

    `value` is an int, a handle of any binding, or an object of this package, for which `type_name`
    can be omitted: a `Buffer` becomes a `VkBuffer`, an `Image` a `VkImage`, an `Allocation` a
    `VkDeviceMemory`, a `Device` a `VkDevice`. `binding` is a module, or any object with the type
    names as attributes: with an `ffi` it is treated as cffi; if `type_name`, with or without `Vk`,
    is a ctypes class, as ctypes.

    Raises `InvalidArgumentError` if `value` is not a handle, `binding` has no such type, or the
    type is unknown; `UseAfterFreeError` for an object that was destroyed.
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
        # cffi aborts the process on a lone surrogate.
        raise InvalidArgumentError(f"type_name is '{_shown(type_name)}', which is no name in C")
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
    """Converts `value` to a handle of the binding `vulkan`: `to_vulkan(buffer)`, or
    `to_vulkan(number, "VkBuffer")`. See `as_handle`.

    Imports `vulkan`; raises `ImportError` if it is not installed.
    """
    return as_handle(value, load("vulkan"), type_name)


def to_volkano(value: object, type_name: str | None = None) -> Any:
    """Converts `value` to a handle of the binding `volkano`, such as `volkano.VkBuffer`. See
    `as_handle`.

    Imports `volkano`, which on first use looks for a `vk.xml` (see its `VOLKANO_XML`); raises
    `ImportError` if it is not installed.
    """
    return as_handle(value, load("volkano"), type_name)


def to_vulkan_py(value: object, type_name: str | None = None) -> Any:
    """Converts `value` to a handle of the binding `vulkan-py`, such as `vulkan_py.VkBuffer`. See
    `as_handle`.

    Imports `vulkan_py`; raises `ImportError` if it is not installed.
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
    """Converts the three handles to integers, and finds the loader function of their binding.

    Each may also be a `Device`, which has all three. Errors begin with the name of the argument,
    for `device` with `device_keyword`.

    `binding` names the binding if its handles do not tell: a module, or a volkano registry. Without
    it the loader function of `vulkan`, `volkano` and of any ctypes binding whose module has
    `vkGetInstanceProcAddr` is found, but not for plain integers. Nothing is imported.

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
            with _named(keyword):
                raise _no_handle(type_name, "a null handle")
        values.append(value)
    if binding is None:
        binding = _binding_of(instance)
    loader = None if binding is None else _loader_of(binding, values[0])
    return DeviceArguments(values[0], values[1], values[2], loader)


# ---- our own ----


def _own_handles(value: object) -> dict[str, str] | None:
    """Returns the handles of an object of this package; None for any other object."""
    for cls in type(value).__mro__:
        # Matched by class name, so that the native module is not imported here.
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
        # Some bindings declare a handle as a pointer to an opaque struct without fields.
        target = cls._type_
        if not issubclass(target, ctypes.Structure) or ctypes.sizeof(target) != 0:
            raise _no_handle(type_name, f"a pointer to {target.__name__}")
        _check_handle_name(target.__name__.removesuffix("_T"), type_name)
        return _ctypes_pointer_value(handle)
    if cls._type_ not in _CTYPES_HANDLE_CODES:
        raise _no_handle(type_name, with_article(cls.__name__))
    _check_handle_name(cls.__name__, type_name)
    # Only `.value`: `int()` of a c_uint64 parses its bytes as decimal digits.
    return int(handle.value or 0)


def _ctypes_pointer_value(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _check_ctypes_struct(cls: type, type_name: str, min_size: int) -> bool:
    """Checks the name and size of a struct class. Returns whether the name proves its type."""
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
    """Returns an FFI that can read `value` if it is a CData of any FFI; else None."""
    # A CData exists only if this module is loaded, so cffi is not imported to recognise one. A new
    # FFI can read the CData of every other.
    backend = sys.modules.get("_cffi_backend")
    if backend is None or not isinstance(value, backend.FFI.CData):
        return None
    return backend.FFI()


def _cffi_to_int(ffi: Any, handle: object, type_name: str | None) -> int:
    ctype = ffi.typeof(handle)
    if ctype.kind == "pointer":
        # A handle points to void or to an opaque struct. A pointer to a type with a size is the
        # address of a handle or of a struct.
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
    """Returns the size in bytes; None for void and for an opaque struct."""
    # `sizeof` and not `fields`: some versions of cffi abort the process for an opaque struct.
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
        # An opaque struct has no fields to check, so only its exact name counts.
        return address, name == type_name
    _check_size(size, type_name, min_size)
    return address, _is_proof([name], type_name, [field for field, _ in target.fields or ()])


# ---- bindings ----


def _binding_of(handle: object) -> Any:
    """Returns the loaded module that `handle` came from, or None if unknown."""
    ffi = _cffi_for(handle)
    if ffi is not None:
        module = sys.modules.get("vulkan")
        module_ffi = getattr(module, "ffi", None)
        # Each FFI has its own struct types, so an equal type proves that the handle is from this
        # one.
        if module_ffi is not None and module_ffi.typeof("VkInstance") == ffi.typeof(handle):
            return module
        return None
    if not isinstance(handle, ctypes._SimpleCData):
        return None
    root = type(handle).__module__.partition(".")[0]
    if root == "volkano":
        # Accessing a name builds volkano's registry, which may look for a vk.xml. If there is no
        # registry yet, no handle came from it.
        return getattr(sys.modules.get("volkano"), "_registry", None)
    return None if root in {"ctypes", "_ctypes"} else sys.modules.get(root)


def _loader_of(binding: Any, instance: int) -> int | None:
    """Returns the address of the binding's `vkGetInstanceProcAddr`, or None if unknown."""
    ffi, lib = getattr(binding, "ffi", None), getattr(binding, "lib", None)
    if ffi is not None and lib is not None:
        function = getattr(lib, "vkGetInstanceProcAddr", None)
        return None if function is None else int(ffi.cast("uintptr_t", function)) or None
    function = getattr(binding, "vkGetInstanceProcAddr", None)
    if isinstance(function, _CTYPES_FUNCTION):
        return _ctypes_pointer_value(function) or None
    if not callable(function) or not type(function).__module__.startswith("volkano."):
        return None
    # volkano wraps its functions; vkGetInstanceProcAddr also returns its own address.
    found = function(binding.VkInstance(instance), b"vkGetInstanceProcAddr")
    return _ctypes_pointer_value(found) or None


# ---- checks ----


def _in_range(value: int, type_name: str | None) -> int:
    if not 0 <= value < 1 << 64:
        raise _no_handle(type_name, f"{value}, which is outside of 0 to 2**64 - 1")
    return value


def _check_handle_name(name: str, type_name: str | None) -> None:
    # A name without Vk (c_void_p, or the caller's own class) does not tell the type.
    if type_name is not None and name.startswith("Vk") and name != type_name:
        raise _no_handle(type_name, f"a {name}")


def _is_named(name: str, type_name: str) -> bool:
    """Whether a type name matches, as `BufferCreateInfo` and `struct_VkBufferCreateInfo` do."""
    if type_name == _ANY_STRUCT:
        return True
    return name.removeprefix("struct_") in (type_name, type_name.removeprefix("Vk"))


def _is_proof(names: list[str], type_name: str, fields: list[str]) -> bool:
    """Whether names and fields prove the type. Other libraries have a `BufferCreateInfo`, too, so
    without `Vk` its first field must be an `sType`."""
    if any(name.removeprefix("struct_") == type_name for name in names):
        return True
    return bool(fields) and fields[0].replace("_", "").lower() == "stype"


@contextmanager
def _named(keyword: str | None) -> Iterator[None]:
    """Puts the name of an argument in front of errors from the block."""
    try:
        yield
    except InvalidArgumentError as error:
        if keyword is None:
            raise
        raise InvalidArgumentError(f"{_shown(keyword)}: {error}") from None


def _check_texts(**texts: object) -> None:
    """Raises `TypeError` unless the arguments are texts: error messages contain them."""
    for keyword, text in texts.items():
        if text is not None and not isinstance(text, str):
            what = with_article(type(text).__name__)
            raise TypeError(f"{keyword} must be a str, not {what}")


def _shown(text: str) -> str:
    """A text of the caller in an error message: on one line, and not too long."""
    return short(visible(text))


def _check_size(size: int, type_name: str, min_size: int) -> None:
    if size < min_size:
        raise InvalidArgumentError(
            f"expected a {_shown(type_name)} of at least {counted(min_size, 'byte')}, got one of "
            f"{counted(size, 'byte')}"
        )


def _no_handle(type_name: str | None, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"expected a {_shown(type_name or 'Vulkan')} handle, got {what}")


def _not_the_struct(type_name: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"expected a {_shown(type_name)}, got {what}")


def _no_such_type(binding: Any, type_name: str) -> InvalidArgumentError:
    name = getattr(binding, "__name__", None)
    name = name if isinstance(name, str) else type(binding).__name__
    shown = f"the binding {_shown(name)} has no handle type {_shown(type_name)}"
    return InvalidArgumentError(shown)
