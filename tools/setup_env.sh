# Makes .venv ready for work on this checkout. Needs bash and a Python 3.10, 3.11 or 3.12; nothing else.
#
#   bash tools/setup_env.sh                           makes .venv, and does nothing where it is ready
#   PYTHON=/path/to/python3.11 bash tools/test.sh     picks the interpreter that .venv is made with
#
# Other scripts source it: it sets ROOT, PYTHON_BIN (the environment's Python), MTLTRACK_DATA and
# MTLTRACK_REFERENCES, and setup_env does the rest.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON_BIN="$ROOT/.venv/bin/python"
SHARED="$(dirname "$ROOT")/shared" # where data and reference outputs lie when nothing else is said
export MTLTRACK_DATA="${MTLTRACK_DATA:-$SHARED/data}"
export MTLTRACK_REFERENCES="${MTLTRACK_REFERENCES:-$SHARED/parity}"
export MPLBACKEND="${MPLBACKEND:-Agg}" # no window is ever opened by these scripts

_fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

_find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        _fits "$PYTHON" && { echo "$PYTHON"; return 0; }
        echo "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 || echo 'not there'); Python 3.10, 3.11 or 3.12 is needed." >&2
        return 1
    fi
    for candidate in python3 python3.12 python3.11 python3.10 python; do
        if command -v "$candidate" >/dev/null && _fits "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    echo "Python 3.10, 3.11 or 3.12 is needed; 'python3' here is $(python3 --version 2>&1 || echo 'not there')." >&2
    echo "Install one of them, or name it: PYTHON=/path/to/python3.11 bash $0" >&2
    return 1
}

_make_venv() {
    local python
    if [[ -x "$PYTHON_BIN" ]] && _fits "$PYTHON_BIN"; then
        return 0
    fi
    if [[ -e "$ROOT/.venv" ]]; then
        echo "$ROOT/.venv exists, but holds no working Python 3.10 to 3.12. Remove that folder and start again." >&2
        return 1
    fi
    python="$(_find_python)" || return 1
    echo "making .venv with $("$python" --version)"
    if ! "$python" -m venv "$ROOT/.venv"; then
        echo "'$python -m venv' failed: on Debian and Ubuntu install the package python3-venv, then remove" >&2
        echo "$ROOT/.venv and start again." >&2
        return 1
    fi
}

# What the installation depends on; when it hasn't changed since the last one, nothing is installed.
_wanted() {
    echo "$ROOT"
    "$PYTHON_BIN" --version
    cat "$ROOT/setup.py" "$ROOT/pyproject.toml"
}

_install() {
    local stamp="$ROOT/.venv/.installed"
    if [[ -f "$stamp" ]] && cmp -s "$stamp" <(_wanted); then
        return 0
    fi
    echo "installing the package and what it needs into .venv (the first time some minutes, mostly torch)"
    # build parts first, so that no second, isolated environment is fetched for the build
    if ! { "$PYTHON_BIN" -m pip install -qq --disable-pip-version-check "setuptools>=69" wheel &&
        "$PYTHON_BIN" -m pip install -qq --disable-pip-version-check --no-build-isolation -e "$ROOT[test]"; }; then
        echo "pip could not install the package: its message stands above. Is a package index reachable?" >&2
        return 1
    fi
    _wanted >"$stamp"
}

setup_env() {
    local began=$SECONDS
    _make_venv && _install || return 1
    echo "environment ready: $("$PYTHON_BIN" --version), $((SECONDS - began)) s"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
        sed -n '1,/^$/s/^# \{0,1\}//p' "$0"
    else
        setup_env
    fi
fi
