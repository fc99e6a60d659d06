"""Handles and create-info structs of the Python bindings of Vulkan: to this package and back.

The bindings are `vulkan` (cffi), `volkano` (ctypes) and `vulkan-py` (ctypes; it imports as
`vulkan_py`), and by their shapes every other one that is made with ctypes or cffi. None of them is
imported before one of the functions that name it is called, and neither is cffi.
"""

from __future__ import annotations

import ctypes
import importlib
import operator
import re
import sys
from typing import Any, NamedTuple

from vk_mem.errors import InvalidArgumentError
from vk_mem.words import counted

__all__ = [
    "DeviceArguments",
    "StructAddress",
    "as_handle",
    "device_arguments",
    "function_address",
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
_CFFI_HANDLE_TYPE = re.compile(r"(?:struct )?(Vk\w+)_T \*")
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


def to_int(handle: object, type_name: str | None = None) -> int:
    """The integer value of a Vulkan handle from any binding; 0 for `None` and null handles.

    Takes an int, ctypes and cffi handles, and anything with `__index__`. With `type_name`, such as
    `"VkBuffer"`, a handle whose own type says that it is another kind is refused.

    Raises `InvalidArgumentError` for anything else: a bool, a struct, a pointer *to* a handle, a
    number outside of 0 to 2**64 - 1.
    """
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
    try:
        return _in_range(operator.index(handle), type_name)  # type: ignore[arg-type]
    except TypeError:
        raise _no_handle(type_name, f"a {type(handle).__name__}") from None


def struct_address(struct: object, type_name: str, min_size: int) -> StructAddress:
    """The address of a create-info struct of any binding.

    `struct` is a struct of ctypes or cffi, a pointer to one (`byref` included), or an address: an
    int, a void pointer, anything with `__index__`. `type_name` is the C name, such as
    `"VkBufferCreateInfo"`, and `min_size` its size in bytes. The caller keeps `struct` alive for
    as long as it uses the address.

    Raises `InvalidArgumentError` for a struct of another name, one that is too small, a null, and
    an address that is not one of a struct (below 4096, or not a multiple of 8).
    """
    ffi = _cffi_for(struct)
    if ffi is not None:
        address, verified = _cffi_struct(ffi, struct, type_name, min_size)
    elif isinstance(struct, ctypes.Structure):
        _check_ctypes_struct(type(struct), type_name, min_size)
        address, verified = ctypes.addressof(struct), True
    elif isinstance(struct, ctypes._Pointer):
        _check_ctypes_struct(type(struct)._type_, type_name, min_size)
        address, verified = _ctypes_pointer_value(struct), True
    elif isinstance(struct, _CTYPES_BYREF):
        address = _ctypes_pointer_value(struct)
        target = struct._obj  # type: ignore[attr-defined]
        _check_ctypes_struct(type(target), type_name, min_size)
        if address != ctypes.addressof(target):
            raise InvalidArgumentError(f"expected a {type_name}, got a byref() with an offset")
        verified = True
    else:
        try:
            address, verified = to_int(struct), False
        except InvalidArgumentError:
            raise _not_the_struct(type_name, f"a {type(struct).__name__}") from None
    if address == 0:
        raise _not_the_struct(type_name, "a null pointer")
    if address < _LOWEST_ADDRESS or address % 8 != 0:
        raise _not_the_struct(type_name, f"{address:#x}, which is no address of a struct")
    return StructAddress(address, verified)


def function_address(function: object, name: str) -> int:
    """The address of a C function: of a ctypes function, a cffi function pointer, or an int.

    The caller keeps the function alive for as long as the address is used. `name` is what errors
    call it. Raises `InvalidArgumentError` for anything else, and for null.
    """
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


def as_handle(value: object, binding: Any, type_name: str) -> Any:
    """`value`, an int or a handle of any binding, as a handle `type_name` of `binding`.

    `binding` is a module, or whatever holds the names: one with an `ffi` is taken as cffi, one
    whose `type_name` is a ctypes class as ctypes.

    Raises `InvalidArgumentError` where `value` is no handle, or `binding` has no such type.
    """
    number = to_int(value, type_name)
    ffi = getattr(binding, "ffi", None)
    if ffi is not None:
        try:
            return ffi.cast(type_name, number)
        except (ffi.error, KeyError, TypeError):
            raise _no_such_type(binding, type_name) from None
    handle_type = getattr(binding, type_name, None)
    if not (isinstance(handle_type, type) and issubclass(handle_type, ctypes._SimpleCData)):
        raise _no_such_type(binding, type_name)
    return handle_type(number)


def to_vulkan(value: object, type_name: str) -> Any:
    """`value` as a handle of the binding `vulkan`, such as `to_vulkan(buffer.handle, "VkBuffer")`.

    Imports `vulkan`; `ImportError` where it is not installed.
    """
    return as_handle(value, importlib.import_module("vulkan"), type_name)


def to_volkano(value: object, type_name: str) -> Any:
    """`value` as a handle of the binding `volkano`, such as `volkano.VkBuffer`.

    Imports `volkano`, which on first use looks for a `vk.xml` (see its `VOLKANO_XML`);
    `ImportError` where it is not installed.
    """
    return as_handle(value, importlib.import_module("volkano"), type_name)


def to_vulkan_py(value: object, type_name: str) -> Any:
    """`value` as a handle of the binding `vulkan-py`, such as `vulkan_py.VkBuffer`.

    Imports `vulkan_py`; `ImportError` where it is not installed.
    """
    return as_handle(value, importlib.import_module("vulkan_py"), type_name)


def device_arguments(
    instance: object,
    physical_device: object,
    device: object,
    *,
    binding: Any = None,
) -> DeviceArguments:
    """The three handles as integers, with the loader of the binding that `instance` came from.

    `binding` names the binding where its handles do not tell: a module, or a volkano registry.
    Without it the loader of `vulkan`, `volkano` and of any ctypes binding whose module has
    `vkGetInstanceProcAddr` is found; for plain integers it is not. Nothing is imported.

    Raises `InvalidArgumentError` for a null handle and for one of another type.
    """
    values = []
    for handle, type_name in (
        (instance, "VkInstance"),
        (physical_device, "VkPhysicalDevice"),
        (device, "VkDevice"),
    ):
        value = to_int(handle, type_name)
        if value == 0:
            raise InvalidArgumentError(f"expected a {type_name} handle, got a null handle")
        values.append(value)
    if binding is None:
        binding = _binding_of(instance)
    loader = None if binding is None else _loader_of(binding, values[0])
    return DeviceArguments(values[0], values[1], values[2], loader)


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
        raise _no_handle(type_name, f"a {cls.__name__}")
    _check_handle_name(cls.__name__, type_name)
    # `.value` and nothing else: `int()` of a c_uint64 reads its bytes as digits.
    return int(handle.value or 0)


def _ctypes_pointer_value(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _check_ctypes_struct(cls: type, type_name: str, min_size: int) -> None:
    if all(base.__name__ != type_name for base in cls.__mro__):
        raise _not_the_struct(type_name, f"a {cls.__name__}")
    if not issubclass(cls, ctypes.Structure):
        raise _not_the_struct(type_name, f"a {cls.__name__} that is no ctypes Structure")
    _check_size(ctypes.sizeof(cls), type_name, min_size)


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
            raise _no_handle(type_name, f"a {ctype.cname}")
        match = _CFFI_HANDLE_TYPE.fullmatch(ctype.cname)
        if match:
            _check_handle_name(match[1], type_name)
        return int(ffi.cast("uintptr_t", handle))
    if ctype.kind != "primitive" or ctype.cname in _CFFI_NOT_HANDLES:
        raise _no_handle(type_name, f"a {ctype.cname}")
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
        raise _not_the_struct(type_name, f"a {ctype.cname}")
    address = int(ffi.cast("uintptr_t", struct))
    if target.kind == "void":
        return address, False
    if target.cname.removeprefix("struct ") != type_name:
        raise _not_the_struct(type_name, f"a {target.cname.removeprefix('struct ')}")
    size = _cffi_size(ffi, target)
    if size is not None:
        _check_size(size, type_name, min_size)
    return address, True


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
