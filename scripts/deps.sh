#!/usr/bin/env bash
# Installs what is missing on a bare Debian 12 with Rust: compilers for RocksDB, the bus, the HSM and the SFTP
# server that the tests start, file(1), and into .venv decoders that the tests ask, a spelling check, promtool and
# cargo-deny. As root or by sudo; otherwise it prints the command to run and stops. Quick when all is there.
# `deps.sh postgresql` adds what the comparison with PostgreSQL needs.
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

as_root() { # as_root WHAT COMMAND: a shell command as root, or what to do without
    if [ "$(id -u)" -eq 0 ]; then
        bash -c "$2"
    elif command -v sudo > /dev/null && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
        sudo bash -c "$2"
    else
        echo "missing: $1. Run this as root, then try again:" >&2
        echo "    $2" >&2
        exit 1
    fi
}

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    as_root "${missing[*]}" \
        "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${missing[*]}"
fi

if [ ! -x .venv/bin/python ]; then
    python3 -m venv .venv
fi
# The packages of the tests, once for each version of the list.
if ! cmp -s tests/requirements.txt .venv/requirements.txt; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt .venv/requirements.txt
fi

# promtool alone out of Debian's package: to install the package would start a server.
if [ ! -x .venv/bin/promtool ]; then
    if command -v promtool > /dev/null; then
        ln -sf "$(command -v promtool)" .venv/bin/promtool
    else
        apt-cache show prometheus > /dev/null 2>&1 || as_root "the list of Debian's packages" "apt-get update"
        folder=$(mktemp -d)
        (cd "$folder" && apt-get download --quiet prometheus 2> /dev/null)
        dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
        mv "$folder/usr/bin/promtool" .venv/bin/promtool
        rm -r "$folder"
    fi
fi

# Without optimisation, which would take longer than all that it is ever asked.
if [ ! -x .venv/bin/cargo-deny ]; then
    if command -v cargo-deny > /dev/null; then
        ln -sf "$(command -v cargo-deny)" .venv/bin/cargo-deny
    else
        CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --root .venv cargo-deny@0.20.2
    fi
fi
