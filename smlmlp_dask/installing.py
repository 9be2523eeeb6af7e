"""How to install what is missing: from where this package itself was installed."""

import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote
from urllib.parse import unquote, urlsplit

NAME = "smlmlp-dask"
"""The distribution."""


def install_command(extra: str, *, upgrade: bool = False) -> str:
    """Return the command that installs an extra of this package, ready to be typed.

    From a checkout that is still there it names the folder, as the package may be on no index; else
    the package.
    """
    options = "--upgrade " if upgrade else ""
    return f"pip install {options}{_wanted(extra)}"


def _wanted(extra: str) -> str:
    with suppress(
        PackageNotFoundError, OSError, ValueError, LookupError, TypeError, AttributeError
    ):
        noted = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
        url, editable = urlsplit(noted["url"]), noted["dir_info"].get("editable")
        folder = Path(unquote(url.path))
        if url.scheme == "file" and (folder / "pyproject.toml").is_file():
            return f"{'-e ' if editable else ''}{quote(f'{folder}[{extra}]')}"
    return f"'{NAME}[{extra}]'"
