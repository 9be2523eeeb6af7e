"""How the reference is built from the docstrings, with every warning an error.

sphinx-build -W --keep-going .ci/docs build/docs
"""

from smlmlp_dask import __version__

project = "smlmlp-dask"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "numpydoc"]
default_role = "py:obj"  # `name` links where the name is documented here, and is code elsewhere
autodoc_typehints = "none"  # the Parameters sections say it, with shapes and units
html_theme = "alabaster"
html_show_sourcelink = False
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
