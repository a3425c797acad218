#!/usr/bin/env bash
# Linter, formatter, type checker, tests, and the transformation tests on the newest jax and on its next. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 11 python3.11 python3.12 python3.13 python3) || {
    echo "test.sh: error: no Python 3.11 or newer with venv and pip on PATH" >&2
    exit 2
}
# The environment of the newest jax is made beside the other one, as pip keeps one processor busy at most. It is a process
# group of its own, to be ended as a whole where something else fails first, and what it writes is shown where it fails.
log=$(mktemp)
set -m
bash scripts/test_newest_jax.sh install >"$log" 2>&1 &
newest=$!
set +m
trap 'kill -- "-$newest" 2>/dev/null || true; rm -f "$log"' EXIT
install .venv "$python" --group dev --editable ".[tensorboard,test]"

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/basedpyright --pythonpath .venv/bin/python
wait "$newest" || {
    cat "$log" >&2
    exit 1
}
trap 'rm -f "$log"' EXIT
bash scripts/test_newest_jax.sh
bash scripts/test_prerelease_jax.sh
.venv/bin/pytest --numprocesses auto --dist worksteal "$@"
