"""What is uploaded: the check of its files, the extras, and the scripts that build and try it."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest
from support import tool
from systems import needs_a_shell

ROOT = Path(__file__).parents[1]
NAME = "vk_mem-9.8.7-cp311-abi3-manylinux_2_17_x86_64.whl"
FOLDERS = ("/somebody/checkout",)
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def check_dist() -> ModuleType:
    return tool("check_dist")


def metadata(check_dist: ModuleType) -> bytes:
    lines = ["Metadata-Version: 2.4", "Name: vk-mem", "Version: 9.8.7"]
    lines += [f"Provides-Extra: {it}" for it in sorted(check_dist.extras())]
    lines += ["License-Expression: MIT OR Apache-2.0"]
    lines += ["Requires-Dist: numpy>=1.26 ; extra == 'numpy'"]
    return "\n".join(lines).encode()


@pytest.fixture
def wheel(check_dist: ModuleType) -> Files:
    """The files of a wheel that may be uploaded."""
    info = "vk_mem-9.8.7.dist-info"
    files = {it.format(info=info): b"" for it in check_dist.WHEEL_HOLDS}
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nvk-mem=vk_mem.cli:main\n"
    files[f"{info}/METADATA"] = metadata(check_dist)
    files[f"{info}/sboms/crates.json"] = b"path+file:///somebody/checkout/crates/python"
    files["vk_mem/_vk_mem.abi3.so"] = b"\x7fELF"
    return files


@pytest.fixture
def source(check_dist: ModuleType) -> Files:
    """The files of a source distribution that may be uploaded."""
    files = dict.fromkeys(check_dist.SOURCE_HOLDS, b"")
    files["PKG-INFO"] = metadata(check_dist)
    return files


def write(path: Path, files: Files) -> Path:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(f"vk_mem-9.8.7/{name}")
            about.size = len(content)
            archive.addfile(about, BytesIO(content))
    return path


def test_whole_files_have_no_problem(
    check_dist: ModuleType, wheel: Files, source: Files, tmp_path: Path
) -> None:
    for path in (write(tmp_path / NAME, wheel), write(tmp_path / "vk_mem-9.8.7.tar.gz", source)):
        assert check_dist.problems(path, "9.8.7", FOLDERS) == []
        assert check_dist.problems(path, "9.8.8", FOLDERS) == ["is not of version 9.8.8"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vk_mem/py.typed", None, "lacks vk_mem/py.typed"),
        ("vk_mem-9.8.7.dist-info/licenses/LICENSE-MIT", None, "licenses/LICENSE-MIT"),
        ("vk_mem/_vk_mem.abi3.so", None, "has 0 native modules"),
        ("vk_mem/other.pyd", b"", "has 2 native modules"),
        ("vk_mem/_vk_mem.abi3.so", b"\x7fELF\0.debug_info\0.text\0", "is not stripped"),
        ("vk_mem/_vk_mem.abi3.so", b"/somebody/checkout/a.rs", "names the folder /somebody"),
        ("tests/data/trace.bin", b"", "holds tests/data/trace.bin"),
        ("vk_mem/__pycache__/a.pyc", b"", "__pycache__/a.pyc, which no user needs"),
        ("vk_mem-9.8.7.dist-info/entry_points.txt", b"", "does not install the command"),
    ],
)
def test_a_wheel_that_must_not_be_uploaded(
    check_dist: ModuleType,
    wheel: Files,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    said: str,
) -> None:
    if content is None:
        del wheel[name]
    else:
        wheel[name] = content
    (found,) = check_dist.problems(write(tmp_path / NAME, wheel), "9.8.7", FOLDERS)
    assert said in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"Version: 9.8.7", b"Version: 9.8.6", "says version 9.8.6, Cargo.toml says 9.8.7"),
        (b" ; extra == 'numpy'", b"", "needs numpy>=1.26; the base needs no other package"),
        (b"Provides-Extra: all\n", b"", "lacks the extras all"),
        (b"License-Expression: MIT OR", b"License-Expression:", "has the licence Apache-2.0"),
    ],
)
def test_metadata_that_must_not_be_uploaded(
    check_dist: ModuleType, source: Files, tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    assert old in source["PKG-INFO"]
    source["PKG-INFO"] = source["PKG-INFO"].replace(old, new)
    path = write(tmp_path / "vk_mem-9.8.7.tar.gz", source)
    (found,) = check_dist.problems(path, "9.8.7")
    assert said in found


def test_a_source_without_its_lock_or_with_a_build(
    check_dist: ModuleType, source: Files, tmp_path: Path
) -> None:
    del source["Cargo.lock"]
    source["python/vk_mem/_vk_mem.abi3.so"] = b""
    path = write(tmp_path / "vk_mem-9.8.7.tar.gz", source)
    assert check_dist.problems(path, "9.8.7") == [
        "lacks Cargo.lock",
        "holds python/vk_mem/_vk_mem.abi3.so, which was built",
    ]


def test_a_file_that_is_too_large(check_dist: ModuleType, wheel: Files, tmp_path: Path) -> None:
    wheel["vk_mem/_vk_mem.abi3.so"] = bytes(check_dist.LARGEST[".whl"])
    (found,) = check_dist.problems(write(tmp_path / NAME, wheel), "9.8.7")
    assert found.startswith("has 12,") and found.endswith("at most 12,582,912 are right")


def test_the_program_names_file_and_problem(
    check_dist: ModuleType, wheel: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_dist.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"dist: {tmp_path} has no wheel and no .tar.gz\n"
    write(tmp_path / NAME, wheel)
    assert check_dist.main([str(tmp_path)]) == 1
    version = check_dist.workspace_version()
    assert capsys.readouterr().err == f"dist: {NAME} is not of version {version}\n"
    assert check_dist.main([str(tmp_path / "none")]) == 2


def test_all_is_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (every,) = extras["all"]
    assert every == f"vk-mem[{','.join(sorted(set(extras) - {'all'}))}]"


def test_what_is_built_for_users_is_stripped() -> None:
    """`maturin build --release` would take the profile of the benchmarks."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    profile = pyproject["tool"]["maturin"]["profile"]
    wheel = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"][profile]
    assert (wheel["inherits"], wheel["strip"]) == ("release", "symbols")
    for path in (ROOT / "tools/wheels.sh", ROOT / ".github/workflows/release.yml"):
        assert "--release" not in path.read_text(), path


