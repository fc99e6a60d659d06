"""The stub files of the native module: their paths, and that stubtest checks every class."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import vk_mem
from vk_mem import _vk_mem

ROOT = Path(__file__).parents[1]
PACKAGE = Path(vk_mem.__file__).parent
STUBS = PACKAGE / "_vk_mem"
NATIVE_CLASSES = {name for name, it in vars(_vk_mem).items() if inspect.isclass(it)}


def test_the_folder_of_stubs_does_not_hide_the_module() -> None:
    assert isinstance(_vk_mem.__loader__, ExtensionFileLoader)
    assert Path(_vk_mem.__file__ or "").parent == PACKAGE


def test_a_stub_has_the_path_of_its_rust_file() -> None:
    """A file for each room of the crate, and in `objects` for each file of the room."""
    text = (ROOT / "crates/python/src/lib.rs").read_text()
    registered = re.findall(r"(?:add_class::<|wrap_pyfunction!\()(\w+)::(\w+)", text)
    wanted = {room if room != "objects" else f"{room}/{file}" for room, file in registered}
    found = {it.relative_to(STUBS).with_suffix("").as_posix() for it in STUBS.rglob("*.pyi")}
    assert found - {"__init__", "objects/__init__"} == wanted


def test_no_stub_is_long() -> None:
    long = {it.name for it in STUBS.rglob("*.pyi") if it.read_text().count("\n") > 400}
    assert not long


def spoil(text: str) -> tuple[str, dict[str, str]]:
    """Adds a method to each class and removes another.

    Returns the new text and the name of the removed method by class, empty where there is none.
    """
    lines = text.splitlines()
    removed = {}
    for cls in reversed([it for it in ast.parse(text).body if isinstance(it, ast.ClassDef)]):
        methods = [it for it in cls.body if isinstance(it, ast.FunctionDef)]
        names = [it.name for it in methods]
        lines.insert(cls.end_lineno or 0, "    def not_there(self) -> int: ...")
        public = [it for it in methods if it.name[0] != "_" and names.count(it.name) == 1]
        # A base of classes in Python may have none.
        removed[cls.name] = public[-1].name if public else ""
        if not public:
            continue
        last = public[-1]
        start = min([last.lineno, *(it.lineno for it in last.decorator_list)])
        del lines[start - 1 : last.end_lineno]
    return "\n".join(lines) + "\n", removed


def test_stubtest_compares_every_class(tmp_path: Path) -> None:
    """stubtest silently skips a name that `__init__.pyi` imports from another stub file."""
    copy = tmp_path / "vk_mem"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    for file in copy.rglob("*.py"):
        # They call the removed methods; stubtest stops at errors of types.
        file.write_text("# mypy: ignore-errors\n" + file.read_text())
    wanted, classes = set(), set()
    for file in (copy / "_vk_mem").rglob("*.pyi"):
        text, removed = spoil(file.read_text())
        file.write_text(text)
        module = ".".join(file.relative_to(tmp_path).with_suffix("").parts)
        for name, method in removed.items():
            wanted |= {f"{module}.{name}.not_there"}
            wanted |= {f"{module}.{name}.{method}"} if method else set()
            classes.add(name)
    assert classes == NATIVE_CLASSES
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/check_stubs.py"), "--concise"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    reported = {it.split()[0] for it in done.stdout.splitlines() if it.startswith("vk_mem.")}
    assert reported == wanted, done.stdout + done.stderr
    assert done.returncode == 1
