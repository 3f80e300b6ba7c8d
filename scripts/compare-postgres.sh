#!/usr/bin/env bash
# The replicated append beside PostgreSQL 15, on this machine, in one go.
#
# PostgreSQL: a primary and two standbys over loopback, fsync on, a commit returns when one of the standbys has it
# on disk too (ANY 1). The rows have the same fields and indexes as ours; their hashes are computed beforehand,
# which spares PostgreSQL the work of the chain; each row has an outbox row. Rows arrive by COPY, the fastest way
# in. Ours: three replica processes, real Raft over loopback, every log fsynced, hashes computed on the way.
#
# Like is held against like: rows per commit, and commits in flight, are the same on both sides (a connection of
# PostgreSQL has one in flight). Then, for each number of rows per commit, the best of each.
#
# `scripts/compare-postgres.sh [--postgres-only]`; SCALE=0.1 makes it short.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh postgresql

bin=/usr/lib/postgresql/15/bin
dir=$(mktemp -d)
if [ "$(id -u)" -eq 0 ]; then
    # PostgreSQL refuses to run as root; Debian's package brings its own user.
    chown postgres "$dir"
    as=(runuser -u postgres --)
else
    as=()
fi
servers=()

stop() {
    for name in "${servers[@]}"; do
        "${as[@]}" "$bin/pg_ctl" -D "$dir/$name" stop -m immediate > /dev/null 2>&1 || true
    done
    rm -rf "$dir" "${ours:-}"
}
trap stop EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() { # start NAME PORT
    servers+=("$1")
    "${as[@]}" "$bin/pg_ctl" -D "$dir/$1" -w -t 60 -l "$dir/$1.log" \
        -o "-c port=$2 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir" start > /dev/null
}

start_cluster() {
    primary=$(free_port)
    "${as[@]}" "$bin/initdb" -D "$dir/primary" --auth=trust --username=postgres --encoding=UTF8 --locale=C > /dev/null
    "${as[@]}" tee -a "$dir/primary/postgresql.conf" > /dev/null << CONF
fsync = on
synchronous_commit = on
shared_buffers = 512MB
wal_buffers = 16MB
max_wal_size = 8GB
checkpoint_timeout = 15min
max_wal_senders = 6
wal_level = replica
CONF
    start primary "$primary"
    for name in standby1 standby2; do
        "${as[@]}" "$bin/pg_basebackup" -D "$dir/$name" -R -X stream -c fast -C -S "$name" \
            -d "host=127.0.0.1 port=$primary user=postgres application_name=$name"
        start "$name" "$(free_port)"
    done
    psql=("${as[@]}" "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$primary" -U postgres)
    "${psql[@]}" -c "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'" -c "SELECT pg_reload_conf()" > /dev/null
    for _ in $(seq 100); do
        if [ "$("${psql[@]}" -At -c "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'")" = 2 ]; then
            return
        fi
        sleep 0.1
    done
    echo "the standbys did not become synchronous; see the logs in $dir" >&2
    exit 1
}

start_cluster
scale=${SCALE:-1}
batches=1,100,1000
in_flight=1,4,8
python3 scripts/compare_postgres.py --scale "$scale" --batches $batches --in-flight $in_flight --work "$dir" --out "$dir/postgres.json" -- "${psql[@]}"
if [ "${1:-}" = --postgres-only ]; then exit 0; fi
for name in "${servers[@]}"; do
    "${as[@]}" "$bin/pg_ctl" -D "$dir/$name" stop -m fast > /dev/null
done
servers=()

# Whoever runs this made the directory; the servers have stopped.
ours=$(mktemp)
seconds=$(python3 -c "print(max(0.5, 6 * $scale))")
cargo bench --profile release --bench replicated_append -- --batches $batches --in-flight $in_flight --seconds "$seconds" \
    --dir "$dir/ours" | tee "$ours"
python3 scripts/compare_postgres.py --out "$dir/postgres.json" --beside "$ours"
