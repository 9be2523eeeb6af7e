"""How to install what is missing: from where this package itself was installed."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote
from urllib.parse import unquote, urlsplit

NAME = "smlmlp-dask"
"""The distribution."""


def install_command(extra: str, *, upgrade: bool = False) -> str:
    """Return the command that installs an extra of this package, ready to be typed.

    From a checkout it names the folder, as the package may be on no index; else the package.
    """
    options = "--upgrade " if upgrade else ""
    folder, editable = _checkout()
    if folder is None:
        return f"pip install {options}'{NAME}[{extra}]'"
    return f"pip install {options}{'-e ' if editable else ''}{quote(f'{folder}[{extra}]')}"


def _checkout() -> tuple[Path | None, bool]:
    """Return the folder from which the package was installed, if it is still there."""
    try:
        noted = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
        url, editable = urlsplit(noted["url"]), bool(noted["dir_info"].get("editable"))
        folder = Path(unquote(url.path))
        is_there = url.scheme == "file" and (folder / "pyproject.toml").is_file()
    except (PackageNotFoundError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, False
    return (folder, editable) if is_there else (None, False)
