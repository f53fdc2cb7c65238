"""The site of the documentation: `make docs` builds it into docs/_build."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from typing import Any

project = "tango-jit"
author = "the developers of tango-jit"
version = release = installed("tango-jit")
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # links to headings are those that forges make
html_theme = "furo"
html_title = f"tango-jit {release}"
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

PAGE = re.compile(r"\]\(([\w./-]+)\.md\)")


def add_contents(app: Any, name: str, source: list[str]) -> None:
    """The pages that an index lists are its chapters: no second list that has to be kept."""
    if name.rpartition("/")[2] == "index":
        pages = [page for page in dict.fromkeys(PAGE.findall(source[0])) if not page.startswith("..")]
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True}
