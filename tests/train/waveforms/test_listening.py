"""A window's embeddings and the moments that they are about."""

from __future__ import annotations

import numpy as np

from train.waveforms.listening import stretch


def test_what_a_late_student_pools_was_said_earlier() -> None:
    first, delay = np.array([[5], [1]], np.int32), 3
    pooled = np.asarray(stretch(first, 4, 12))
    assert [np.flatnonzero(row).tolist() for row in pooled] == [[5, 6, 7, 8], [1, 2, 3, 4]]
    heard = np.asarray(stretch(first - delay, 4, 12))
    # Of the second clip's, half was said before it began.
    assert [np.flatnonzero(row).tolist() for row in heard] == [[2, 3, 4, 5], [0, 1]]
