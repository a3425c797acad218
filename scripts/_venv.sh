# Sourced by the other scripts: makes a virtual environment in the checkout, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What pip does not compile, below, Python must keep once it has: each of the tests' processes would compile it again.
unset PYTHONDONTWRITEBYTECODE

# The first of the commands that is a Python of at least version 3.$1 and can make environments.
find_python() {
    local minor=$1 python
    shift
    for python in "$@"; do
        if "$python" -c "import ensurepip, sys; sys.exit(sys.version_info < (3, $minor))" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# install FOLDER PYTHON REQUIREMENT...: the environment in FOLDER holds the requirements. A stamp, written last, says so
# for this place and pyproject.toml, so that neither a second call nor an interrupted one is taken for what it is not.
install() {
    local folder=$1 python=$2 wanted stamp
    shift 2
    wanted="$PWD $* $(cksum <pyproject.toml)"
    stamp="$folder/.installed"
    if grep -qxF -- "$wanted" "$stamp" 2>/dev/null; then
        return
    fi
    # An environment does not survive a move: its commands hold absolute paths.
    if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1 || ! grep -qF -- "$PWD " "$stamp" 2>/dev/null; then
        echo "making $folder with $("$python" --version)" >&2
        "$python" -m venv --clear "$folder"
    fi
    echo "installing $* into $folder (once)" >&2
    # Dependency groups need pip 25.1. Most modules are never imported: Python compiles those that are when they are.
    "$folder/bin/python" -m pip install --quiet --no-compile --upgrade "pip>=25.1"
    "$folder/bin/python" -m pip install --quiet --no-compile "$@"
    echo "$wanted" >>"$stamp"
}
