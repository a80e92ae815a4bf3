# shellcheck shell=bash
# Sourced by the scripts beside this folder: where the tree is, how to speak, how to get what is missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Builds go where cargo puts them, which a user may have moved.
# shellcheck disable=SC2034  # used by those who source this
target=${CARGO_TARGET_DIR:-$root/target}
cd "$root" || exit 1
# Daemons lie in sbin, which is not in every user's PATH.
PATH=$PATH:/usr/sbin:/sbin
# No caches of the measuring programs inside the tree.
export PYTHONDONTWRITEBYTECODE=1

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

# A shell that was started without a login does not have rustup's folder in its PATH.
find_cargo() {
    has cargo && return
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    has cargo || die "there is no cargo; install Rust as https://rustup.rs says, then run this again"
}

# apt_install PACKAGE...: as root, or by sudo where that asks no password.
apt_install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "missing, and this is not root: run  sudo apt-get install $*  and try again"
            return 1
        fi
        as_root=(sudo -n)
    fi
    if ! has apt-get; then
        say "missing, and there is no apt-get here: install what this machine calls $*"
        return 1
    fi
    say "installing $*"
    # The lists may be old or absent on a fresh machine, and an update that partly fails may still do.
    "${as_root[@]}" apt-get update -q >&2 || say "apt-get update failed; trying with the lists that are there"
    # Run level 1: the packages bring services of their own, which nobody asked to have started.
    "${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# need COMMAND=PACKAGE...: installs the packages of the commands that are not there, in one go.
need() {
    local pair missing=()
    for pair in "$@"; do
        has "${pair%%=*}" || missing+=("${pair#*=}")
    done
    [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
}

has() { command -v "$1" >/dev/null; }

# What a build needs beside Rust: a linker, a C compiler for the TLS library's C code, and libzmq to link with.
need_build_tools() {
    find_cargo
    need cc=build-essential || die "a build needs a C compiler"
    has_libzmq || apt_install libzmq3-dev || die "a build needs libzmq with its headers (Debian: libzmq3-dev)"
}

# The linker finds what the C compiler finds.
has_libzmq() { printf 'int main(void){return 0;}' | cc -x c - -include zmq.h -lzmq -o /dev/null 2>/dev/null; }
