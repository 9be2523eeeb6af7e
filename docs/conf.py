"""How the site is built, with every warning an error.

sphinx-build -W --keep-going docs build/site
"""

import re
import shutil
from pathlib import Path

from smlmlp_dask import __version__

HERE = Path(__file__).parent

project = "smlmlp-dask"
author = copyright = "smlmlp-dask developers"
version = release = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",  # Markdown, and the notebooks
    "sphinx_click",
]
templates_path = ["_templates"]
smartquotes = False  # --json has two hyphens
default_role = "py:obj"  # `name` links where the name is documented here, and is code elsewhere
autodoc_typehints = "none"  # the Parameters sections say it, with shapes and units
autosummary_context = {  # methods and properties that users call; attributes stand in docstrings
    "shown": {
        "BlockPlan": "n_blocks, block_bytes, read_amplification",
        "JobPlan": "n_blocks, projected_bytes, output_bytes",
        "Molecules": "table",
        "RadiusSuggestion": "radii_pix, plot",
        "SpatialMeanResult": "frames, plot, browse, view",
    }
}
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    "ES01",  # an extended summary, where one line says it
    "EX01",  # an example: tests/test_docs.py asks for one where users need it
    "GL01",  # the summary on the line after the quotes
    "PR04",  # a type for parameters that are "as in" another function
    "SA01",  # a section See Also
    "SS06",  # a summary of one line
}
numpydoc_validation_exclude = {r"\.[A-Z]\w+$"}  # classes: Attributes stand for Parameters

myst_heading_anchors = 3
nb_execution_mode = "off"  # shown as they ran: pytest --nbmake --overwrite notebooks
highlight_language = "text"  # indented blocks are commands and their output

linkcheck_retries = 1
linkcheck_timeout = 10

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = f"smlmlp-dask {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Sphinx reads only what lies in this folder.
shutil.copytree(
    HERE.parent / "notebooks",
    HERE / "notebooks",
    ignore=shutil.ignore_patterns("*.py", "*.toml", ".*"),
    dirs_exist_ok=True,
)


def as_plain_text(_app, _ctx, lines):
    """Show the words of help as they are, and lines that it keeps, such as examples, as typed."""
    shown = []
    for line in lines:
        if line.startswith("| "):
            if not shown or not shown[-1].startswith("    "):
                shown += ["::", ""]
            shown.append(f"    {line[2:]}")
        elif line.lstrip().startswith((".. ", ":")):  # what sphinx-click writes
            shown.append(line)
        else:
            shown.append(re.sub(r"([*`|_\\])", r"\\\1", line))
    lines[:] = shown


def setup(app):
    """Tell Sphinx what to call while it builds."""
    app.connect("sphinx-click-process-description", as_plain_text)
    app.connect("sphinx-click-process-options", as_plain_text)
