"""Settings of Sphinx, for `make docs`.

The source folder is the repository, so that links between `docs/` and the READMEs of the examples are the same on
GitHub and on the site. Nothing is loaded from other hosts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_site")]

from distributed_something.worker import VERSION  # noqa: E402 (found by the path above)

project = "Distributed-Something"
author = "The Distributed-Something authors"
copyright = author
version = release = VERSION

extensions = ["myst_parser", "site_pages"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = ["docs/*.md", "examples/*/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "README.md"]
exclude_patterns = [
    ".*", "distributed_something", "tests", "local", "files", "worker", "docs/_*", "examples/*/[!R]*",
]  # fmt: skip

myst_heading_anchors = 4
nitpicky = True  # a link to a page or an anchor that does not exist is an error, with -W
smartquotes = False  # options such as --local and values such as 'True' stay as they are typed
highlight_language = "text"  # most blocks are commands for a shell and what they print

html_theme = "furo"
html_title = project
# On GitHub, the environment says which repository this is; elsewhere, the pages name none.
repository_address = "/".join(filter(None, map(os.environ.get, ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"))))
if repository_address:
    html_theme_options = {
        "source_repository": repository_address, "source_branch": os.environ["GITHUB_REF_NAME"], "source_directory": "",
        "top_of_page_buttons": ["view"],
    }  # fmt: skip
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}  # the pages are in docs/, as in the repository
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = ""
templates_path = ["_templates"]
