"""What a large model and its teachers were asked is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.errors import EdgelidError
from train.waveforms.asked import ask


def test_nobody_is_asked_where_nothing_can_be_kept(tmp_path: Path) -> None:
    nobody: Any = None
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match=r"cannot make the folder .*file: File exists"):
        ask(nobody, nobody, [], nobody, ["de"], 1, tmp_path / "file", print)
