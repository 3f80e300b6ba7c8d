#!/usr/bin/env bash
# Installs what is missing on a bare Debian 12 with Rust: compilers for RocksDB, the bus, the HSM and the SFTP
# server that the tests start, file(1), a Python environment with decoders that the tests ask. As root or by sudo; otherwise
# it prints the command to run and stops. Quick when all is there. `deps.sh postgresql` adds what the comparison with PostgreSQL needs.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need PACKAGE CHECK...: the package, unless the check succeeds
    local package=$1
    shift
    "$@" > /dev/null 2>&1 || missing+=("$package")
}
# Not libclang-cpp, which comes with other packages and is no substitute.
has_libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' ||
        compgen -G '/usr/lib/*/libclang-[0-9]*.so*' || [ -n "${LIBCLANG_PATH:-}" ]
}
has_nats() { command -v nats-server || [ -x /usr/sbin/nats-server ]; }
has_sshd() { [ -x /usr/sbin/sshd ]; }
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1'; }
has_postgres() { [ -x /usr/lib/postgresql/15/bin/initdb ]; }

if ! command -v cargo > /dev/null; then
    echo "cargo is missing: install Rust 1.89 or later first, for example with rustup" >&2
    exit 1
fi
need g++ command -v g++
need ccache command -v ccache
need libclang-dev has_libclang
need curl command -v curl
need nats-server has_nats
need faketime has_faketime
need openssh-server has_sshd
need softhsm2 command -v softhsm2-util
need file command -v file
need python3-venv python3 -c 'import ensurepip, venv'
if [ "${1:-}" = postgresql ]; then need postgresql-15 has_postgres; fi

if [ ${#missing[@]} -gt 0 ]; then
    install="apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -eq 0 ]; then
        as=(bash -c)
    elif command -v sudo > /dev/null && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
        as=(sudo bash -c)
    else
        echo "missing: ${missing[*]}. Run this as root, then try again:" >&2
        echo "    $install" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    "${as[@]}" "$install"
fi

if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
# The packages of the tests, once for each version of the list.
if ! cmp -s tests/requirements.txt .venv/requirements.txt; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt .venv/requirements.txt
fi
