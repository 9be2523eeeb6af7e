"""Time the chain of median and mean as whole processes: a job, and smlmlp in memory.

    python tests/benchmarks/chain.py [--frames 1024] [--rounds 3] [--python PYTHON]

A movie of 512 x 512 pixels as Zarr. A job reads it, takes off the median over 51 frames and the
local mean of what is left, and stores the background. `smlmlp` 0.1.20 reads it, does the same with
`bkgd_combination(parallel=True)`, and writes nothing. They run in turns; ratios are taken within a
turn. PYTHON has `smlmlp` and this package; without it, an environment is made.
"""

import argparse
import shutil
import sys
from pathlib import Path

from job import (
    CHUNK_FRAMES,
    Movie,
    make_venv,
    our_command,
    print_machine,
    print_table,
    ratios,
    run_process,
    spread,
    workplace,
    write_zarr,
)

WAYS = {
    "background": [],
    "signal, uint16": ["--write", "signal", "--pedestal", "100"],
}
"""What our job stores."""


def main() -> None:
    """Run all ways in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", help="an interpreter with smlmlp and this package")
    given = parser.parse_args()
    print_machine()
    with workplace(None) as folder:
        python = given.python or make_venv(folder / "venv")
        source, out = folder / "movie.zarr", folder / "out.zarr"
        write_zarr(source, Movie(given.frames, 512), (CHUNK_FRAMES, 512, 512))
        steps = ["--step", "median:25", "--step", "mean:7"]
        ours = [part for part in our_command(source, out) if part not in ("--radius", "7")]
        program = Path(__file__).with_name("peers.py")
        commands = {name: [*ours, *steps, *write] for name, write in WAYS.items()}
        commands["smlmlp"] = [python, program, "smlmlp-chain", source, out]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(given.rounds + 1):
            for name, command in commands.items():
                done = run_process(command)
                if done.error:
                    sys.exit(f"{name} failed: {done.error}")
                shutil.rmtree(out, ignore_errors=True)
                if turn:
                    seconds[name].append(done.seconds)
    theirs = seconds["smlmlp"]
    rows = [
        [name, spread(spent), spread(ratios(theirs, spent), 1)] for name, spent in seconds.items()
    ]
    print_table([f"{given.frames} frames of 512 x 512", "seconds", "smlmlp / this"], rows)


if __name__ == "__main__":
    main()
