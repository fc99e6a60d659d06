"""What the doctor says of machines: loaders, drivers, layers, cards, and drivers that crash."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_DRIVER
from support import COMMAND
from systems import WINDOWS

import vk_mem
from vk_mem.doctor import Examination, Machine, Verdict, Weight, examine, report_lines
from vk_mem.doctor.computer import Card, Computer, computer_here
from vk_mem.doctor.device_facts import DeviceFacts
from vk_mem.doctor.machine import Driver, machine_here, simulated_machine
from vk_mem.doctor.manifests import Layer, Manifest, drivers_of, layers_of
from vk_mem.doctor.packages import INSTALL, PACKAGES, install
from vk_mem.doctor.probe import Probe, probe

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
LINUX = Computer("linux", "debian", 16 << 30, (), (), (), False, False, False)
VALIDATION = Layer("/x.json", "VK_LAYER_KHRONOS_validation", False)
NO_LOADER = Probe(error="no Vulkan loader found (tried libvulkan.so.1: x): install libvulkan1")
driver_test = pytest.mark.skipif(NO_DRIVER, reason="VK_MEM_NO_DRIVER=1")


def device(profile: str = "lavapipe", **changed: Any) -> DeviceFacts:
    best = simulated_machine(vk_mem.SimulatedDevice(profile)).best
    assert best is not None
    return dataclasses.replace(best, simulated=False, **changed)


def machine(*devices: DeviceFacts, computer: Computer = LINUX, **changed: Any) -> Machine:
    found = Probe(devices, best=0 if devices else None)
    kept: dict[str, Any] = {"layers": (VALIDATION,), "probe": found, **changed}
    return Machine(computer, **kept)


def keys(examination: Examination) -> list[str]:
    return [it.key for it in examination.findings]


def judged(*devices: DeviceFacts, **changed: Any) -> Examination:
    return examine(machine(*devices, **changed))


def finding(examination: Examination, key: str) -> Any:
    found = [it for it in examination.findings if it.key == key]
    assert len(found) == 1, keys(examination)
    return found[0]


# ---- what is not installed ----


@pytest.mark.parametrize(
    ("family", "command"),
    [
        ("debian", "sudo apt install libvulkan1 mesa-vulkan-drivers"),
        ("fedora", "sudo dnf install vulkan-loader mesa-vulkan-drivers"),
        ("arch", "sudo pacman -S vulkan-icd-loader vulkan-swrast"),
        ("suse", "sudo zypper install libvulkan1 libvulkan_lvp"),
        ("alpine", "sudo apk add vulkan-loader mesa-vulkan-swrast"),
        ("", ""),
    ],
)
def test_without_a_loader_it_names_the_packages(family: str, command: str) -> None:
    computer = dataclasses.replace(LINUX, family=family)
    found = judged(computer=computer, probe=NO_LOADER)
    assert found.verdict is Verdict.BROKEN
    assert found.sentence == "vk-mem cannot use a graphics card here: Vulkan is not installed."
    missing = finding(found, "loader-missing")
    assert missing.command == command and missing.weight is Weight.BROKEN
    assert "SimulatedDevice()" in missing.do
    assert keys(found) == ["loader-missing"]


@pytest.mark.parametrize(
    ("system", "word"), [("win32", "driver of the card's maker"), ("darwin", "molten-vk")]
)
def test_other_systems_have_advice_of_their_own(system: str, word: str) -> None:
    computer = dataclasses.replace(LINUX, system=system, family="")
    for found in (judged(computer=computer, probe=NO_LOADER), judged(computer=computer)):
        assert word in found.findings[0].do and found.findings[0].command == ""


def test_packages_are_known_for_each_family() -> None:
    for part, names in PACKAGES.items():
        assert set(names) == set(INSTALL), part
    assert install(LINUX, "unknown") == ""
    amd = dataclasses.replace(LINUX, family="arch")
    assert install(amd, "loader", "AMD") == "sudo pacman -S vulkan-icd-loader vulkan-radeon"


def test_the_card_that_is_there_decides_what_to_install() -> None:
    computer = dataclasses.replace(LINUX, family="arch", cards=(Card(AMD, 1),))
    found = judged(computer=computer)
    assert finding(found, "no-device").what == "No Vulkan driver is installed"
    assert finding(found, "no-device").command == "sudo pacman -S vulkan-radeon vulkan-swrast"
    assert "AMD" in finding(found, "card-without-driver").what


def test_drivers_without_a_device_are_named() -> None:
    radeon = Driver(Manifest("/etc/vulkan/icd.d/radeon.json"))
    found = judged(drivers=(radeon,))
    assert "none of them finds a device (radeon.json)" in finding(found, "no-device").what


# ---- cards that cannot be used ----


def test_a_processor_in_place_of_a_card() -> None:
    found = judged(device())
    assert found.verdict is Verdict.SLOW and found.sentence.startswith("vk-mem works here, but")
    assert found.findings[0].key == "processor-only"
    windows = dataclasses.replace(LINUX, windows_subsystem=True)
    assert "in Windows" in finding(judged(device(), computer=windows), "processor-only").do
    card = judged(device("discrete-8gib"))
    assert card.verdict is Verdict.WORKS and "processor-only" not in keys(card)
    both = judged(device("discrete-8gib"), device())
    assert both.verdict is Verdict.WORKS


@pytest.mark.parametrize(
    ("changed", "command", "word"),
    [
        ({"cards": (Card(INTEL, 1),)}, "sudo apt install mesa-vulkan-drivers", "Intel"),
        ({"cards": (Card(NVIDIA, 1),)}, "", "NVIDIA"),
        ({"nvidia_kernel_driver": True}, "docker run --gpus all", "NVIDIA"),
        ({"cards": (Card(AMD, 1),), "container": True}, "docker run --device /dev/dri", "AMD"),
    ],
)
def test_a_card_without_a_driver(changed: dict[str, Any], command: str, word: str) -> None:
    computer = dataclasses.replace(LINUX, **changed)
    found = judged(device(), computer=computer)
    idle = finding(found, "card-without-driver")
    assert word in idle.what and idle.command.startswith(command)
    assert bool(idle.command) == bool(command)
    assert found.verdict is Verdict.SLOW and "processor-only" not in keys(found)


def test_a_card_that_works_is_not_idle() -> None:
    computer = dataclasses.replace(LINUX, cards=(Card(NVIDIA, 1),), nvidia_kernel_driver=True)
    assert "card-without-driver" not in keys(judged(device("nvidia-h200"), computer=computer))


def test_a_user_who_may_not_open_the_card() -> None:
    node = ("/dev/dri/renderD128",)
    computer = dataclasses.replace(LINUX, render_nodes=node, closed_nodes=node)
    found = finding(judged(computer=computer), "no-permission")
    assert "usermod" in found.command and found.weight is Weight.BROKEN
    assert finding(judged(device(), computer=computer), "no-permission").weight is Weight.SLOW


# ---- what is switched on ----


def test_variables_that_slow_programs_down() -> None:
    slow = {
        "VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation",
        "VK_LOADER_LAYERS_ENABLE": "*validation*",
        "VK_MEM_DEBUG": "all",
    }
    found = judged(device("nvidia-h200"), variables=slow)
    assert found.verdict is Verdict.SLOW
    assert keys(found)[:3] == ["layers-switched-on"] * 2 + ["debugging-switched-on"]
    assert [it.command for it in found.findings[:3]] == [f"unset {name}" for name in slow]
    harmless = {"VK_INSTANCE_LAYERS": "VK_LAYER_MESA_overlay"}
    assert judged(device("nvidia-h200"), variables=harmless).verdict is Verdict.WORKS


def test_layers_that_are_missing_or_load_by_themselves() -> None:
    overlay = Layer("/y.json", "VK_LAYER_OBS_HOOK", True)
    chooser = Layer("/z.json", "VK_LAYER_MESA_device_select", True)
    found = judged(device(), layers=(overlay, chooser))
    assert (
        finding(found, "validation-missing").command == "sudo apt install vulkan-validationlayers"
    )
    loaded = finding(found, "implicit-layers")
    assert "OBS_HOOK" in loaded.what and "device_select" not in loaded.what
    assert "validation-missing" not in keys(judged(device()))


def test_a_variable_that_hides_drivers(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    named = {"VK_DRIVER_FILES": str(there)}
    drivers = (Driver(Manifest(str(there)), ("llvmpipe",)),)
    found = judged(device(), drivers=drivers, variables=named, hidden=("/a.json", "/b.json"))
    hides = finding(found, "variable-hides-drivers")
    assert hides.weight is Weight.NOTE and "2 drivers more" in hides.why
    broken = judged(drivers=drivers, variables=named, hidden=("/a.json",))
    assert finding(broken, "variable-hides-drivers").weight is Weight.BROKEN


@pytest.mark.parametrize("name", ["VK_LOADER_DRIVERS_SELECT", "VK_LOADER_DRIVERS_DISABLE"])
def test_a_variable_that_filters_drivers(name: str) -> None:
    drivers = (Driver(Manifest("/lvp.json")),)
    found = judged(drivers=drivers, variables={name: "*nvidia*"})
    assert keys(found) == ["variable-filters-drivers"], "nothing has to be installed"
    assert found.findings[0].weight is Weight.BROKEN
    assert found.findings[0].command == f"unset {name}"
    harmless = judged(device("nvidia-h200"), variables={name: "*intel*"})
    assert finding(harmless, "variable-filters-drivers").weight is Weight.NOTE
    assert harmless.verdict is Verdict.WORKS


# ---- what the system shows ----


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_computer_is_read_from_its_files(tmp_path: Path) -> None:
    pci = "sys/bus/pci/devices/0000:"
    write(
        tmp_path,
        {
            "etc/os-release": 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n',
            f"{pci}01:00.0/class": "0x030000\n",
            f"{pci}01:00.0/vendor": "0x10de\n",
            f"{pci}01:00.0/device": "0x2684\n",
            # A network card, and the display chip of a server.
            f"{pci}02:00.0/class": "0x020000\n",
            f"{pci}02:00.0/vendor": "0x8086\n",
            f"{pci}02:00.0/device": "0x1\n",
            f"{pci}03:00.0/class": "0x030000\n",
            f"{pci}03:00.0/vendor": "0x1a03\n",
            f"{pci}03:00.0/device": "0x2000\n",
            f"{pci}04:00.0/class": "nonsense",
            "dev/dri/renderD128": "",
            "dev/dri/renderD129": "",
            "proc/driver/nvidia/version": "NVRM",
            "proc/version": "Linux version 5.15 (Microsoft@Microsoft.com)",
            ".dockerenv": "",
        },
    )
    found = computer_here(tmp_path, "linux", lambda path: path.name == "renderD128")
    assert found.family == "debian" and found.cards == (Card(NVIDIA, 0x2684),)
    assert found.closed_nodes == (str(tmp_path / "dev/dri/renderD129"),)
    assert found.container and found.windows_subsystem and found.nvidia_kernel_driver
    empty = computer_here(tmp_path / "none", "linux")
    assert (empty.family, empty.cards, empty.render_nodes) == ("", (), ())
    assert not (empty.container or empty.windows_subsystem or empty.nvidia_kernel_driver)


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ("ID=debian", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "fedora"),
        ("ID=manjaro\nID_LIKE=arch", "arch"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"', "suse"),
        ("ID=alpine", "alpine"),
        ("ID=nixos", ""),
        ("nonsense", ""),
    ],
)
def test_families_of_distributions(tmp_path: Path, release: str, family: str) -> None:
    write(tmp_path, {"etc/os-release": release})
    assert computer_here(tmp_path, "linux").family == family


def manifest(library: str) -> str:
    return json.dumps(
        {
            "file_format_version": "1.0.0",
            "ICD": {"library_path": library, "api_version": "1.3.0"},
        }
    )


def test_manifests_are_found_where_the_loader_looks(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "config/vulkan/icd.d/a.json": manifest("libvulkan_a.so"),
            "data/vulkan/icd.d/b.json": manifest("../lib/libvulkan_b.so"),
            "data/vulkan/icd.d/c.json": manifest("/nowhere/libvulkan_c.so"),
            "data/vulkan/icd.d/d.json": "{",
            "data/vulkan/icd.d/e.json": "[]",
            "data/vulkan/icd.d/f.json": '{"ICD": {"library_path": 3}}',
            "data/vulkan/lib/libvulkan_b.so": "",
            "data/vulkan/implicit_layer.d/l.json": json.dumps({"layer": {"name": "VK_LAYER_A"}}),
            "data/vulkan/explicit_layer.d/l.json": json.dumps(
                {"layers": [{"name": "VK_LAYER_B"}, {"name": "VK_LAYER_A"}, {"name": 3}, 4]}
            ),
            "data/vulkan/explicit_layer.d/m.json": "nonsense",
        },
    )
    # The folders of the system itself come last.
    environment = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "none"),
        "XDG_DATA_DIRS": str(tmp_path / "data"),
    }
    mine = [it for it in drivers_of(environment, "linux") if it.path.startswith(str(tmp_path))]
    assert [Path(it.path).name for it in mine] == [f"{it}.json" for it in "abcdef"]
    assert [bool(it.problem) for it in mine] == [False, False, True, True, True, True]
    assert mine[0].library == "libvulkan_a.so" and mine[0].api_version == "1.3.0"
    assert str(Path("/nowhere/libvulkan_c.so")) in mine[2].problem
    layers = [it for it in layers_of(environment, "linux") if it.path.startswith(str(tmp_path))]
    assert [(it.name, it.implicit) for it in layers] == [
        ("VK_LAYER_A", True),
        ("VK_LAYER_B", False),
    ]


def test_variables_replace_or_add_to_the_search(tmp_path: Path) -> None:
    write(tmp_path, {"x/a.json": manifest("liba.so"), "x/b.json": manifest("libb.so")})
    folder, one = str(tmp_path / "x"), str(tmp_path / "x/b.json")
    names = [it.path for it in drivers_of({"VK_DRIVER_FILES": folder, "VK_ICD_FILENAMES": "/no"})]
    assert names == [str(tmp_path / "x/a.json"), one]
    both = f"{one}{os.pathsep}/none.json"
    found = drivers_of({"VK_ICD_FILENAMES": both})
    assert [bool(it.problem) for it in found] == [False, True]
    added = drivers_of({"VK_ADD_DRIVER_FILES": one})
    assert added[0].path == one and len(added) >= 1
    assert WINDOWS or drivers_of({}, "win32") == [], "there is no registry here"
    layer = tmp_path / "l.json"
    layer.write_text(json.dumps({"layer": {"name": "VK_LAYER_X"}}))
    assert layers_of({"VK_LAYER_PATH": str(layer)})[-1].name == "VK_LAYER_X"


# ---- this machine ----


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb", **variables}
    return subprocess.run(
        [*COMMAND, "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )


@driver_test
@pytest.mark.driver
def test_this_machine() -> None:
    found = examine(machine_here())
    present = vk_mem.list_physical_devices()
    assert [it.name for it in found.machine.devices] == [
        it.properties.device_name for it in present
    ]
    best = found.machine.best
    assert best is not None and best.name == vk_mem.Device.open().properties.device_name
    assert not best.simulated and best.error == ""
    assert set(best.extensions) >= set(best.enabled)
    assert found.verdict in (Verdict.WORKS, Verdict.SLOW)
    drivers = [it for it in found.machine.drivers if it.loads]
    assert drivers and all(not it.crashed for it in drivers)
    assert {name for it in drivers for name in it.devices} >= {best.name}
    assert sys.platform != "linux" or "libvulkan" in (found.machine.probe.loader or "")


@driver_test
@pytest.mark.driver
def test_the_command_line_on_this_machine() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.startswith("vk-mem works here")
    assert "What was looked at" in done.stdout and "\x1b" not in done.stdout
    read = json.loads(run("--json").stdout)
    assert read["verdict"] in ("works", "slow") and read["machine"]["error"] is None


@pytest.mark.parametrize("profile", vk_mem.SimulatedDevice.profile_names())
def test_the_command_line_with_a_simulated_device(profile: str) -> None:
    done = run("--simulated", profile)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.startswith("On a machine like this one, vk-mem works:")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_wrong_usage_of_the_command_line() -> None:
    done = run("--simulated", "none")
    assert done.returncode == 1 and done.stdout == "" and "nvidia-h200" in done.stderr
    assert run("--frobnicate").returncode == 2


def test_without_drivers(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.json")
    done = run(VK_DRIVER_FILES=missing, VK_ICD_FILENAMES=missing)
    assert (done.returncode, done.stderr) == (1, ""), done
    first, *rest = done.stdout.splitlines()
    assert first == "vk-mem cannot use a graphics card here: no driver has a device."
    assert f"VK_DRIVER_FILES names a file that does not exist: {missing}" in " ".join(
        it.strip() for it in rest
    )
    assert "unset VK_DRIVER_FILES" in done.stdout
    read = json.loads(run("--json", VK_DRIVER_FILES=missing, VK_ICD_FILENAMES=missing).stdout)
    assert read["verdict"] == "broken" and read["machine"]["best"] is None
    assert read["machine"]["devices"] == [] and read["complaints"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="how to hide a library differs by system")
def test_without_a_loader(tmp_path: Path) -> None:
    # The dynamic linker finds these first, and cannot load them.
    for name in ("libvulkan.so.1", "libvulkan.so"):
        (tmp_path / name).write_text("no library")
    done = run(LD_LIBRARY_PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, ""), done
    assert done.stdout.startswith(
        "vk-mem cannot use a graphics card here: Vulkan is not installed.\n"
    )
    assert "The Vulkan loader is not installed" in done.stdout
    assert "SimulatedDevice()" in done.stdout


def test_without_the_packages_of_the_command_line() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; sys.argv[0] = 'vk-mem'\n"
        "from vk_mem.cli import main; main()"
    )

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    done = call("doctor", "--simulated", "integrated")
    assert done.returncode == 0 and "graphics of the processor" in " ".join(done.stdout.split())
    assert json.loads(call("doctor", "--simulated", "moltenvk", "--json").stdout)["format"] == 1
    assert call("doctor", "--frobnicate").returncode == 2
    assert "pip install 'vk-mem[cli]'" in call("info").stderr


BAD_DRIVER = {
    "crashes": "__attribute__((constructor)) static void start(void) { *(volatile int *)0 = 1; }",
    "leaves": "#include <stdlib.h>\n"
    "__attribute__((constructor)) static void start(void) { _Exit(3); }",
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a compiler that makes shared libraries")
@pytest.mark.parametrize(("kind", "said"), [("crashes", "it crashed (SIG"), ("leaves", "status 3")])
def test_a_driver_that_ends_each_process(tmp_path: Path, kind: str, said: str) -> None:
    compiler = shutil.which("cc")
    assert compiler, "Rust needs one as well"
    source, library = tmp_path / "driver.c", tmp_path / "libdriver.so"
    source.write_text(BAD_DRIVER[kind])
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    bad = tmp_path / "bad.json"
    bad.write_text(manifest(str(library)))
    named = {**os.environ, "VK_DRIVER_FILES": str(bad), "VK_ICD_FILENAMES": str(bad)}
    found = examine(machine_here(named))
    assert found.verdict is Verdict.BROKEN
    crashes = finding(found, "driver-crashes")
    assert said in crashes.what and "bad.json" in crashes.what
    assert crashes.command == "export VK_LOADER_DRIVERS_DISABLE='bad.json'"
    assert said in finding(found, "no-device").what
    assert any("bad.json" in line for line, _ in report_lines(found))


def test_a_driver_that_hangs() -> None:
    assert probe(patience=0.001).crashed.startswith("it hung")
