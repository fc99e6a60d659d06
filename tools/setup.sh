#!/usr/bin/env bash
# Makes a checkout ready: system packages, .venv, and the extension module built into python/vk_mem.
#
#   tools/setup.sh release     what `make demo` runs: optimised
#   tools/setup.sh validate    what the tests run: every check on, and the tools for developers
#   tools/setup.sh docs        as for release, and what builds the documentation
#   tools/setup.sh tools       the tools for developers only, nothing built
#   tools/setup.sh wheels      the tools that build and check wheels only, nothing built
#
# Does only what is missing, so it is quick when nothing is. What it did is noted under .setup/.
# Both builds are kept there; the one that is asked for is put into the package.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOR="${1:-}"
readonly PYTHON="${PYTHON:-python3}"
readonly OLDEST_PYTHON="3.11"
readonly OLDEST_RUST="1.88"
readonly MODULE="python/vk_mem/_vk_mem.abi3.so"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
digest() { sha256sum | cut -d ' ' -f 1; }
# same FILE TEXT: whether the note FILE says TEXT.
same() { [ -f "$1" ] && [ "$(<"$1")" = "$2" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# ---- system packages -------------------------------------------------------------------------

missing_packages() {
    local package
    for package in libvulkan1 mesa-vulkan-drivers vulkan-validationlayers; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            printf '%s ' "$package"
    done
    have cc && have c++ || printf 'build-essential '
    if ! have "$PYTHON"; then
        # A Python that was asked for by name is the caller's affair.
        [ "$PYTHON" != python3 ] || printf 'python3 python3-venv '
    elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        printf '%s-venv ' "$(basename "$PYTHON")"
    fi
}

system_packages() {
    if ! have dpkg-query || ! have apt-get; then
        have cc || say "no C compiler found: install one with your package manager"
        if [ "$(uname)" = Linux ] && [[ "$(ldconfig -p 2>/dev/null)" != *libvulkan.so.1* ]]; then
            say "no Vulkan loader found: install it and a driver, or go on without a GPU"
        fi
        return 0
    fi
    local packages
    packages="$(missing_packages)"
    [ -z "$packages" ] || install_packages "$packages"
    browser
}

# What the tests look at pages with. Apart from the others and once, as not every system has it so.
browser() {
    [ "$BUILD" = validate ] && [ ! -e .setup/browser ] || return 0
    have chromium || have chromium-browser || have google-chrome || install_packages chromium
    touch .setup/browser
}

install_packages() {
    local packages="$1"
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        say "not root, going on without these packages: apt-get install ${packages% }"
        return 0
    fi
    say "installing the packages: ${packages% }"
    # shellcheck disable=SC2086  # a list of names
    if ! { as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --no-install-recommends -y $packages >/dev/null; } >&2; then
        say "going on without these packages, which could not be installed: ${packages% }"
    fi
}

# ---- Python ----------------------------------------------------------------------------------

virtual_environment() {
    have "$PYTHON" || die "no $PYTHON found; name a Python >= $OLDEST_PYTHON: make PYTHON=..."
    local identity
    identity="$("$PYTHON" -c '
import sys
if sys.version_info < tuple(map(int, sys.argv[1].split("."))):
    sys.exit(1)
print(sys.base_prefix, sys.version)' "$OLDEST_PYTHON")" ||
        die "$("$PYTHON" -V) is too old; name a Python >= $OLDEST_PYTHON: make PYTHON=..."
    if same .setup/python "$identity" && .venv/bin/python -c '' 2>/dev/null; then
        return 0
    fi
    say "making .venv with $("$PYTHON" -V)"
    rm -rf .setup/python .setup/group-* .setup/release .setup/validate
    "$PYTHON" -m venv --clear .venv ||
        die "could not make .venv; on Debian and Ubuntu install python3-venv"
    printf '%s\n' "$identity" >.setup/python
}

# python_tools GROUP: the dependency group of pyproject.toml.
python_tools() {
    local group="$1" inputs
    inputs="$(sed -n '/^\[dependency-groups\]/,/^\[tool/p' pyproject.toml | digest)"
    ! same ".setup/group-$group" "$inputs" || return 0
    say "installing the Python tools of the group $group into .venv"
    local pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
    # Older versions do not know dependency groups.
    "${pip[@]}" install --upgrade 'pip>=25.1'
    "${pip[@]}" install --group "$group"
    printf '%s\n' "$inputs" >".setup/group-$group"
    # Each of the others includes `build`.
    [ "$group" = build ] || printf '%s\n' "$inputs" >.setup/group-build
}

# ---- Rust ------------------------------------------------------------------------------------

# Whether the first version is at least the second.
at_least() { printf '%s\n' "$2" "$1" | sort -V -C; }

cargo_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2; }

rust() {
    local found
    found="$(cargo_version || true)"
    if [ -n "$found" ] && at_least "$found" "$OLDEST_RUST"; then
        return 0
    fi
    if have rustup; then
        say "installing the stable Rust with rustup (found: ${found:-none})"
        rustup toolchain install stable --profile minimal --component rustfmt,clippy >&2 ||
            die "rustup could not install it; vk-mem needs Rust >= $OLDEST_RUST"
        # Not `rustup default`: that would change the other projects of this user.
        rustup override set stable >&2
        found="$(cargo_version || true)"
        at_least "${found:-0}" "$OLDEST_RUST" || die "needs Rust >= $OLDEST_RUST, found ${found:-none}"
        return 0
    fi
    die "needs Rust >= $OLDEST_RUST (found: ${found:-none}; Debian's rustc is too old):" \
        "get it from https://rustup.rs"
}

# ---- the extension module --------------------------------------------------------------------

inputs_of_the_build() {
    {
        cargo --version
        printf '%s\n' "${RUSTFLAGS:-}" "$BUILD"
        find Cargo.toml Cargo.lock pyproject.toml crates/{engine,trace,vulkan,python} \
            -type f -not -path '*/tests/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | digest
}

extension_module() {
    local kept=".setup/$BUILD" inputs options
    inputs="$(inputs_of_the_build)"
    if ! same "$kept/inputs" "$inputs"; then
        case "$BUILD" in
            release) options=(--release) ;;
            validate) options=(--features validate) ;;
        esac
        say "building the extension module ($BUILD), a minute or two the first time"
        rm -rf "$kept"
        mkdir -p "$kept"
        # maturin refuses to choose when a Conda environment is active as well. Without --group it
        # would install `dev`.
        if ! env -u CONDA_PREFIX VIRTUAL_ENV="$PWD/.venv" PYO3_PYTHON="$PWD/.venv/bin/python" \
            .venv/bin/maturin develop --extras cli,numpy,view --group build "${options[@]}" \
            >"$kept/log" 2>&1; then
            cat "$kept/log" >&2
            die "the extension module could not be built"
        fi
        cp "$MODULE" "$kept/"
        printf '%s\n' "$inputs" >"$kept/inputs"
    fi
    if ! cmp -s "$kept/${MODULE##*/}" "$MODULE"; then
        # Renamed into place: a process that has the other build loaded keeps it.
        cp "$kept/${MODULE##*/}" "$MODULE.new"
        mv -f "$MODULE.new" "$MODULE"
    fi
}

# ----------------------------------------------------------------------------------------------

case "$FOR" in
    release) group=build BUILD=release ;;
    validate) group=dev BUILD=validate ;;
    docs) group=docs BUILD=release ;;
    tools) group=dev BUILD="" ;;
    wheels) group=wheels BUILD="" ;;
    *) die "usage: tools/setup.sh release|validate|docs|tools|wheels" ;;
esac
readonly BUILD
mkdir -p .setup
if have flock; then
    exec 9>.setup/lock
    flock 9
fi
system_packages
virtual_environment
python_tools "$group"
rust
[ -z "$BUILD" ] || extension_module
