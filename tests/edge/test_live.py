"""A real PortAudio records from a real sound server what is played into it, and is told apart."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
import soxr

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.lessons.book import MICROPHONE, read_book
from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests.processes import is_running
from tests.virtual_microphone import (
    SINK_NAME,
    SINK_RATE_HZ,
    VirtualMicrophone,
    missing_packages,
    virtual_microphone,
)
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.microphone,
    pytest.mark.skipif(
        bool(missing_packages()),
        reason=f"needs from apt: {' '.join(missing_packages())}",
    ),
]

SAMPLE = Path(__file__).parents[2] / "edge/samples/languages.opus"
# The passages of the sample last 8 s and more; what a change of language throws up in between is
# over sooner, and hangs on the last bits of the audio.
MIN_SEGMENT_S = 5.0
FIRST_AUDIO_S = 60.0  # a start takes this long only on a machine that is busy
ANSWERS_THAT_ARE_NONE = ("unknown", "nonspeech")

TONE_HZ = 440.0
TONE_PEAK = 0.5
TONE_S = 1.5

# Records until it is told to end, and says when audio comes, at first and behind a gap. The device
# is made one that has only this rate and number of channels.
RECORD = """
import json, logging, signal, sys, time
import numpy as np
import sounddevice
from edge.errors import EdgelidError
from edge.audio.microphone import MicrophoneSource
from edge.audio.sources import Gap

wanted = int(sys.argv[2]), int(sys.argv[3])
opened = sounddevice.RawInputStream

def opens(**settings):
    if (settings["samplerate"], settings["channels"]) != wanted:
        raise sounddevice.PortAudioError("Invalid sample rate")
    return opened(**settings)

logging.basicConfig(format="%(message)s", stream=sys.stdout)
sounddevice.RawInputStream = opens
parts, gaps, samples, is_gap = [], [], 0, True
with MicrophoneSource("pulse") as source:
    signal.signal(signal.SIGTERM, lambda *_: source.stop())
    for part in source.blocks():
        if isinstance(part, Gap):
            gaps.append((samples, part.samples, part.reason))
            samples += part.samples
            is_gap = True
        elif isinstance(part, np.ndarray):
            if not parts:
                start_s = time.monotonic() - len(part) / 16000
            parts.append((samples, part))
            samples += len(part)
            end_s = time.monotonic()
            if is_gap:
                print("recording", source.rate_hz, flush=True)
                is_gap = False
heard = np.zeros(samples, np.float32)
for position, part in parts:
    heard[position : position + len(part)] = part
np.save(sys.argv[1], heard)
told = {"gaps": gaps, "duration_s": end_s - start_s, "dropped": source.dropped_samples}
print(json.dumps(told))
"""

HOLD_A_MICROPHONE = """
import time
from tests.virtual_microphone import virtual_microphone

