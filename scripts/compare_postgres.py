#!/usr/bin/env python3
"""The PostgreSQL half of compare-postgres.sh: makes rows, feeds them by COPY, and reports rate and commit latency.

`psql` is the client: written in C, it sends scripts that were made beforehand, so that the client is not what is
measured. The latency of a commit is the time from BEGIN to the answer of COMMIT as psql sees it.
"""

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import time
import uuid

SCHEMA = """
DROP TABLE IF EXISTS cdr, outbox;
CREATE TABLE cdr (
    bucket_hour timestamptz NOT NULL, cdr_sequence bigint NOT NULL, cdr_id uuid NOT NULL, row_hash bytea NOT NULL,
    chain_hash_prev bytea NOT NULL, message_id uuid NOT NULL, tenant_id uuid, operator_id text NOT NULL,
    record_type text NOT NULL, recorded_at timestamptz NOT NULL, event_time timestamptz NOT NULL,
    local_time_stamp text NOT NULL, submitted_at timestamptz, calling_party text NOT NULL, called_party text NOT NULL,
    msisdn_hash_to bytea NOT NULL, original_served_subscriber text, recording_entity text NOT NULL,
    service_center text NOT NULL, message_reference text NOT NULL, charge_amount numeric(18,6), charge_currency text,
    tap_tariff_class text, tariff_version text, charge_type text NOT NULL, billing_indicator text NOT NULL,
    direction text NOT NULL, encoding text NOT NULL, final_state text NOT NULL, segment_count smallint NOT NULL,
    failure_code text, imsi text, source_stream text NOT NULL, source_sequence bigint NOT NULL, trace_id text NOT NULL,
    adjustment_of uuid, adjustment_type text, adjustment_reason text, void_reason text, ticket_id text,
    issued_by text, approver text, PRIMARY KEY (bucket_hour, cdr_sequence));
CREATE UNIQUE INDEX ON cdr (cdr_id);
CREATE UNIQUE INDEX ON cdr (message_id);
CREATE INDEX ON cdr (msisdn_hash_to, event_time);
CREATE INDEX ON cdr (tenant_id, bucket_hour);
CREATE INDEX ON cdr (operator_id, bucket_hour);
CREATE INDEX ON cdr (event_time);
CREATE INDEX ON cdr (adjustment_of) WHERE adjustment_of IS NOT NULL;
CREATE TABLE outbox (id bigint PRIMARY KEY, subject text NOT NULL, payload text NOT NULL);
"""

OPERATORS = ["AWCC", "MTN_AF", "ETS", "ROSHAN", "SALAAM", "INTL_IN", "INTL_OUT"]

# Commits of all connections together, by rows per commit.
COMMITS = {1: 24000, 100: 1500, 1000: 300}
# At least so many of each connection.
FEWEST_COMMITS = 10


def make_row(rng, hour, number):
    """One CDR and its outbox row, as lines of COPY's text format."""
    cdr_id, message_id = uuid.UUID(int=rng.getrandbits(128)), uuid.UUID(int=rng.getrandbits(128))
    to = f"+9379{rng.randrange(10_000_000):07}"
    operator = OPERATORS[rng.randrange(7)]
    clock = f"{number // 60_000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}"
    at = f"2026-04-20 {hour:02}:{clock}+00"
    fields = [
        f"2026-04-20 {hour:02}:00:00+00", number, cdr_id, "\\\\x" + rng.randbytes(32).hex(), "\\\\x" + rng.randbytes(32).hex(),
        message_id, uuid.UUID(int=rng.randrange(200)), operator, "sms", at, at, f"2026-04-20T{hour:02}:{clock}+04:30", at,
        "AFGBANK", to, "\\\\x" + hashlib.sha256(to.encode()).hexdigest(), "\\N", "AFGAW", "+93700000010",
        f"{rng.getrandbits(32):08x}", "0.038400", "AFN", "SMS_A2P", "2026-04-01", "A2P", "CHARGEABLE", "MT", "GSM7",
        "DELIVERED", 1, "\\N", f"41201{rng.randrange(10**10):010}", "SMS_DLR_INBOUND", number, rng.randbytes(16).hex(),
        "\\N", "\\N", "\\N", "\\N", "\\N", "\\N", "\\N",
    ]
    payload = {"schemaVersion": "1", "eventId": str(message_id), "cdrId": str(cdr_id), "operatorId": operator, "occurredAt": at}
    outbox = f"{hour * 10**9 + number}\tcdr.generated.v1\t{json.dumps(payload)}\n"
    return "\t".join(map(str, fields)) + "\n", outbox


