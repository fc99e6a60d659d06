#!/usr/bin/env bash
# Installs a wheel in a fresh Debian 12 that has Python 3.11 and nothing else, and runs vk-mem there:
# first without a Vulkan loader, then with the loader and Mesa's CPU driver.
#
#   tools/try_debian.sh WHEEL
#
# Needs root and debootstrap; downloads some 250 MB and removes what it made. DEBIAN_MIRROR names another
# mirror. DEBIAN_ROOT names a folder that debootstrap filled before, which is copied instead of downloading.
set -euo pipefail

die() { echo "try_debian: $*" >&2; exit 1; }
say() { echo "try_debian: $*"; }

[ $# -eq 1 ] || { echo "usage: tools/try_debian.sh WHEEL (found $# arguments)" >&2; exit 2; }
[ -f "$1" ] || { echo "try_debian: no file $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || die "needs root, for chroot and mount"
wheel="$(realpath "$1")"

folder="$(mktemp -d)"
root="$folder/root"
end() {
    # Only what is mounted: a half-made root has nothing.
    for it in dev proc; do ! mountpoint -q "$root/$it" || umount "$root/$it"; done
    # One file system alone: if one is still mounted, /dev is not emptied.
    rm -rf --one-file-system "$folder"
}
trap end EXIT

if [ -n "${DEBIAN_ROOT:-}" ]; then
    [ -x "$DEBIAN_ROOT/usr/bin/python3.11" ] || die "$DEBIAN_ROOT has no usr/bin/python3.11"
    cp -a "$DEBIAN_ROOT" "$root"
else
    command -v debootstrap >/dev/null || die "needs debootstrap: apt install debootstrap"
    say "making a Debian 12 with Python 3.11"
    debootstrap --variant=minbase --include=python3,python3-venv bookworm "$root" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$folder/log" 2>&1 ||
        { tail -n 5 "$folder/log" >&2; die "debootstrap failed"; }
fi
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# What this machine needs to reach the network, if anything; a proxy may have a certificate of its own.
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || {
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}
cp "$wheel" "$root/root/"

# inside COMMAND...: in the new root, with an environment of its own but for the network's.
inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/root/plain/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
        ${PIP_CERT:+PIP_CERT=/etc/ssl/certs/ca-certificates.crt} "$@"
}
# status_is EXPECTED COMMAND...: runs it inside, and ends the trial if it ends otherwise.
status_is() {
    local expected="$1" status=0
    shift
    inside "$@" >"$folder/out" 2>&1 || status=$?
    [ "$status" = "$expected" ] ||
        { cat "$folder/out" >&2; die "$* ended with status $status, expected $expected"; }
}
says() { grep -q -- "$1" "$folder/out" || { cat "$folder/out" >&2; die "expected: $1"; }; }

say "installing ${wheel##*/} alone"
status_is 0 python3 -m venv /root/plain
status_is 0 pip install --no-deps --no-index "/root/${wheel##*/}"
# No compiler and no Rust came along, so nothing was built.
status_is 1 sh -c 'command -v cc || command -v cargo || exit 1'
status_is 0 python -c 'import vk_mem
with vk_mem.Allocator(vk_mem.SimulatedDevice()) as allocator:
    allocator.create_buffer(64, "VERTEX_BUFFER").destroy()'
status_is 1 vk-mem doctor
says libvulkan1
say "without a loader the doctor says: $(grep -m 1 -- libvulkan1 "$folder/out")"
status_is 1 python -c 'import sys, vk_mem
try:
    vk_mem.Device.open()
except vk_mem.InitializationError as error:
    sys.exit(str(error))'
say "and Device.open: $(cat "$folder/out")"

say "installing its extras"
status_is 0 pip install "/root/${wheel##*/}[all]"
status_is 0 vk-mem demo
says 'ok on'
say "without a loader: $(tail -n 1 "$folder/out")"

say "installing libvulkan1 and mesa-vulkan-drivers"
status_is 0 sh -c 'apt-get -qq update && apt-get -qq install --no-install-recommends -y libvulkan1 mesa-vulkan-drivers'
status_is 0 vk-mem demo
says 'ok on llvmpipe'
say "with Mesa: $(tail -n 1 "$folder/out")"
status_is 0 vk-mem doctor
say "and the doctor says: $(head -n 1 "$folder/out")"
say "works"
