"""How the documentation becomes a site: `make docs` reads this file.

Nothing comes from another host, so that the site can be read without a network: fonts are those of the system, and
there is no script, picture or formula from elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import made_pages  # noqa: E402  beside this file

from forethought.version import __version__  # noqa: E402

made_pages.write(HERE)

project = "Forethought"
author = "the Forethought contributors"
version = release = __version__
html_title = f"Forethought {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["tutorials/*.ipynb", "results/*.head.md", "results/runs/**"]
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# The headings of a page are link targets under the names that GitHub gives them.
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto")

# Docstrings say `name` for code, which is no cross-reference.
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
toc_object_entries = False  # else the contents of every page hold every method of every class
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_use_ivar = True
# What a link of Markdown cannot reach stops the build (`--fail-on-warning`); the same name in two rooms does not.
suppress_warnings = ["ref.python"]


def setup(app: Sphinx) -> None:
    """The pages of results stand in the contents behind their overview, which names them in a table of its own."""
    app.connect("source-read", _list_results)


def _list_results(_app: Sphinx, page: str, source: list[str]) -> None:
    if page == "results/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
