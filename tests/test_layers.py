"""No two files import each other, and a room imports lower ones only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the ground up. A room is a folder, or a file at the top of its crate.
ROOMS: dict[str, list[str]] = {
    "crates/engine/src": [
        "lock.rs",
        "words.rs",
        "device.rs",
        "handle.rs",
        "key_map.rs",
        "slot_map.rs",
        "error.rs",
        "debugging",
        "request.rs",
        "recording",
        "check.rs",
        "statistics.rs",
        "heap",
        "suballocator",
        "virtual_block",
        "simulated",
        "pools",
        "eviction",
        "allocator",
        "defragmentation",
        "dump",
        "lib.rs",
    ],
    "crates/vulkan/src": [
        "driver",
        "host",
        "instance",
        "device",
        "simulated",
        "allocator",
        "debugging",
        "transfer",
        "lib.rs",
    ],
    "crates/trace/src": [
        "error.rs",
        "progress.rs",
        "bytes.rs",
        "description.rs",
        "values",
        "dictionary.rs",
        "field.rs",
        "value.rs",
        "event",
        "trace",
        "format",
        "read",
        "write",
        "json.rs",
        "numbering.rs",
        "objects.rs",
        "usage.rs",
        "perfetto",
        "record",
        "replay",
        "page",
        "tests",
        "lib.rs",
    ],
    "crates/peers/src": [
        "random.rs",
        "measure.rs",
        "fake",
        "vma",
        "driver.rs",
        "report.rs",
        "cases",
        "c_api.rs",
        "lib.rs",
        "main.rs",
    ],
    "crates/python/src": [
        "interpreter.rs",
        "package.rs",
        "errors.rs",
        "process",
        "observe",
        "recording",
        "arguments",
        "lifetime",
        "debugging",
        "memory",
        "interop",
        "objects",
        "moving",
        "transfer",
        "allocator",
        "trace",
        "lib.rs",
    ],
    "python/vk_mem": [
        "_lazy.py",
        "_records.py",
        "errors.py",
        "_no_copies.py",
        "_readable.py",
        "text.py",
        "_files.py",
        "_numpy.py",
        "flags",
        "debugging",
        "_typing.py",
        "_keywords.py",
        "dump",
        "observe",
        "interop",
        "memory",
        "trace",
        "view",
        "doctor",
        "cli",
    ],
}
# Circles of an earlier day, each a set of files. The list may only shrink.
KNOWN: list[set[str]] = []

Graph = dict[str, set[str]]


def expand(text: str, prefix: str = "") -> Iterator[str]:
    """`a::{b, c::d}` as `a::b` and `a::c::d`."""
    depth, start, parts = 0, 0, []
    for at, char in enumerate(text + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    for part in filter(None, parts):
        head, brace, rest = part.partition("{")
        yield from expand(rest[:-1], prefix + head) if brace else [prefix + part.split(" as ")[0]]


def rust(source: Path) -> Graph:
    files = {tuple(it.relative_to(source).with_suffix("").parts): it for it in source.rglob("*.rs")}
    modules = {k[:-1] if k[-1] in ("mod", "lib") else k: it for k, it in files.items()}
    uses: dict[tuple[str, ...], list[tuple[bool, str]]] = {}
    faces = set()  # files that only declare modules and hand names on
    for module, file in modules.items():
        text = re.sub(r"//[^\n]*", "", file.read_text()).split("#[cfg(test)]\nmod tests")[0]
        found = re.findall(r"^\s*(pub(?:\([a-z]+\))? )?use ([^;]+);", text, re.M)
        uses[module] = [(bool(pub), it) for pub, tree in found for it in expand(tree)]
        inline = re.sub(r"\buse [^;]+;", "", text)
        heads = "|".join(["crate", "super", *re.findall(r"\bmod (\w+);", text)])
        uses[module] += [
            (False, it) for it in re.findall(rf"(?<!::)\b(?:{heads})(?:::\w+)+", inline)
        ]
        if not re.search(r"\b(fn|struct|enum|trait|impl|const|static)\b", inline):
            faces.add(module)

    def owner(module: tuple[str, ...], path: str, hops: int = 0) -> tuple[str, ...] | None:
        parts = tuple(path.split("::"))
        if parts[0] == "crate":
            parts = parts[1:]
        elif parts[0] == "super":
            up = len(parts) - len(tuple(it for it in parts if it != "super"))
            parts = (*module[: len(module) - up], *parts[up:])
        elif (*module, parts[0]) in modules:
            parts = (*module, *parts)
        else:
            return None
        at = max((n for n in range(len(parts) + 1) if parts[:n] in modules), default=0)
        for public, again in uses[parts[:at]] if at < len(parts) and hops < 5 else []:
            if public and again.split("::")[-1] == parts[at]:  # a face: who defines it counts
                return owner(parts[:at], again, hops + 1) or parts[:at]
        return parts[:at]

    def name(module: tuple[str, ...]) -> str:
        return modules[module].relative_to(ROOT).as_posix()

    return {
        name(module): {
            name(it) for _, path in uses[module] if (it := owner(module, path)) and it != module
        }
        for module in modules
        if module and module not in faces
    }


def python(source: Path) -> Graph:
    files = {
        ".".join(it.relative_to(source.parent).with_suffix("").parts): it
        for it in source.rglob("*.py")
    }
    imports = {
        name: [it for it in ast.walk(ast.parse(file.read_text())) if isinstance(it, ast.ImportFrom)]
        for name, file in files.items()
    }
    handed_on = {
        (name.removesuffix(".__init__"), it.name): found.module or ""
        for name, nodes in imports.items()
        if name.endswith(".__init__")
        for found in nodes
        for it in found.names
    }

    def owner(module: str, name: str) -> str:
        while (module, name) in handed_on:  # a face: who defines it counts
            module = handed_on[module, name]
        return f"{module}.{name}" if f"{module}.{name}" in files else module

    graph: Graph = {}
    for name, nodes in imports.items():
        if not name.endswith(".__init__"):
            owners = (owner(found.module or "", it.name) for found in nodes for it in found.names)
            known = (files[it] for it in owners if it in files and it != name)
            graph[files[name].relative_to(ROOT).as_posix()] = {
                it.relative_to(ROOT).as_posix() for it in known
            }
    return graph


def circles(graph: Graph) -> list[set[str]]:
    reach: Graph = {}
    for start in graph:
        seen, queue = set(), list(graph[start])
        while queue:
            at = queue.pop()
            if at not in seen:
                seen.add(at)
                queue += graph.get(at, ())
        reach[start] = seen
    found = {
        frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph if a in reach[a]
    }
    return [set(it) for it in found]


GRAPHS = {it.relative_to(ROOT).as_posix(): rust(it) for it in sorted(ROOT.glob("crates/*/src"))}
GRAPHS["python/vk_mem"] = python(ROOT / "python/vk_mem")


def test_no_new_circle() -> None:
    for graph in GRAPHS.values():
        for circle in circles(graph):
            assert any(circle <= known for known in KNOWN), sorted(circle)


def test_rooms_import_downwards() -> None:
    for source, rooms in ROOMS.items():
        floor = {room: at for at, room in enumerate(rooms)}
        for file, imports in GRAPHS[source].items():
            here = floor.get(Path(file).relative_to(source).parts[0])
            for other in imports:
                there = floor.get(Path(other).relative_to(source).parts[0])
                assert here is None or there is None or there <= here, f"{file} imports {other}"


def test_every_file_has_a_room() -> None:
    for source, rooms in ROOMS.items():
        for file in GRAPHS[source]:
            first = Path(file).relative_to(source).parts[0]
            assert first in rooms or first.startswith("__"), f"{file}: list {first} in ROOMS"


def code_of(crates: str) -> Iterator[tuple[str, str]]:
    """The Rust files of some crates, and each without comments."""
    for file in sorted(ROOT.glob(f"crates/{crates}/src/**/*.rs")):
        yield file.relative_to(ROOT).as_posix(), re.sub(r"//[^\n]*", "", file.read_text())


def test_all_locks_have_ranks() -> None:
    found = set()
    for crate in ("engine", "vulkan", "trace", "python"):
        for file, code in code_of(crate):
            raw = r"\bparking_lot\b|\bsync::(?:\{[^}]*)?\b(?:Mutex|RwLock|Condvar|ReentrantLock)\b"
            if re.search(raw, code):
                found.add(file)
    assert found == {"crates/engine/src/lock.rs"}


def test_every_rank_is_in_use() -> None:
    lock = (ROOT / "crates/engine/src/lock.rs").read_text()
    listed = re.findall(r"^    (\w+),$", lock.split("\nranks! {")[1].split("\n}")[0], re.M)
    assert len(listed) > 30
    assert len(listed) == len(set(listed))
    crates = ("engine", "vulkan", "trace", "python")
    others = [code for crate in crates for file, code in code_of(crate)]
    used = {it for code in others for it in re.findall(r"\brank::(\w+)", code)}
    assert set(listed) == used


def test_the_interpreter_is_let_go_of_in_one_place() -> None:
    waits = r"\.detach\(|\bPython::try_attach\(|\ballow_threads\b"
    found = {file for file, code in code_of("python") if re.search(waits, code)}
    assert found == {"crates/python/src/interpreter.rs"}


def names_of(module: Path) -> set[str]:
    """All that a module of Python defines or hands on."""
    names = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names |= {it.asname or it.name for it in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {it.id for it in node.targets if isinstance(it, ast.Name)}
    return names


def test_rust_takes_names_that_exist() -> None:
    text = (ROOT / "crates/python/src/package.rs").read_text()
    found = re.findall(r'Name::new\(\s*"vk_mem\.([.\w]+)",\s*"(\w+)",?\s*\)', text)
    assert len(found) > 15
    for module, name in found:
        path = ROOT / "python/vk_mem" / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert file.is_file(), f"package.rs: no module vk_mem.{module}"
        assert name in names_of(file), f"package.rs: vk_mem.{module} has no {name}"
