"""Serve a store to a browser until Ctrl-C."""

import os
import sys
import time
import webbrowser

from smlmlp_dask.pictures.view import view_result
from smlmlp_dask.result import SpatialMeanResult

from .errors import printing
from .tables import console

_NO_BROWSER = "no browser was found on this machine: open the URL in one"
_FAR = "; over ssh, forward the port first: ssh -L {port}:127.0.0.1:{port} HOST"


def serve(result: SpatialMeanResult, *, browser: bool, port: int | None) -> None:
    """Serve a result, print its URL and open the browser; Ctrl-C ends it."""
    try:
        viewer, missing = view_result(result, port=port)
        url = viewer.get_viewer_url()
        lines = [*missing, f"{url}  (Ctrl-C ends it)"]
        if browser and not (_has_display() and webbrowser.open(url)):
            lines.append(_NO_BROWSER + _FAR.format(port=url.split(":")[2].split("/")[0]))
        with printing():
            for line in lines:
                console().print(line)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        import neuroglancer

        neuroglancer.stop()


def _has_display() -> bool:
    """Say whether a browser can open a window; in a terminal, Python would start a text browser."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
