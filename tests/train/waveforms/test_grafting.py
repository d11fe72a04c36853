"""A narrow decoder asks what Whisper's does, and learns to ask it of what was augmented."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_whisper import DIM, HEADS, Arrays, tiny_arrays
from train.waveforms.decoder import Decoder, DecoderShape
from train.waveforms.grafting import Heard, graft, hear, learn
from train.waveforms.low_rank import explained
from train.waveforms.whisper_languages import WhisperLanguages

WHOLE = DecoderShape((0, 1), DIM, HEADS, DIM // HEADS, 4 * DIM)
NARROW = DecoderShape((0, 1), 24, HEADS, 16, 64)


def two_layers() -> Arrays:
    """The tiny network with one more layer in its decoder."""
    more = tiny_arrays(1)
    second = {k.replace("layer_0", "layer_1"): more[k] for k in more if k.startswith("decoder/l")}
    return tiny_arrays() | {k: v for k, v in second.items() if "layer_1" in k}


@pytest.fixture(scope="module")
def whisper() -> WhisperLanguages:
    return WhisperLanguages(two_layers(), ("de", "en"))


@pytest.fixture(scope="module")
def groups(whisper: WhisperLanguages) -> list[Heard]:
    """Windows of two lengths, in each of which all tokens have something in common."""
    rng = np.random.default_rng(4)
    found = []
    for windows, tokens in ((320, 12), (160, 20)):
        common = rng.normal(size=(windows, 1, 12)) @ rng.normal(size=(12, DIM))
        found.append(common + rng.normal(size=(windows, tokens, DIM)))
    return [hear(whisper, 1, tokens.astype(np.float32)) for tokens in found]


@pytest.fixture(scope="module")
def narrow(whisper: WhisperLanguages, groups: list[Heard]) -> Decoder:
    return graft(whisper, groups, NARROW, lambda _: None)


def known_of(decoder: Decoder, groups: list[Heard]) -> np.ndarray:
    return np.concatenate([np.asarray(decoder(group.ours)) for group in groups])


def states(whisper: WhisperLanguages, groups: list[Heard]) -> np.ndarray:
    """What Whisper's last step knows."""
    found = []
    for group in groups:
        x = whisper.begun(group.theirs)
        for step in whisper.steps_:
            x = step(x, group.theirs)
        found.append(np.asarray(x))
    return np.concatenate(found)


def regained(known: np.ndarray, wanted: np.ndarray) -> float:
    """Share of the variance of the second that a linear map of the first explains."""
    x = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    return explained(x @ np.linalg.lstsq(x, wanted, rcond=None)[0], wanted)


def test_with_all_channels_it_knows_what_whisper_knows(
    whisper: WhisperLanguages, groups: list[Heard]
) -> None:
    lines: list[str] = []
    decoder = graft(whisper, groups, WHOLE, lines.append)
    assert regained(known_of(decoder, groups), states(whisper, groups)) > 0.97
    assert [line.split(" explained")[0] for line in lines[1:]] == ["step 0", "step 1"]
    # Each head listens to the same tokens.
    heard = groups[0]
    theirs = whisper.begun(heard.theirs)
    theirs = theirs + whisper.steps_[0].own(whisper.steps_[0].own_norm(theirs))
    parts = whisper.steps_[0].parts(whisper.begun(heard.theirs), heard.theirs)
    kernels = np.stack([np.asarray(key.kernel) for key in whisper.steps_[0].keys])
    asked = np.einsum("whk,hkd->whd", np.asarray(parts.queries), kernels)
    scores = np.einsum("whd,wtd->wht", asked, heard.theirs)
    wanted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted /= wanted.sum(axis=-1, keepdims=True)
    assert wanted.std(axis=-1).mean() > 0.01
    found = np.asarray(decoder.steps[0].weights_of(None, heard.ours))
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_with_fewer_it_knows_most_of_it(
    whisper: WhisperLanguages, groups: list[Heard], narrow: Decoder
) -> None:
    known = known_of(narrow, groups)
    rng = np.random.default_rng(0)
    assert known.shape == (480, NARROW.width)
    wanted = states(whisper, groups)
    assert regained(known, wanted) > 0.6
    assert regained(rng.normal(size=known.shape), wanted) < 0.1


def test_it_learns_to_say_more_of_it(whisper: WhisperLanguages, groups: list[Heard]) -> None:
    """From half of the windows, of the other half."""
    halves = [Heard(g.ours[::2], g.theirs[::2]) for g in groups]
    decoder = graft(whisper, halves, NARROW, lambda _: None)
    wanted = [np.asarray(whisper.decoded(g.theirs)) for g in groups]
    rest = [Heard(g.ours[1::2], g.theirs[1::2]) for g in groups]
    of_rest = np.concatenate([rows[1::2] for rows in wanted])
    before = regained(known_of(decoder, rest), of_rest)
    lines: list[str] = []
    windows = [(g.ours, rows[::2]) for g, rows in zip(halves, wanted, strict=True)]
    learn(decoder, windows, 6, 1e-3, lines.append)
    divergences = [float(line.split()[-1]) for line in lines]
    assert len(divergences) == 6 and divergences[-1] < 0.8 * divergences[0]
    assert regained(known_of(decoder, rest), of_rest) > before - 0.02


def test_a_step_may_be_left_out(whisper: WhisperLanguages, groups: list[Heard]) -> None:
    decoder = graft(whisper, groups, DecoderShape((0,), 24, HEADS, 16, 64), lambda _: None)
    assert len(decoder.steps) == 1 and np.isfinite(known_of(decoder, groups)).all()


def test_nobody_listens_to_what_is_masked() -> None:
    decoder = Decoder(NARROW, DIM)
    rng = np.random.default_rng(1)
    decoder.set_weights([rng.normal(0, 0.2, w.shape) for w in decoder.get_weights()])
    tokens = rng.normal(size=(2, 9, DIM)).astype(np.float32)
    mask = (np.arange(9) < 6).astype(np.float32)[None].repeat(2, axis=0)
    found = np.asarray(decoder(tokens, mask))
    np.testing.assert_allclose(found, np.asarray(decoder(tokens[:, :6])), rtol=1e-4, atol=1e-4)
    assert np.abs(found - np.asarray(decoder(tokens))).max() > 0.01
