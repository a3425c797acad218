#!/usr/bin/env bash
# Linter, formatter, type checker, tests, and the transformation tests on the newest jax and on its next. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 11 python3.11 python3.12 python3.13 python3) || {
    echo "test.sh: error: no Python 3.11 or newer with venv and pip on PATH" >&2
    exit 2
}
install .venv "$python" --group dev --editable ".[test]"

# One core makes the other environment while the other checks the code.
bash scripts/test_newest_jax.sh --install &
making=$!

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/basedpyright --pythonpath .venv/bin/python
wait "$making"
bash scripts/test_newest_jax.sh
bash scripts/test_prerelease_jax.sh
.venv/bin/pytest --numprocesses auto --dist worksteal "$@"
