"""Compare an sdist and a wheel with the files of their project: contents.py COPY SDIST WHEEL."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

copy, sdist, wheel = sys.argv[1:]
listed = subprocess.run(
    ["git", "ls-files", "-z"], cwd=copy, stdout=subprocess.PIPE, text=True, check=True
)
project = set(filter(None, listed.stdout.split("\0")))
package = {name for name in project if name.startswith("smlmlp_dask/")}

with tarfile.open(sdist) as archive:
    in_sdist = {name.partition("/")[2] for name in archive.getnames()}
with zipfile.ZipFile(wheel) as archive:
    in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    about = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}

problems = [
    *(f"{name} is missing in the sdist" for name in sorted(project - in_sdist)),
    *(f"{name} should not be in the sdist" for name in sorted(in_sdist - project - {"PKG-INFO"})),
    *(f"{name} is missing in the wheel" for name in sorted(package - in_wheel)),
    *(f"{name} should not be in the wheel" for name in sorted(in_wheel - package)),
    *(f"{name} is missing in the wheel" for name in {"LICENSE", "entry_points.txt"} - about),
]
sys.exit("\n".join(problems) or None)
