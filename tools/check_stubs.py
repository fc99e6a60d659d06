"""Runs mypy's stubtest on the stub of the native module: `tools/check_stubs.py [--concise]`.

The stub has a file for each room of crates/python; the native module has no submodules. stubtest
checks a name only in the file that defines it, and only if that file can be imported as a module.
So each stub file gets a module here, which holds the native objects of its names.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

from mypy import stubtest

NATIVE = "vk_mem._vk_mem"
ALLOWED = Path(__file__).with_name("stubtest-allowlist.txt")


def add_submodules() -> None:
    native = importlib.import_module(NATIVE)
    folder = Path(native.__file__ or "").with_name(NATIVE.rpartition(".")[2])
    for stub in folder.rglob("*.pyi"):
        path = stub.relative_to(folder).with_suffix("").parts
        if path == ("__init__",):
            continue
        name = ".".join((NATIVE, *(it for it in path if it != "__init__")))
        module = sys.modules[name] = ModuleType(name)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and hasattr(native, node.name):
                setattr(module, node.name, getattr(native, node.name))


if __name__ == "__main__":
    add_submodules()
    sys.argv[1:1] = [NATIVE, "--allowlist", str(ALLOWED), "--ignore-unused-allowlist"]
    sys.exit(stubtest.main())
