"""NumPy, which only some calls need and only they import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vk_mem._lazy import load

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.unsignedinteger[Any]]

__all__ = ["array_of_buffer", "numpy"]


def numpy() -> Any:
    """Returns the module; raises `ImportError` that names the package."""
    try:
        return load("numpy")
    except ImportError as why:
        raise ImportError("arrays need NumPy: pip install numpy", name=why.name) from why


def array_of_buffer(buffer: Any, dtype: str) -> Numbers:
    """Returns a view of a buffer, which is kept, as an array that is only read."""
    np = numpy()
    array: Numbers = (
        np.frombuffer(buffer, dtype) if memoryview(buffer).nbytes else np.empty(0, dtype)
    )
    array.flags.writeable = False
    return array