with virtual_microphone() as microphone:
    print(microphone.daemon_pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def pulse() -> Iterator[VirtualMicrophone]:
    with virtual_microphone() as running:
        yield running


@contextlib.contextmanager
def listening(
    *arguments: str, stdout: IO[str], stderr: IO[str], env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run ``edgelid listen --json``, which does not outlive the ``with`` block.

    It writes to files: a pipe that nobody reads while audio is played would fill up and stop it.
    """
    environment = {**(env or os.environ), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "listen", "--json", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sequence_of_languages(events: list[dict[str, Any]]) -> list[str]:
    """Languages of the segments worth the name, in order, each change once."""
    languages = [
        event["language"]
        for event in events
        if event["type"] == "segment"
        and event["language"] not in ANSWERS_THAT_ARE_NONE
        and event["end_s"] - event["start_s"] >= MIN_SEGMENT_S
    ]
    return [language for language, _ in itertools.groupby(languages)]


@contextlib.contextmanager
def python(
    script: str, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which does not outlive the ``with`` block."""
    environment = {**(env or os.environ), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_window(listener: subprocess.Popen[str], events: Path) -> None:
    """Wait until it has said something."""
    deadline_s = time.monotonic() + FIRST_AUDIO_S
    while events.stat().st_size == 0:
        assert listener.poll() is None
        assert time.monotonic() < deadline_s, "no audio arrives from the sound server"
        time.sleep(0.05)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def loud_part(samples: Float32Array) -> Float32Array:
    """From the first to the last sample above a fifth of the tone."""
    loud = np.flatnonzero(np.abs(samples) > TONE_PEAK / 5)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def write_tone(path: Path, hz: float, rate_hz: int, channels: int) -> Path:
    """The second channel is the first, turned down."""
    time_s = np.arange(round(rate_hz * TONE_S)) / rate_hz
    tone = TONE_PEAK * np.sin(2 * np.pi * hz * time_s)
    soundfile.write(path, np.stack([tone, 0.5 * tone][:channels], axis=1), rate_hz)
    return path


def assert_is_tone(samples: Float32Array, hz: float, peak: float) -> None:
    tone = loud_part(samples)
    # A busy machine can lose some of it before it reaches us; most of it has to be there.
    assert 0.5 * TONE_S < len(tone) / SAMPLE_RATE_HZ < 1.5 * TONE_S
    middle = tone[len(tone) // 4 : 3 * len(tone) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 16 * SAMPLE_RATE_HZ))
    assert np.argmax(spectrum) / 16 == pytest.approx(hz, abs=2.0)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_a_sound_server_that_dies_and_comes_back(
    tmp_path: Path, rate_hz: int, channels: int
) -> None:
    """A tone is heard, the server is killed in mid-stream, and another tone after its return."""
    peak = TONE_PEAK if channels == 1 else 0.75 * TONE_PEAK  # the mean of both
    arguments = [str(tmp_path / "heard.npy"), str(rate_hz), str(channels)]
    with (
        virtual_microphone(rate_hz, channels) as pulse,
        python(RECORD, *arguments, env=pulse.env) as recorder,
    ):
        assert first_line(recorder) == f"recording {rate_hz}\n"
        pulse.play(write_tone(tmp_path / "one.wav", TONE_HZ, rate_hz, channels))
        time.sleep(1.0)  # what has been played is still on its way
        pulse.kill()
        assert "not heard any longer (device lost)" in first_line(recorder)
        pulse.start()
        assert first_line(recorder) == f"recording {rate_hz}\n"
        pulse.play(write_tone(tmp_path / "two.wav", 2 * TONE_HZ, rate_hz, channels))
        time.sleep(1.0)
        recorder.send_signal(signal.SIGTERM)
        output, errors = recorder.communicate(timeout=60)
    assert "Traceback" not in errors
    told = json.loads(output.splitlines()[-1])
    assert told["dropped"] == 0, errors
    lost = [gap for gap in told["gaps"] if gap[2] == "device lost"]
    first, last = lost[0][0], lost[-1][0] + lost[-1][1]
    heard = np.load(tmp_path / "heard.npy")
    assert_is_tone(heard[:first], TONE_HZ, peak)
    assert_is_tone(heard[last:], 2 * TONE_HZ, peak)
    # Stream time is true to the clock.
    assert len(heard) / SAMPLE_RATE_HZ == pytest.approx(told["duration_s"], abs=0.5)


def test_the_microphone_hears_the_languages_of_the_file(
    pulse: VirtualMicrophone, tmp_path: Path
) -> None:
    samples, rate_hz = soundfile.read(SAMPLE)
    # At the rate of the microphone, so that only what it records is resampled, as with real ones.
    played = soxr.resample(samples, rate_hz, SINK_RATE_HZ)
    soundfile.write(tmp_path / "languages.wav", played, SINK_RATE_HZ)
    paths = {name: tmp_path / name for name in ("file", "live", "errors")}
    with (
        paths["file"].open("w") as stdout,
        paths["errors"].open("w") as stderr,
        listening("--input", str(SAMPLE), stdout=stdout, stderr=stderr) as listener,
    ):
        assert listener.wait(timeout=120) == 0, paths["errors"].read_text()
    expected = sequence_of_languages(records(paths["file"]))
    assert len(set(expected)) >= 2, "the file itself is not told apart"

    with (
        paths["live"].open("w") as stdout,
        paths["errors"].open("w") as stderr,
        listening(
            # The windows tell that audio is arriving, before there is anything to decide.
            *("--device", "pulse", "--windows", "3"),
            stdout=stdout,
            stderr=stderr,
            env=pulse.env,
        ) as listener,
    ):
        wait_for_window(listener, paths["live"])
        pulse.play(tmp_path / "languages.wav")
        time.sleep(1.0)  # what has been played is still on its way
        assert listener.poll() is None, paths["errors"].read_text()
        listener.send_signal(signal.SIGTERM)
        status = listener.wait(timeout=60)
    errors = paths["errors"].read_text()
    assert status == -signal.SIGTERM, errors
    assert "Traceback" not in errors

    events = records(paths["live"])
    # The signal finishes the last segment, and the segments cover all that was heard.
    segments = [event for event in events if event["type"] == "segment"]
    windows = [event for event in events if event["type"] == "window"]
    assert events[-1] is segments[-1]
    assert segments[-1]["end_s"] >= windows[-1]["end_s"] > len(samples) / rate_hz
    starts_s = [0.0, *(segment["end_s"] for segment in segments[:-1])]
    assert [segment["start_s"] for segment in segments] == starts_s
    assert sequence_of_languages(events) == expected, errors


def write_two_languages(folder: Path) -> None:
    """English as ``en.wav``, and Spanish as ``es.wav``, each said twice."""
    samples, rate_hz = soundfile.read(SAMPLE)
    passages = {"en": (1.0, 9.5), "es": (10.0, 18.5)}
    for language, (start_s, end_s) in passages.items():
        part = samples[round(start_s * rate_hz) : round(end_s * rate_hz)]
        played = soxr.resample(np.tile(part, 2), rate_hz, SINK_RATE_HZ)
        soundfile.write(folder / f"{language}.wav", played, SINK_RATE_HZ)


@pytest.mark.parametrize("changed", ["server", "settings"])
def test_the_default_microphone_is_followed(
    changed: str, pulse: VirtualMicrophone, tmp_path: Path
) -> None:
    """One goes on, but another becomes the default: for the sound server, or for ALSA."""
    settings = Path(pulse.env["HOME"]) / ".asoundrc"
    env = dict(pulse.env)
    if changed == "settings":
        # Without the settings of the machine, by which a sound server's default goes first.
        env["ALSA_CONFIG_PATH"] = str(tmp_path / "alsa.conf")
        (tmp_path / "alsa.conf").write_text('@hooks [{ func load files ["~/.asoundrc"] }]\n')

    def make_default(name: str) -> None:
        if changed == "server":
            pulse.make_default(name)
        else:
            settings.write_text(f'pcm.!default {{ type pulse device "{name}.monitor" }}\n')

    write_two_languages(tmp_path)
    pulse.add("other")
    make_default(SINK_NAME)
    live, errors = tmp_path / "live", tmp_path / "errors"
    with (
        live.open("w") as stdout,
        errors.open("w") as stderr,
        listening("--windows", "3", stdout=stdout, stderr=stderr, env=env) as listener,
    ):
        wait_for_window(listener, live)
        pulse.play(tmp_path / "en.wav")
        time.sleep(1.0)  # what has been played is still on its way
        assert not pulse.is_heard("other")
        make_default("other")
        wait_until(lambda: pulse.is_heard("other"), errors.read_text)
        pulse.play(tmp_path / "es.wav", "other")
        time.sleep(1.0)
        assert not pulse.is_heard(SINK_NAME)
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(timeout=60) == -signal.SIGTERM
    assert "Traceback" not in errors.read_text()
    events = records(live)
    assert sequence_of_languages(events) == ["en", "es"], errors.read_text()
    reasons = {event["reason"] for event in events if event["type"] == "gap"}
    assert ("devices changed" in reasons) == (changed == "settings")


def test_languages_are_told_before_and_after(pulse: VirtualMicrophone, tmp_path: Path) -> None:
    write_two_languages(tmp_path)
    live = tmp_path / "live"
    with (
        live.open("w") as stdout,
        (tmp_path / "errors").open("w") as stderr,
        listening(
            *("--device", "pulse", "--windows", "3"), stdout=stdout, stderr=stderr, env=pulse.env
        ) as listener,
    ):
        wait_for_window(listener, live)
        pulse.play(tmp_path / "en.wav")
        time.sleep(1.0)
        heard = live.stat().st_size
        pulse.kill()
        pulse.start()
        wait_until(lambda: '"gap"' in live.read_text()[heard:])
        pulse.play(tmp_path / "es.wav")
        time.sleep(1.0)
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(timeout=60) == -signal.SIGTERM
    assert "Traceback" not in (tmp_path / "errors").read_text()
    events = records(live)
    assert sequence_of_languages(events) == ["en", "es"]
    tiles = [e for e in events if e["type"] == "segment" or not e.get("bridged", True)]
    assert "gap" in {tile["type"] for tile in tiles}
    assert tiles[0]["start_s"] == 0.0
    for before, after in itertools.pairwise(tiles):
        assert before["end_s"] == after["start_s"]


def test_the_sound_server_does_not_outlive_a_killed_test() -> None:
    with (
        # What a killed process cannot clear away goes where the test does; pytest's folders have
        # names too long for a socket.
        tempfile.TemporaryDirectory() as folder,
        python(HOLD_A_MICROPHONE, env={**os.environ, "TMPDIR": folder}) as holder,
    ):
        daemon_pid = int(first_line(holder))
        assert is_running(daemon_pid)
        holder.kill()
        holder.wait()
    wait_until(lambda: not is_running(daemon_pid))


def test_teaching_from_a_microphone(pulse: VirtualMicrophone, tmp_path: Path) -> None:
    """A minute of Spanish is spoken, and becomes a lesson; without a microphone nothing is."""
    speech, rate_hz = soundfile.read(SAMPLE, dtype="float32")
    spanish = speech[round(10.5 * rate_hz) : 18 * rate_hz]
    spoken = soxr.resample(np.tile(spanish, 10), rate_hz, SINK_RATE_HZ)
    soundfile.write(tmp_path / "spoken.wav", spoken, SINK_RATE_HZ)
    book = tmp_path / "voices"
    command = [sys.executable, "-m", "edge.cli", "teach", "es", "--lessons", str(book), "--json"]
    environment = {**pulse.env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    refused = subprocess.run(
        [*command, "--device", "no such microphone"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode != 0 and "Traceback" not in refused.stderr
    assert not book.exists()
    with subprocess.Popen(
        [*command, "--device", "pulse"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as teacher:
        assert teacher.stderr is not None
        assert "speak Spanish for a minute" in teacher.stderr.readline()
        pulse.play(tmp_path / "spoken.wav")
        output, errors = teacher.communicate(timeout=120)
    assert teacher.returncode == 0, errors
    told = json.loads(output.splitlines()[-1])
    assert told["lessons"] == str(book)
    (lesson,) = read_book(book, read_model(DEFAULT_MODEL)).lessons
    assert (lesson.language, lesson.origin) == ("es", MICROPHONE)
    assert len(lesson.windows) >= 40  # one for each second, but for what pauses take
