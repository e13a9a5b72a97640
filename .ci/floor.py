"""Prints the lower bounds of pyproject.toml as pins, for pip's ``--constraint``: the oldest set that vtune allows."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"]:
    name, oldest = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
    print(f"{name}=={oldest}")
    if name == "jax":
        print(f"jaxlib=={oldest}")
