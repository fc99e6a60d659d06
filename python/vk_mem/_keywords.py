"""Error messages for unknown keyword arguments, with the nearest known keyword as a hint."""

from __future__ import annotations

from vk_mem import _typing
from vk_mem.text import nearest, well_formed

__all__ = ["unexpected_keyword"]

_SIZE = ("size", "buffer_usage")
_IMAGE = ("format", "extent", "image_usage")
# By call: its positional arguments, and the TypedDict of its keywords.
_CALLS: dict[str, tuple[tuple[str, ...], type]] = {
    "AllocationCreateInfo": ((), _typing.AllocationKeywords),
    "BufferHeap": (
        ("allocator", "buffer_usage", "block_size", "algorithm", "debug"),
        _typing.AllocationKeywords,
    ),
    "allocate_memory": (("size", "alignment"), _typing.AllocationKeywords),
    "allocate_memory_for_buffer": (("buffer", "bind"), _typing.AllocationKeywords),
    "allocate_memory_for_image": (("image", "bind"), _typing.ImageMemoryKeywords),
    "allocate_memory_pages": (("size", "alignment", "count"), _typing.ManyKeywords),
    "create_aliasing_buffer": (("base", *_SIZE), _typing.AliasBufferKeywords),
    "create_aliasing_image": (("base", *_IMAGE), _typing.AliasImageKeywords),
    "create_buffer": (_SIZE, _typing.BufferKeywords),
    "destination.create_buffer": (_SIZE, _typing.BufferDetails),
    "destination.create_image": (_IMAGE, _typing.ImageDetails),
    "create_buffers": (("sizes", "infos", "buffer_usage"), _typing.ManyBufferKeywords),
    "create_image": (_IMAGE, _typing.ImageKeywords),
    "create_images": (("images",), _typing.ManyImageKeywords),
    "create_pool": ((), _typing.PoolKeywords),
    "find_memory_type_index": (("allowed_type_bits",), _typing.AllocationKeywords),
    "find_memory_type_index_for_buffer_info": (_SIZE, _typing.BufferInfoKeywords),
    "find_memory_type_index_for_image_info": (_IMAGE, _typing.ImageInfoKeywords),
    "import_host_pointer": (("data", "size"), _typing.MemoryImportKeywords),
    "import_memory_fd": (("fd", "size"), _typing.MemoryImportKeywords),
    "import_memory_win32_handle": (("handle", "size"), _typing.MemoryImportKeywords),
}
# What Vulkan, VMA, WebGPU and other bindings call a keyword of ours, in letters of `_letters`.
_MEANT = {
    "label": ("name",),
    "debugname": ("name",),
    "nbytes": ("size",),
    "bytesize": ("size",),
    "length": ("size",),
    "alignment": ("min_alignment",),
    "bufferusageflags": ("buffer_usage",),
    "imageusageflags": ("image_usage",),
    "memoryusage": ("usage",),
    "memoryproperties": ("required_flags",),
    "memorypropertyflags": ("required_flags",),
    "propertyflags": ("required_flags",),
    "properties": ("required_flags",),
    "puserdata": ("user_data",),
    "miplevelcount": ("mip_levels",),
    "levels": ("mip_levels",),
    "layers": ("array_layers",),
    "samplecount": ("samples",),
    "dimension": ("image_type",),
    "dimensions": ("image_type", "extent"),
    "offset": ("local_offset", "import_offset"),
    "memorytypeindex": ("memory_type_index", "memory_type_bits", "import_memory_type_index"),
}


def unexpected_keyword(function: str, keyword: str) -> str:
    """Returns the message of the `TypeError` for an unknown keyword of `function`."""
    message = f"{function}() got an unexpected keyword argument {well_formed(keyword[:80])!r}"
    positional, keywords = _CALLS[function]
    known = [*positional, *keywords.__annotations__]
    key = _letters(keyword)
    meant = [it for it in _MEANT.get(key, ()) if it in known]
    by_letters = {_letters(it): it for it in known}
    meant += [by_letters[it] for it in nearest(key, by_letters, 1)]
    return f"{message}; did you mean {meant[0]}=?" if meant else message


def _letters(keyword: str) -> str:
    return keyword.replace("_", "").lower()
