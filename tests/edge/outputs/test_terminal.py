"""What a person at a terminal sees, of the real command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.outputs.colours import colour_of
from tests.edge.pseudo_terminal import PseudoTerminal, pseudo_terminal
from tests.waiting import PATIENCE_S, wait_until

pytest.importorskip("rich", reason="needs the package rich")

from rich.color import Color, ColorSystem

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "edge/samples/languages.opus"
LISTEN = [sys.executable, "-m", "edge.cli", "listen", "--input", str(SAMPLE)]
FIRST = "   0:01.1 –    0:09.1  en        English         ████████▋   86%"


# As bold text of the colour that it has everywhere, or of the next that a terminal has.
_CODES = Color.parse(colour_of("en")).downgrade(ColorSystem.EIGHT_BIT).get_ansi_codes()
ENGLISH = f"\x1b[1;{';'.join(_CODES)}m".encode()


def seen(terminal: PseudoTerminal, pattern: str) -> bool:
    return re.search(pattern, terminal.text(), re.MULTILINE) is not None


def test_the_end_leaves_finished_lines_and_nothing_else() -> None:
    with pseudo_terminal(LISTEN) as terminal:
        assert terminal.wait() == 0
        lines = terminal.text().splitlines()
        assert FIRST in lines
        assert len(lines) == 16
        assert all(" – " in line for line in lines)


def test_now_stands_below_what_is_over() -> None:
    with pseudo_terminal([*LISTEN, "--realtime"]) as terminal:
        terminal.wait_until(lambda: seen(terminal, r"^● English +\d+%  for 0:0\d\.\d$"))
        terminal.wait_until(lambda: seen(terminal, r"^  en █+\S* +\d+%   \w+ "))
        assert seen(terminal, r"^  ▕.{10}▏ -\d\d dB   load \d+\.\d%$")
        assert terminal.text().splitlines()[0].startswith("   0:00.0 –    0:01.1  nonspeech")
        assert ENGLISH in terminal.sent
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == -signal.SIGINT
        lines = terminal.text().splitlines()
        assert len(lines) == 2
        assert "  en        English " in lines[1]


def test_the_second_opinion_stands_below(own_second: Path) -> None:
    command = [*LISTEN, "--realtime", "--second-opinion", str(own_second)]
    with pseudo_terminal(command, columns=120) as terminal:
        pattern = r"load \d+\.\d%   second opinion: \w+ \d+% in \d\.\d\d s"
        terminal.wait_until(lambda: seen(terminal, pattern))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == -signal.SIGINT


@pytest.mark.slow
def test_a_window_that_becomes_narrower() -> None:
    with pseudo_terminal([*LISTEN, "--realtime"], columns=100) as terminal:
        terminal.wait_until(lambda: seen(terminal, r"^● English"))
        terminal.resize(24, 24)
        terminal.wait_until(lambda: seen(terminal, r"^  ▕.{10}▏ -\d\d dB…$"))
        assert all(len(line) <= 24 for line in terminal.text().splitlines())


def test_the_key_that_interrupts_leaves_no_ghosts() -> None:
    """The terminal writes ^C behind a line that is as long as there is room."""
    with pseudo_terminal([*LISTEN, "--realtime"], columns=24) as terminal:
        terminal.wait_until(lambda: seen(terminal, r"^  ▕.*…$"))
        terminal.type(b"\x03")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == -signal.SIGINT
        assert not seen(terminal, r"[●▕]|\^C")


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(variable: dict[str, str]) -> None:
    with pseudo_terminal(LISTEN, **variable) as terminal:
        assert terminal.wait() == 0
        assert FIRST in terminal.text()
        assert not re.search(rb"\x1b\[(?:\d+;)*[39]\d[;m]", terminal.sent)


def test_messages_stand_above(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    with pseudo_terminal([*LISTEN, "--realtime", "--record-to", str(recordings)]) as terminal:
        terminal.wait_until(lambda: seen(terminal, r"^● "))
        lines = terminal.text().splitlines()
        assert lines[0].startswith("edgelid: ")
        assert sum(line.startswith("edgelid: ") for line in lines) == 1


def test_messages_that_come_later_stand_above_too(tmp_path: Path) -> None:
    config = tmp_path / "edgelid.toml"
    config.write_text(f'input = "{SAMPLE}"\n')
    command = [*LISTEN[:4], "--config", str(config), "--realtime"]
    with pseudo_terminal(command, columns=100) as terminal:
        terminal.wait_until(lambda: seen(terminal, r"^● "))
        config.write_text("threads = 0\n")
        terminal.process.send_signal(signal.SIGHUP)
        told = r"^edgelid: the configuration stays as it was:"
        terminal.wait_until(lambda: seen(terminal, told + r"(.|\n)*^● .*\n.*\n  ▕.*"))
        assert sum("▕" in line for line in terminal.text().splitlines()) == 1


@pytest.mark.slow
def test_a_terminal_that_is_stopped_holds_nobody_up(tmp_path: Path) -> None:
    """Nothing reads it, as after Ctrl-S: events come nevertheless, and so does the end."""
    log = tmp_path / "events.jsonl"
    with pseudo_terminal([*LISTEN, "--realtime", "--log", str(log)]) as terminal:
        wait_until(lambda: log.exists() and '"language": "es", "start_s"' in log.read_text())
        # A second of drawing is about 1 kB, and a terminal of Linux takes 4 kB: it is stuck by now.
        terminal.process.terminate()
        assert terminal.process.wait(PATIENCE_S) == -signal.SIGTERM
        assert [json.loads(line)["type"] for line in log.open()][-1] == "segment"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux from apt")
def test_a_window_that_becomes_narrower_leaves_no_ghosts(tmp_path: Path) -> None:
    """In a terminal that wraps what stands there when it becomes narrower, as most do."""
    # Below what was there before, as in a shell.
    listen = shlex.join([*LISTEN, "--realtime"])
    command = f"seq 40; cd {shlex.quote(str(ROOT))}; {listen}"
    tmux = ["tmux", "-S", str(tmp_path / "socket")]

    def ask(*words: str) -> str:
        done = subprocess.run([*tmux, *words], check=True, capture_output=True, timeout=PATIENCE_S)
        return done.stdout.decode()

    def shown() -> list[str]:
        lines = ask("capture-pane", "-p", "-J", "-S", "-", "-t", "0").splitlines()
        return [line for line in lines if line.strip()]

    ask("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", command)
    try:
        wait_until(lambda: any("English" in line for line in shown()), shown)
        for columns in (60, 37, 20, 90, 24):
            ask("resize-window", "-t", "0", "-x", str(columns))
            time.sleep(1.0)
            now = [line for line in shown() if line.startswith("●")]
            level = [line for line in shown() if line.startswith("  ▕")]
            assert (len(now), len(level)) == (1, 1), shown()
            # Finished lines may be wrapped; nothing stands below the three of now.
            assert shown()[-3].startswith("●"), shown()
            assert sum("0:00.0 –" in line for line in shown()) == 1
            assert shown()[:40] == [str(number) for number in range(1, 41)]
    finally:
        ask("kill-server")
