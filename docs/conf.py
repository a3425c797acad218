"""The site: `bash scripts/docs.sh` builds it."""

import sys
from importlib import metadata
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

project = "dlfn"
author = copyright = "dlfn contributors"
version = release = metadata.version("dlfn")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",
    "mathematics",
    "outside",
    "pages",
]
exclude_patterns = ["_ext", "build"]

# Pages whose cells run: a page is run again when its code changes.
nb_execution_mode = "cache"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_cache_path = str(DOCS / "build" / "cells")
nb_merge_streams = True

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Result, in a signature, is of the room that it stands in.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "dlfn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# Summaries of what is found would be fetched from the pages, which browsers refuse to pages of files.
html_show_search_summary = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
