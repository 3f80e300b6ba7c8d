#!/usr/bin/env bash
# Writes tests/compat/<disk format>: what this build keeps on disk and says to other replicas, for later builds to read.
# Once for each format, when it stands: a directory that is there is never written again.
set -euo pipefail
cd "$(dirname "$0")/.."
CDR_CUT_COMPAT=1 cargo test --release --workspace --locked --lib -- compat::
