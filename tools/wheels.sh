#!/usr/bin/env bash
# Builds what is uploaded for Linux on this machine's processor, and tries all of it.
#
#   tools/wheels.sh all DIST        all of the following, into the folder DIST
#   tools/wheels.sh build DIST      one abi3 wheel, for glibc 2.17 or newer
#   tools/wheels.sh sdist DIST      the source distribution
#   tools/wheels.sh check DIST      files, metadata, symbols of the C library, stable ABI
#   tools/wheels.sh try DIST        installs the wheel into fresh environments and runs it
#   tools/wheels.sh try-sdist DIST  builds a wheel from the source alone, without git, and tries that
#
# Needs the dependency group `wheels` in .venv (tools/setup.sh wheels).
set -euo pipefail
cd "$(dirname "$0")/.."

# Rust's own oldest. zig links against the symbols of that version; this machine's cc would ask for its own.
readonly GLIBC=manylinux_2_17
export PATH="$PWD/.venv/bin:$PATH"

die() { echo "wheels: $*" >&2; exit 1; }

# only FOLDER PATTERN: the one file of that pattern.
only() {
    local found=("$1"/$2)
    [ -f "${found[0]}" ] || die "$1 has no $2: build it first"
    [ "${#found[@]}" = 1 ] || die "$1 has ${#found[@]} files $2, expected one: ${found[*]##*/}"
    printf '%s\n' "${found[0]}"
}

build() {
    # Nobody's folders stand in the panics of users.
    local flags="--remap-path-prefix=$PWD=vk-mem --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    rm -f "$1"/*manylinux*.whl
    RUSTFLAGS="${RUSTFLAGS:-} $flags" PYO3_PYTHON="$PWD/.venv/bin/python" \
        maturin build --locked --zig --compatibility "$GLIBC" --out "$1"
}

sdist() {
    rm -f "$1"/*.tar.gz
    maturin sdist --out "$1"
}

check() {
    python tools/check_dist.py "$1"
    python -m twine check --strict "$1"/*
    local wheel
    for wheel in "$1"/*.whl; do
        [ -f "$wheel" ] || continue
        python -m abi3audit --strict "$wheel"
        # It reads the symbols of this processor's wheels.
        [[ "$wheel" == *manylinux*"_$(uname -m).whl" ]] || continue
        [[ "$(python -m auditwheel show "$wheel")" == *"\"$GLIBC"* ]] ||
            die "auditwheel does not find ${wheel##*/} fit for $GLIBC"
    done
}

try() {
    local wheel
    wheel="$(only "$1" '*manylinux*.whl')"
    tools/try_wheel.sh "$wheel"
}

try_sdist() {
    local source folder python built status=0
    source="$(only "$1" '*.tar.gz')"
    source="$(realpath "$source")"
    python="$(command -v python3)"
    folder="$(mktemp -d)"
    # Fails loudly where a build asks git for something.
    printf '#!/bin/sh\necho "wheels: the build called git" >&2\nexit 1\n' >"$folder/git"
    chmod +x "$folder/git"
    "$python" -m venv "$folder/builder"
    (
        cd "$folder"
        env -u RUSTFLAGS -u PYO3_PYTHON -u CARGO_TARGET_DIR PATH="$folder:$PATH" \
            builder/bin/python -m pip wheel --quiet --no-deps --no-binary vk-mem --wheel-dir built "$source"
    ) && built="$(only "$folder/built" '*.whl')" && tools/try_wheel.sh "$built" || status=$?
    rm -rf "$folder"
    [ "$status" = 0 ] || die "the source distribution does not give a wheel that works"
}

[ $# -eq 2 ] || { echo "usage: tools/wheels.sh STEP DIST (found $# arguments)" >&2; exit 2; }
case "$1" in
    build | sdist | check | try) "$1" "$2" ;;
    try-sdist) try_sdist "$2" ;;
    all)
        for step in build sdist check try try_sdist; do "$step" "$2"; done
        ls -l "$2"
        ;;
    *) die "unknown step $1: all, build, sdist, check, try or try-sdist is right" ;;
esac
