#!/usr/bin/env bash
# Tries the tests of what depends on jax's internals on the newest pre-release of jax, where the package index has one that
# is newer than the newest release. It says what fails, but never fails itself: a pre-release may still change.
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 12 python3.14 python3.13 python3.12 ~/.pyenv/versions/3.1[2-9]*/bin/python python3) || {
    echo "SKIPPED: the tests on a pre-release of jax, which need Python 3.12 or newer"
    exit 0
}
newest() { "$python" -m pip index versions jax "$@" 2>/dev/null | sed -n '1s/.*(\(.*\)).*/\1/p'; }
release=$(newest) prerelease=$(newest --pre)
if [[ -z $prerelease || $prerelease == "$release" ]]; then
    echo "SKIPPED: the tests on a pre-release of jax: there is none after ${release:-what is installed}"
    exit 0
fi
install .venv-prerelease-jax "$python" --group tests --editable . "jax==$prerelease" "jaxlib>=$prerelease" &&
    .venv-prerelease-jax/bin/pytest --numprocesses auto tests/core ||
    echo "REPORT: dlfn does not pass on jax $prerelease"
