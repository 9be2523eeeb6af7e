"""Print pip's constraints to the lowest series that pyproject.toml admits: floors.py EXTRA..."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
extras = [project["optional-dependencies"][extra] for extra in sys.argv[1:]]
for requirement in sum(extras, project["dependencies"]):
    name, lowest, marker = re.fullmatch(r"([\w-]+)(?:\[.*?\])?>=([\d.]+)(.*)", requirement).groups()
    sys.stdout.write(f"{name}=={lowest}.*{marker}\n")
