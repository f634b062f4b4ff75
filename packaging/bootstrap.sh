#!/usr/bin/env bash
# Prepare a bare machine: system libraries for Qt, .venv, Superscope and what it needs.
#
#   packaging/bootstrap.sh run     what `make run` needs
#   packaging/bootstrap.sh test    what `make test` needs besides
#
# Does nothing that is done already. What cannot be installed is named with the command to type,
# and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}

say() { printf '%s\n' "$*" >&2; }

names() { grep -hv '^#' "$@" | grep -v '^$'; }

missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || printf '%s\n' "$name"
    done
}

system_packages() {
    command -v dpkg-query >/dev/null || {
        say "No Debian package manager here: Qt's libraries are taken as present (packaging/system-packages.txt names them)."
        return 0
    }
    local lists=(packaging/system-packages.txt) wanted missing
    [ "$purpose" = test ] && lists+=(packaging/test-packages.txt)
    mapfile -t wanted < <(names "${lists[@]}")
    "$python" -c 'import ensurepip, venv' 2>/dev/null || wanted+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    [ "${#missing[@]}" -eq 0 ] && return 0
    local install=(apt-get install -y --no-install-recommends "${missing[@]}") sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            sudo=(sudo)
        else
            say "These system packages are missing and need an administrator; type:"
            say "    sudo ${install[*]}"
            exit 1
        fi
    fi
    say "Installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update -q >/dev/null || true # an outdated list may still do
    "${sudo[@]}" "${install[@]}" >build/system-packages.log 2>&1 || {
        tail -n 5 build/system-packages.log >&2
        say "The system packages could not be installed; type:"
        say "    sudo ${install[*]}"
        exit 1
    }
}

virtual_environment() {
    local stamp=".venv/.installed-$purpose" hash
    hash=$({ cat pyproject.toml packaging/bootstrap.sh; "$python" --version; pwd; } | sha256sum | cut -d' ' -f1)
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    [ "$(cat "$stamp" 2>/dev/null)" = "$hash" ] && return 0
    local what=.
    [ "$purpose" = test ] && what='.[dev]'
    say "Installing Superscope and its libraries into .venv (about 2 GB; the first time takes some minutes)"
    .venv/bin/python -m pip install --quiet --upgrade pip
    .venv/bin/python -m pip install --quiet --editable "$what" || {
        say "The libraries could not be installed; type to see why:"
        say "    .venv/bin/python -m pip install --editable '$what'"
        exit 1
    }
    printf '%s\n' "$hash" >"$stamp"
}

python=${PYTHON:-}
for candidate in python3 python3.13 python3.12 python3.11; do
    [ -n "$python" ] && break
    command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && python=$candidate
done
[ -n "$python" ] || {
    say "Superscope needs Python 3.11 or newer; type:"
    say "    sudo apt-get install -y python3 python3-venv"
    exit 1
}
mkdir -p build
system_packages
virtual_environment
