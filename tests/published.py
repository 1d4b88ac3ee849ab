"""Published runs and what each must give, where SCALING_DATA points to them."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def folder() -> Path:
    root = os.environ.get("SCALING_DATA")
    if not root or not Path(root, "published").is_dir():
        pytest.skip("SCALING_DATA is not set: published runs are not in the repository")
    return Path(root, "published")


def table(name: str) -> dict[str, np.ndarray]:
    """A CSV as columns: floats where every entry is one ("" is nan), strings otherwise."""
    with (folder() / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        try:
            columns[key] = np.array([float(v or "nan") for v in values])
        except ValueError:
            columns[key] = np.array(values)
    return columns


def expected(case: str) -> dict[str, Any]:
    return json.loads((folder() / "expected.json").read_text())[case]
