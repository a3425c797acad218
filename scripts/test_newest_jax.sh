#!/usr/bin/env bash
# The tests of what depends on jax's internals (transformations, rules) on the newest jax, which needs a newer Python than 3.11, where there is one.
# With the argument "install" it makes the environment alone.
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 12 python3.14 python3.13 python3.12 ~/.pyenv/versions/3.1[2-9]*/bin/python python3) || {
    echo "SKIPPED: the transformation tests on the newest jax, which need Python 3.12 or newer"
    exit 0
}
install .venv-newest-jax "$python" --group tests --editable .
[[ ${1:-} != install ]] || exit 0

.venv-newest-jax/bin/python -c 'import jax, sys; print(f"jax {jax.__version__}, Python {sys.version.split()[0]}")'
# Of the transformations those of typical ops, of the rules a case each. All: .venv-newest-jax/bin/pytest -m "" tests/sweeps/test_transformations.py
.venv-newest-jax/bin/pytest --numprocesses auto --dist worksteal -m "not exhaustive and (typical or not slow)" \
    tests/core/test_rules.py tests/core/test_op.py tests/core/test_backprop.py tests/check/test_compare.py \
    tests/sweeps/test_transformations.py
