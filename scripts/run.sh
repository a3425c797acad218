#!/usr/bin/env bash
# Trains the default model; arguments go to dlfn instead: bash scripts/run.sh train digits_mlp train.steps=50
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 11 python3.11 python3.12 python3.13 python3) || {
    echo "run.sh: error: no Python 3.11 or newer with venv and pip on PATH" >&2
    exit 2
}
install .venv "$python" --editable .

if [ $# -eq 0 ]; then
    set -- train
fi
exec .venv/bin/dlfn "$@"