def write_script(path, rng, hour, batch, commits):
    number = 0
    with open(path, "w", encoding="ascii") as out:
        out.write("\\timing on\n")
        for _ in range(commits):
            rows = []
            for _ in range(batch):
                number += 1
                rows.append(make_row(rng, hour, number))
            out.write("BEGIN;\nCOPY cdr FROM STDIN;\n")
            out.writelines(row for row, _ in rows)
            out.write("\\.\nCOPY outbox FROM STDIN;\n")
            out.writelines(outbox for _, outbox in rows)
            out.write("\\.\nCOMMIT;\n")


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def run_case(psql, work, batch, connections, commits):
    subprocess.run(psql, input=SCHEMA, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scripts = [f"{work}/load-{i}.sql" for i in range(connections)]
    for i, script in enumerate(scripts):
        write_script(script, random.Random(i + 1), i + 1, batch, commits)
    subprocess.run(psql + ["-c", "CHECKPOINT"], check=True)
    started = time.monotonic()
    clients = [subprocess.Popen(psql + ["-f", "-"], stdin=open(s, "rb"), stdout=subprocess.PIPE, text=True) for s in scripts]
    outputs = [client.communicate()[0] for client in clients]
    seconds = time.monotonic() - started
    if any(client.returncode for client in clients):
        sys.exit("psql failed: see its message above")
    latencies = []
    for output in outputs:
        times = [float(ms) for ms in re.findall(r"^Time: ([0-9.]+) ms", output, re.M)]
        latencies += [sum(times[i : i + 4]) for i in range(0, len(times), 4)]
    rows = batch * connections * commits
    counted = subprocess.run(psql + ["-At", "-c", "SELECT count(*) FROM cdr"], check=True, capture_output=True, text=True)
    if int(counted.stdout) != rows or len(latencies) != connections * commits:
        sys.exit(f"expected {rows} rows and {connections * commits} commits, found {counted.stdout}, {len(latencies)}")
    latencies.sort()
    return {"batch": batch, "parallel": connections, "rate": rows / seconds, **{
        f"p{share}": percentile(latencies, share / 100) for share in (50, 95, 99)}}


def print_table(name, cases):
    print(f"{name}\n{'batch':>7} {'parallel':>9} {'CDR/s':>10} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9}")
    for case in cases:
        print(f"{case['batch']:>7} {case['parallel']:>9} {case['rate']:>10.0f} {case['p50']:>9.2f} {case['p95']:>9.2f} {case['p99']:>9.2f}")


def read_ours(path):
    """The lines of the benchmark's table: batch, in flight, rate, latencies, and more that is not used here."""
    cases = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) >= 6 and all(re.fullmatch(r"[0-9.]+", field) for field in fields[:6]):
                numbers = [float(field) for field in fields[:6]]
                cases.append(dict(zip(("batch", "parallel", "rate", "p50", "p95", "p99"), numbers)))
    if not cases:
        sys.exit(f"{path} holds no table")
    return [{**case, "batch": int(case["batch"]), "parallel": int(case["parallel"])} for case in cases]


def best(cases, batch):
    return max((case for case in cases if case["batch"] == batch), key=lambda case: case["rate"])


def compare(ours, postgres):
    """Like with like, then the best of each, for each number of rows per commit."""
    lines = []
    for batch in sorted({case["batch"] for case in ours} & {case["batch"] for case in postgres}):
        rates = [{case["parallel"]: case["rate"] for case in side if case["batch"] == batch} for side in (ours, postgres)]
        for parallel in sorted(rates[0].keys() & rates[1].keys()):
            ratio = rates[0][parallel] / rates[1][parallel]
            lines.append(f"batch {batch}, {parallel} in flight on both sides: {ratio:.1f} x PostgreSQL's rate")
        own, other = best(ours, batch), best(postgres, batch)
        lines.append(
            f"batch {batch}, best of each: {own['rate'] / other['rate']:.1f} x PostgreSQL's rate"
            f" ({own['parallel']} in flight against {other['parallel']})"
        )
    if not lines:
        sys.exit("the two sides have no case in common")
    return lines


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1, help="share of the commits to make")
    parser.add_argument("--batches", type=numbers, default=list(COMMITS), help="rows per commit, with commas between")
    parser.add_argument("--in-flight", type=numbers, default=[1], help="connections, with commas between")
    parser.add_argument("--work", help="directory for the scripts")
    parser.add_argument("--out", required=True, help="where the figures of PostgreSQL are kept")
    parser.add_argument("--beside", help="print the kept figures beside this output of ours")
    parser.add_argument("psql", nargs="*", help="the client's command line")
    arguments = parser.parse_args()
    if arguments.beside is None:
        cases = []
        for batch in arguments.batches:
            for connections in arguments.in_flight:
                commits = int(COMMITS.get(batch, 300) * arguments.scale / connections)
                cases.append(run_case(arguments.psql, arguments.work, batch, connections, max(FEWEST_COMMITS, commits)))
        print_table("PostgreSQL 15, two quorum standbys", cases)
        with open(arguments.out, "w", encoding="utf-8") as out:
            json.dump(cases, out)
        return
    with open(arguments.out, encoding="utf-8") as kept:
        postgres = json.load(kept)
    ours = read_ours(arguments.beside)
    print()
    print_table("PostgreSQL 15, two quorum standbys", postgres)
    print_table("cdr-mediation, three replicas", ours)
    print("\n".join(compare(ours, postgres)))


if __name__ == "__main__":
    main()
