#!/usr/bin/env bash
# Every check of the project: set-up, ruff, mypy, the unit tests, then the comparison with the reference outputs.
#
#   bash tools/test.sh [ARGUMENTS FOR PYTEST]
#
# All steps run, whatever an earlier one said; the exit status is not 0 when any of them failed.
set -uo pipefail

if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
fi
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$ROOT" || exit 1
setup_env || exit 1

SUMMARY=()
FAILED=0
LOG="$(mktemp)"
trap 'rm -f "$LOG"' EXIT

# step NAME COMMAND...: run it, show its output, note its time and outcome
step() {
    local name="$1" began=$SECONDS outcome=passed
    shift
    echo
    echo "== $name: $*"
    if ! "$@"; then
        outcome=FAILED
        FAILED=1
    fi
    SUMMARY+=("$(printf '%-8s %5d s  %s' "$outcome" $((SECONDS - began)) "$name")")
}

unit_tests() { "$PYTHON_BIN" -m pytest -m "not gpu" "$@" 2>&1 | tee "$LOG"; }

step "ruff" "$PYTHON_BIN" -m ruff check .
step "mypy" "$PYTHON_BIN" -m mypy
step "unit tests" unit_tests "$@"
if [[ -d "$MTLTRACK_REFERENCES" ]]; then
    step "parity" "$PYTHON_BIN" tools/check_parity.py --reference "$MTLTRACK_REFERENCES"
    step "parity, oneDNN" "$PYTHON_BIN" tools/check_parity.py --reference "$MTLTRACK_REFERENCES" --matmul onednn
else
    echo
    echo "== parity: SKIPPED, no reference outputs at $MTLTRACK_REFERENCES (set MTLTRACK_REFERENCES)"
    SUMMARY+=("$(printf '%-8s %5d s  %s' skipped 0 "parity (no folder $MTLTRACK_REFERENCES)")")
fi

echo
echo "== summary, $SECONDS s in all"
printf '%s\n' "${SUMMARY[@]}"
tail -n 1 "$LOG" # pytest's own summary
exit "$FAILED"
