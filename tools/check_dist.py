"""Checks the files that are uploaded: what is in them, what is not, and what their metadata say.

    python3 tools/check_dist.py dist

Prints a line for each problem and returns 1, or one for each file and 0.
"""

from __future__ import annotations

import email
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# In bytes. A wheel has one native module of some MB, or two in one for macOS.
LARGEST = {".whl": 12 << 20, ".gz": 4 << 20}
WHEEL_HOLDS = (
    "vk_mem/__init__.py",
    "vk_mem/__main__.py",
    "vk_mem/py.typed",
    "vk_mem/_vk_mem/__init__.pyi",
    "{info}/licenses/LICENSE-APACHE",
    "{info}/licenses/LICENSE-MIT",
    "{info}/entry_points.txt",
)
SOURCE_HOLDS = (
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "PKG-INFO",
    "README.md",
    "crates/python/src/lib.rs",
    "pyproject.toml",
    "python/vk_mem/__init__.py",
)
NATIVE = (".so", ".pyd", ".dylib", ".dll")
Files = dict[str, bytes]


def workspace_version() -> str:
    """Returns the version that all files should have."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return str(cargo["workspace"]["package"]["version"])


def extras() -> set[str]:
    """Returns the extras that the metadata should name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def read(path: Path) -> Files:
    """Returns the files of a wheel, or of a source distribution without its outer folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {it: wheel.read(it) for it in wheel.namelist()}
    files = {}
    with tarfile.open(path) as source:
        for it in source.getmembers():
            if it.isfile() and (content := source.extractfile(it)) is not None:
                files[it.name.partition("/")[2]] = content.read()
    return files


def metadata_problems(text: bytes, version: str) -> list[str]:
    """Returns what is wrong with `METADATA` or `PKG-INFO`."""
    found = []
    metadata = email.message_from_bytes(text)
    if metadata["Version"] != version:
        found.append(f"says version {metadata['Version']}, Cargo.toml says {version}")
    needed = [it for it in metadata.get_all("Requires-Dist", []) if "extra ==" not in it]
    if needed:
        found.append(f"needs {', '.join(needed)}; the base needs no other package")
    missing = extras() - set(metadata.get_all("Provides-Extra", []))
    if missing:
        found.append(f"lacks the extras {', '.join(sorted(missing))}")
    if not str(metadata["License-Expression"]).startswith("MIT"):
        found.append(f"has the licence {metadata['License-Expression']}, not MIT OR Apache-2.0")
    return found


def content_problems(files: Files, holds: tuple[str, ...], folders: tuple[str, ...]) -> list[str]:
    """Returns what is missing, what does not belong there, and which files name folders."""
    found = [f"lacks {it}" for it in holds if it not in files]
    for name, content in files.items():
        parts = name.split("/")
        if "tests" in parts or "__pycache__" in parts or ".git" in parts:
            found.append(f"holds {name}, which no user needs")
        # The bill of materials has cargo's ids of crates, which are the folders of the build.
        if "sboms" not in parts:
            found += [f"{name} names the folder {it}" for it in folders if it.encode() in content]
    return found


def wheel_problems(name: str, files: Files, version: str, folders: tuple[str, ...]) -> list[str]:
    """Returns what is wrong with a wheel."""
    info = f"vk_mem-{version}.dist-info"
    found = content_problems(files, tuple(it.format(info=info) for it in WHEEL_HOLDS), folders)
    if "-cp311-abi3-" not in name:
        found.append("is not for the stable ABI of Python 3.11 (cp311-abi3)")
    native = [it for it in files if it.endswith(NATIVE)]
    if len(native) != 1:
        found.append(f"has {len(native)} native modules, expected one: {native}")
    found += [f"{it} is not stripped" for it in native if b"\0.debug_info\0" in files[it]]
    if b"vk-mem=vk_mem.cli:main" not in files.get(f"{info}/entry_points.txt", b"").replace(
        b" ", b""
    ):
        found.append("does not install the command vk-mem")
    return found + metadata_problems(files.get(f"{info}/METADATA", b""), version)


def source_problems(files: Files, version: str, folders: tuple[str, ...]) -> list[str]:
    """Returns what is wrong with a source distribution."""
    found = content_problems(files, SOURCE_HOLDS, folders)
    found += [f"holds {it}, which was built" for it in files if it.endswith(NATIVE)]
    return found + metadata_problems(files.get("PKG-INFO", b""), version)


def problems(path: Path, version: str, folders: tuple[str, ...] = ()) -> list[str]:
    """Returns what keeps a file from being uploaded; `folders` must not be named in it."""
    if not path.name.startswith(f"vk_mem-{version}"):
        return [f"is not of version {version}"]
    found = []
    largest = LARGEST[path.suffix]
    if path.stat().st_size > largest:
        found.append(f"has {path.stat().st_size:,} bytes, at most {largest:,} are right")
    files = read(path)
    if path.suffix == ".whl":
        return found + wheel_problems(path.name, files, version, folders)
    return found + source_problems(files, version, folders)


def main(arguments: list[str]) -> int:
    """Checks each file of a folder."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: check_dist.py DIST, a folder of wheels and a .tar.gz", file=sys.stderr)
        return 2
    paths = sorted(it for it in Path(arguments[0]).iterdir() if it.suffix in LARGEST)
    if not paths:
        print(f"dist: {arguments[0]} has no wheel and no .tar.gz", file=sys.stderr)
        return 1
    folders = tuple({str(ROOT), str(Path.home())} - {"/"})
    failed = False
    for path in paths:
        found = problems(path, workspace_version(), folders)
        for it in found:
            print(f"dist: {path.name} {it}", file=sys.stderr)
        failed = failed or bool(found)
        if not found:
            print(f"{path.name}: {path.stat().st_size:,} bytes, complete")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
