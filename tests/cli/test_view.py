"""`smlmlp-dask view`: what it prints, serves and opens, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import zarr

from smlmlp_dask import run_spatial_mean
from smlmlp_dask.cli import viewing
from smlmlp_dask.installing import install_command
from tests.commands import call


@pytest.fixture(autouse=True)
def folder(folder):
    run_spatial_mean("movie.tif", "out.zarr", 7.0)
    return folder


needs_neuroglancer = pytest.mark.skipif(
    find_spec("neuroglancer") is None, reason="the extra `view` is not installed"
)


view = partial(call, "view")


@pytest.fixture
def opened(monkeypatch):
    """URLs that were opened; Ctrl-C comes as soon as the command waits, after the page is read."""
    urls, pages = [], []

    def open_url(url):
        urls.append(url)
        return True

    def interrupted(seconds):
        if urls:
            with urlopen(urls[0], timeout=20) as page:
                pages.append(page.read())
        raise KeyboardInterrupt

    monkeypatch.setattr(viewing.webbrowser, "open", open_url)
    monkeypatch.setattr(viewing.time, "sleep", interrupted)
    monkeypatch.setenv("DISPLAY", ":0")
    return urls, pages


@needs_neuroglancer
def test_the_browser_gets_a_page_until_ctrl_c(opened):
    urls, pages = opened
    result = view("out.zarr")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{urls[0]}  (Ctrl-C ends it)\n"
    assert urls[0].startswith("http://127.0.0.1:")
    assert b"<html" in pages[0]
    with pytest.raises(URLError, match="refused"):
        urlopen(urls[0], timeout=20)


@needs_neuroglancer
@pytest.mark.parametrize(
    ("arguments", "display", "said"),
    [
        (["--no-browser"], ":0", ""),
        ([], "", "no browser was found on this machine: open the URL in one; over ssh, forward "),
    ],
)
def test_no_browser_is_opened(opened, monkeypatch, arguments, display, said):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = view("out.zarr", *arguments)
    first, _, second = result.stdout.partition("\n")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v/\w+/  \(Ctrl-C ends it\)", first)
    assert second.startswith(said)
    assert bool(second) == bool(said)
    assert opened[0] == []


@needs_neuroglancer
def test_a_moved_movie_is_said_first(opened, folder):
    (folder / "movie.tif").unlink()
    first, url, *_ = view("out.zarr").stdout.splitlines()
    missing = f"{folder / 'movie.tif'} does not exist: check the path"
    assert first == f"channel_0: no raw frames and no signal: {missing}"
    assert url.startswith("http://127.0.0.1:")


@needs_neuroglancer
def test_the_port_may_be_chosen_if_it_is_free(opened):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = view("out.zarr", "--port", str(port))
        assert result.exit_code == 2
        assert re.fullmatch(
            rf"Error: cannot serve on port {port} of 127\.0\.0\.1 \(.*\): pass another --port\n",
            result.stderr,
        )
    result = view("out.zarr", "--port", str(port))
    assert result.stdout.startswith(f"http://127.0.0.1:{port}/")
    assert result.exit_code == 0


def test_what_cannot_be_shown_is_one_error(opened, folder):
    root = zarr.open_group(folder / "out.zarr", mode="r+")
    root.attrs["smlmlp_dask"] = {**root.attrs["smlmlp_dask"], "finished": False}
    result = view("out.zarr")
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert "out.zarr is not finished: its backgrounds are incomplete;" in line


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    result = view("out.zarr")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert "neuroglancer is not installed" in line
    assert install_command("view") in line


@needs_neuroglancer
@pytest.mark.slow
def test_a_real_ctrl_c_ends_it_cleanly(folder):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    command = [sys.executable, "-m", "smlmlp_dask", "view", "out.zarr", "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
