"""The installed package: names, types, docstrings, imports, version."""

from __future__ import annotations

import enum
import importlib.metadata
import importlib.resources
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support import run_python

import vk_mem
from vk_mem import _vk_mem

ROOT = Path(__file__).parents[1]
PUBLIC = [(name, getattr(vk_mem, name)) for name in vk_mem.__all__]
CLASSES = [(name, it) for name, it in PUBLIC if inspect.isclass(it)]


def test_it_is_typed() -> None:
    files = importlib.resources.files(vk_mem)
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_vk_mem", "__init__.pyi").is_file()


def test_all_is_sorted_and_complete() -> None:
    assert vk_mem.__all__ == sorted(vk_mem.__all__)
    assert len(set(vk_mem.__all__)) == len(vk_mem.__all__)
    public = {
        name
        for name, it in vars(vk_mem).items()
        if not name.startswith("_")
        and (not inspect.ismodule(it) or name in ("interop", "trace", "view"))
    }
    assert public | {"__version__", "trace", "view"} == set(vk_mem.__all__)


def test_everything_native_is_exported() -> None:
    native = {name for name in vars(_vk_mem) if not name.startswith("_")}
    assert native <= set(vk_mem.__all__)


@pytest.mark.parametrize("name", ["flags", "errors", "interop", "trace", "view"])
def test_all_of_the_modules(name: str) -> None:
    module = importlib.import_module(f"vk_mem.{name}")
    missing = [it for it in module.__all__ if not hasattr(module, it)]
    assert not missing
    if name not in ("interop", "trace", "view"):
        assert set(module.__all__) <= set(vk_mem.__all__) | {"ImageType"}


@pytest.mark.parametrize(("name", "cls"), CLASSES, ids=[name for name, _ in CLASSES])
def test_every_class_says_what_it_is(name: str, cls: type) -> None:
    doc = vars(cls).get("__doc__") or ""
    assert doc.strip(), f"{name} has no docstring"
    assert not doc.startswith("An enumeration"), name
    assert cls.__name__ == name
    assert cls.__module__.startswith("vk_mem")


def members() -> list[tuple[str, Any]]:
    found = []
    for class_name, cls in CLASSES:
        if issubclass(cls, enum.Enum | BaseException):
            continue
        # In one order: that of native classes is another in each process.
        for name, it in sorted(vars(cls).items()):
            # The slots of a dataclass are explained in its source, where editors find it.
            if not name.startswith("_") and not inspect.ismemberdescriptor(it):
                found.append((f"{class_name}.{name}", it))
    return found


@pytest.mark.parametrize(("name", "member"), members(), ids=[name for name, _ in members()])
def test_every_method_and_attribute_says_what_it_is(name: str, member: Any) -> None:
    doc = inspect.getdoc(member) or ""
    if name.startswith(("Statistics.", "TotalStatistics.", "HeapBudget.", "EmptyBlockRetention.")):
        # Named as in VMA; the class says the units.
        return
    assert doc.strip(), f"{name} has no docstring"


def test_functions_say_what_they_do() -> None:
    for name, it in PUBLIC:
        if inspect.isroutine(it):
            assert inspect.getdoc(it), name
    assert vk_mem.__doc__


def test_the_version_is_that_of_the_workspace() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert vk_mem.__version__ == cargo["workspace"]["package"]["version"]
    assert vk_mem.__version__ == importlib.metadata.version("vk-mem")


def test_the_base_needs_nothing() -> None:
    requires = importlib.metadata.requires("vk-mem") or []
    assert all("extra ==" in it for it in requires)


def test_the_import_loads_nothing_else() -> None:
    code = """
        import sys
        import vk_mem
        unwanted = {"numpy", "cffi", "_cffi_backend", "vulkan", "volkano", "rich", "typer", "cuda"}
        unwanted |= {"PIL", "vk_mem.view", "vk_mem.cli", "vk_mem.doctor", "vk_mem.dump.model"}
        unwanted |= {"vk_mem.observe.serve", "vk_mem.memory.buffer_heap", "json", "secrets"}
        unwanted |= {"socket", "argparse", "asyncio", "subprocess", "concurrent.futures"}
        print(sorted(unwanted & set(sys.modules)))
    """
    done = run_python(code, "-I", "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_what_is_loaded_later_is_there_from_the_start() -> None:
    code = """
        import vk_mem, vk_mem.dump
        for module in (vk_mem.dump, vk_mem):
            assert set(module.__all__) <= set(dir(module)), module
            for names in module._MODULES.values():
                for name in names:
                    assert name in module.__all__ and name not in vars(module), name
                    found = getattr(module, name)
                    assert vars(module)[name] is found
            try:
                module.nothing
            except AttributeError as error:
                print(error)
    """
    done = run_python(code)
    said = [f"module {name!r} has no attribute 'nothing'" for name in ("vk_mem.dump", "vk_mem")]
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import vk_mem", False),
        ("import vk_mem; device = vk_mem.SimulatedDevice()", False),
        ("import vk_mem; it = vk_mem.Allocator(vk_mem.SimulatedDevice())", True),
    ],
)
def test_the_end_loads_dumps_only_for_allocators(program: str, loaded: bool) -> None:
    last = "import atexit, sys; atexit.register(lambda: print('vk_mem.dump.load' in sys.modules))"
    done = run_python(f"{last}\n{program}")
    assert (done.returncode, done.stdout.strip()) == (0, str(loaded)), done.stderr


def test_the_import_loads_no_vulkan() -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here")
    code = """
        import vk_mem
        device = vk_mem.SimulatedDevice()
        with vk_mem.Allocator(device) as allocator:
            allocator.create_buffer(64, vk_mem.BufferUsage.VERTEX_BUFFER).destroy()
        print("libvulkan" in open("/proc/self/maps").read())
    """
    done = run_python(code)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_a_program_without_a_driver_says_what_to_install(tmp_path: Path) -> None:
    # No driver at all: the loader finds none in an empty folder.
    code = f"""
        import os
        os.environ["VK_DRIVER_FILES"] = os.environ["VK_ICD_FILENAMES"] = {str(tmp_path / "none")!r}
        import vk_mem
        try:
            vk_mem.Device.open()
        except vk_mem.InitializationError as error:
            print(error)
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "install" in done.stdout or "driver" in done.stdout
    assert done.stdout.count("\n") == 1
