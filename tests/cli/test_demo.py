import numpy as np
import pytest
from click.testing import CliRunner

from smlmlp_dask import open_backgrounds, simulate_movie
from smlmlp_dask.cli import smlmlp
from smlmlp_dask.cli.demo import CHECKED_FRAMES, run_demo
from smlmlp_dask.pictures.overview import plot_result, write_picture


def test_the_estimate_is_near_the_known_background(tmp_path):
    report = run_demo(tmp_path / "demo", CHECKED_FRAMES, progress=False)
    bkgds = open_backgrounds(report.result.path).bkgds
    for seed, (check, bkgd) in enumerate(zip(report.checks, bkgds, strict=True)):
        known = simulate_movie(*bkgd.shape, seed=seed).background.compute()
        error = bkgd.compute() - known
        assert check.known == pytest.approx(known.mean(), rel=1e-4)
        assert check.bias == pytest.approx(error.mean(), rel=1e-2)
        assert check.rms == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
        # noise of 186 counts averaged over the kernel, and some light of the molecules
        assert abs(check.bias) < 0.02 * check.known
        assert check.rms < 0.05 * check.known
    assert [bkgd.shape[1:] for bkgd in bkgds] == [(256, 256), (192, 320)]


def test_its_picture_is_that_of_any_result(tmp_path):
    report = run_demo(tmp_path / "demo", 3, progress=False)
    write_picture(plot_result(report.result), tmp_path / "plot.png")
    assert report.picture.read_bytes() == (tmp_path / "plot.png").read_bytes()


def test_what_it_prints(tmp_path):
    result = CliRunner().invoke(
        smlmlp, ["demo", "-o", str(tmp_path / "demo"), "--frames", "3"], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("0.852681") == 2
    assert "Mpx/s" in result.output
    assert "demo.png" in result.output
    assert max(map(len, result.output.splitlines())) <= max(80, len(str(tmp_path)) + 40)
