#!/usr/bin/env bash
# Builds the site into docs/build/site, running every page that has code, and holds every link of it to its target.
# Arguments go to sphinx-build.
source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

python=$(find_python 11 python3.11 python3.12 python3.13 python3) || {
    echo "docs.sh: error: no Python 3.11 or newer with venv and pip on PATH" >&2
    exit 2
}
install .venv-docs "$python" --group docs --editable .

.venv-docs/bin/python -m dlfn.catalogue.atlas docs/atlas
.venv-docs/bin/sphinx-build --builder html --fail-on-warning --keep-going --quiet "$@" docs docs/build/site
.venv-docs/bin/python scripts/site_links.py docs/build/site
echo "docs/build/site/index.html"
