#!/usr/bin/env bash
# Installs a wheel into a fresh environment and tries it: on simulated devices, and on the machine's best
# Vulkan device where there is one.
#
#   tools/try_wheel.sh WHEEL
#
# PYTHON names the interpreter (default: python3, or python where there is no python3).
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: tools/try_wheel.sh WHEEL (found $# arguments)" >&2; exit 2; }
wheel="$1"
[ -f "$wheel" ] || { echo "try_wheel: no file $wheel" >&2; exit 2; }
tools="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-$(command -v python3 || command -v python)}"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/plain"
if [ -d "$folder/plain/Scripts" ]; then bin=Scripts; else bin=bin; fi

# Alone first: it needs no other package.
"$folder/plain/$bin/python" -m pip install --quiet --no-deps --no-index "$wheel"
# Elsewhere, so that no checkout is found in place of the package.
wheel="$(cd "$(dirname "$wheel")" && pwd)/$(basename "$wheel")"
cd "$folder"
plain="plain/$bin/python"
"$plain" - <<'PROGRAM'
import vk_mem

for profile in vk_mem.SimulatedDevice.profile_names():
    device = vk_mem.SimulatedDevice(profile)
    with vk_mem.Allocator(device) as allocator:
        usage = vk_mem.BufferUsage.TRANSFER_SRC | vk_mem.BufferUsage.TRANSFER_DST
        with allocator.create_buffer(4096, usage, flags="HOST_ACCESS_RANDOM") as buffer:
            buffer.write(b"abcd" * 1024)
            assert buffer.read() == b"abcd" * 1024
    assert device.live_memory_objects == 0 and device.violations == []
print("vk-mem", vk_mem.__version__, "works alone")
PROGRAM
"$plain" -m vk_mem.doctor --simulated discrete-8gib >doctor.txt
head -n 1 doctor.txt

"$plain" "$tools/import_time.py"
# The command says what it lacks, and installs it so.
if "plain/$bin/vk-mem" demo 2>lacks.txt; then
    echo "try_wheel: vk-mem demo ran without its extras: the environment is not fresh" >&2
    exit 1
fi
grep -q "pip install 'vk-mem\[" lacks.txt

# Then with all extras.
"$plain" -m pip install --quiet "${wheel}[all]"
"plain/$bin/vk-mem" --version
"plain/$bin/vk-mem" demo --simulated discrete-8gib --count 100 >demo.txt
tail -n 1 demo.txt
"$plain" -m vk_mem info --simulated moltenvk --json >info.json
status=0
"plain/$bin/vk-mem" doctor --json >doctor.json || status=$?
# 1: no driver here, which is an answer and no fault.
[ "$status" -le 1 ] || { echo "try_wheel: vk-mem doctor ended with status $status" >&2; exit 1; }

# And on a device, a CPU driver's for one.
"$plain" - >devices.txt <<'PROGRAM'
import vk_mem

try:
    print(*(it.properties.device_name for it in vk_mem.list_physical_devices()), sep="\n")
except vk_mem.InitializationError:
    pass
PROGRAM
if [ -s devices.txt ]; then
    "plain/$bin/vk-mem" demo --count 100 >demo.txt
    tail -n 1 demo.txt
else
    echo "no Vulkan device here: tried on simulated devices alone"
fi