@needs_a_shell
@pytest.mark.parametrize(
    ("script", "arguments", "status", "said"),
    [
        ("wheels.sh", ["biuld", "EMPTY"], 1, "unknown step biuld: all, build, sdist, check, try"),
        ("wheels.sh", ["try"], 2, "usage: tools/wheels.sh STEP DIST (found 1 arguments)"),
        ("wheels.sh", ["try", "EMPTY"], 1, "has no *manylinux*.whl: build it first"),
        ("wheels.sh", ["try-sdist", "EMPTY"], 1, "has no *.tar.gz: build it first"),
        ("try_wheel.sh", [], 2, "usage: tools/try_wheel.sh WHEEL (found 0 arguments)"),
        ("try_debian.sh", [], 2, "usage: tools/try_debian.sh WHEEL (found 0 arguments)"),
        ("try_debian.sh", ["none.whl"], 2, "try_debian: no file none.whl"),
    ],
)
def test_scripts_say_what_is_wrong(
    tmp_path: Path, script: str, arguments: list[str], status: int, said: str
) -> None:
    given = [str(tmp_path) if it == "EMPTY" else it for it in arguments]
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / script), *given], capture_output=True, text=True
    )
    assert done.returncode == status
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_the_time_of_the_import_is_measured_and_limited() -> None:
    def measured(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/import_time.py"), "--runs", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    done = measured("--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["import"] == pytest.approx(found["with_import"] - found["bare"], abs=0.02)
    # No import takes less than this, whatever the machine does.
    done = measured("--limit=-1e9")
    assert (done.returncode, done.stderr) == (1, "import vk_mem takes longer than -1e+09 ms\n")
    assert measured("--runs", "0").returncode == 2
