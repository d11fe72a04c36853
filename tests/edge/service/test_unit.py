"""The unit: what systemd itself says of it, and what is refused before it is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import learning
from edge.config import ConfigError
from edge.errors import EdgelidError
from edge.model.modelfile import DEFAULT_MODEL
from edge.opinion import asking
from edge.outputs.settings import read_settings
from edge.service import unit as service_module
from edge.service.unit import MARK, Service, default_scope

Edgelid = Callable[..., subprocess.CompletedProcess[str]]

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, of systemd from apt"
)
SCOPES = ["system", "user"]
# Higher is worse, of 10.0; docs/service.md explains each point.
MAX_EXPOSURE = {"system": 0.7, "user": 1.3}
# The same with a web page, for this device and for its network.
MAX_EXPOSURES_WEB = {
    ("system", "8080"): 1.4,
    ("system", "0.0.0.0:8080"): 1.6,
    ("user", "8080"): 2.0,
    ("user", "0.0.0.0:8080"): 2.0,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "edgelid.toml"
    file.write_text("")
    return file


@pytest.fixture
def unit(config: Path, tmp_path: Path, scope: str) -> Path:
    """The unit in a file of its name."""
    log = "/var/lib/edgelid" if scope == "system" else f"{tmp_path}/with space %n"
    if scope == "user":
        Path(log).mkdir()
    config.write_text(f'log = "{log}/events.jsonl"\n')
    file = tmp_path / "edgelid.service"
    file.write_text(Service(scope).unit(config))
    return file


def analyze(scope: str, *words: str | Path, tmp_path: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", f"--{scope}", "--no-pager", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_COLORS": "0"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return done.stdout


@needs_analyze
@pytest.mark.parametrize("scope", SCOPES)
def test_systemd_finds_nothing_wrong_with_the_unit(scope: str, unit: Path, tmp_path: Path) -> None:
    analyze(scope, "verify", "--man=no", unit, tmp_path=tmp_path)


@needs_analyze
@pytest.mark.parametrize("scope", SCOPES)
def test_the_score_is_what_the_documentation_says(scope: str, unit: Path, tmp_path: Path) -> None:
    told = analyze(scope, "security", "--offline=true", unit, tmp_path=tmp_path)
    score = re.search(r"Overall exposure level for edgelid.service: ([\d.]+)", told)
    assert score is not None
    assert float(score[1]) <= MAX_EXPOSURE[scope]
    page = (Path(__file__).parents[3] / "docs/service.md").read_text()
    for line in told.splitlines():
        if line.startswith("✗"):
            name = line.split()[1].split("=")[0].split("/")[0]
            assert name in page, f"docs/service.md does not explain {name}"


@needs_analyze
@pytest.mark.parametrize(("scope", "web"), MAX_EXPOSURES_WEB)
def test_the_unit_with_a_web_page(scope: str, web: str, config: Path, tmp_path: Path) -> None:
    config.write_text(f'web = "{web}"\n')
    unit = tmp_path / "edgelid.service"
    unit.write_text(Service(scope).unit(config))
    analyze(scope, "verify", "--man=no", unit, tmp_path=tmp_path)
    told = analyze(scope, "security", "--offline=true", unit, tmp_path=tmp_path)
    score = re.search(r"Overall exposure level for edgelid.service: ([\d.]+)", told)
    assert score is not None
    assert float(score[1]) <= MAX_EXPOSURES_WEB[scope, web]


def test_the_network_is_what_the_web_page_needs(config: Path) -> None:
    def lines(text: str, scope: str = "system") -> set[str]:
        config.write_text(text)
        found = Service(scope).unit(config).splitlines()
        words = ("PrivateNetwork", "RestrictAddress", "IPAddress", "SocketBind")
        return {line for line in found if line.startswith(words)}

    none = {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"}
    some = {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
    bind = {"SocketBindDeny=any", "SocketBindAllow=tcp:8080"}
    loopback = {"IPAddressDeny=any", "IPAddressAllow=localhost"}
    assert lines("") == none | {"IPAddressDeny=any"}
    assert lines('web = "8080"') == some | bind | loopback
    assert lines('web = "[::1]:8080"') == some | bind | loopback
    assert lines('web = "0.0.0.0:8080"') == some | bind
    assert lines("", "user") == none
    camera = 'input = "rtsp://camera/sound"\n'
    assert lines(camera) == lines(camera, "user") == some
    assert lines(camera + 'web = "8080"') == some | bind
    assert lines('web = "8080"', "user") == lines('web = "[::]:8080"', "user") == some


def test_where_the_token_is_written(config: Path, tmp_path: Path) -> None:
    config.write_text('web = "8080"\nweb_token_file = "token"\n')
    assert f"ReadWritePaths={tmp_path}\n" in Service("user").unit(config)
    with pytest.raises(EdgelidError, match="and, with learn, lessons there instead of"):
        Service("system").unit(config)


def test_what_is_written_may_be_a_link(config: Path, tmp_path: Path) -> None:
    """Writing leads where it leads: the unit has to let it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere" / "token")
    config.write_text('web = "8080"\nweb_token_file = "token"\n')
    assert f"ReadWritePaths={tmp_path / 'elsewhere'}\n" in Service("user").unit(config)


def test_the_folder_of_the_system_service_is_a_link_once_it_has_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd makes it for a user of its own."""
    state = tmp_path / "lib" / "edgelid"
    (tmp_path / "lib" / "private" / "edgelid").mkdir(parents=True)
    state.symlink_to("private/edgelid")
    monkeypatch.setattr("edge.service.unit.STATE_FOLDER", state)
    monkeypatch.setattr("edge.config.STATE_FOLDER", state)
    config.write_text(f'web = "8080"\nweb_token_file = "{state}/token"\nlog = "{state}/log"\n')
    assert "StateDirectory=edgelid" in Service("system").unit(config)
    (state / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgelidError, match="and, with learn, lessons there instead of"):
        Service("system").unit(config)


MQTT = """
mqtt = "{scheme}://{host}"
mqtt_user = "pi"
mqtt_password_file = "{folder}/pass word"
"""
# One point more: the network is not cut off.
MAX_EXPOSURE_WITH_BROKER = {"system": 1.5, "user": 2.0}


@pytest.fixture
def unit_with_broker(config: Path, tmp_path: Path, scope: str) -> Path:
    (tmp_path / "pass word").write_text("geheim")
    config.write_text(MQTT.format(scheme="mqtts", host="broker.example", folder=tmp_path))
    file = tmp_path / "edgelid.service"
    file.write_text(Service(scope).unit(config))
    return file


@needs_analyze
@pytest.mark.parametrize("scope", SCOPES)
def test_a_unit_with_a_broker(scope: str, unit_with_broker: Path, tmp_path: Path) -> None:
    analyze(scope, "verify", "--man=no", unit_with_broker, tmp_path=tmp_path)
    told = analyze(scope, "security", "--offline=true", unit_with_broker, tmp_path=tmp_path)
    score = re.search(r"Overall exposure level for edgelid.service: ([\d.]+)", told)
    assert score is not None
    assert float(score[1]) <= MAX_EXPOSURE_WITH_BROKER[scope]
    text = unit_with_broker.read_text()
    assert "geheim" not in text
    lines = text.splitlines()
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in lines
    assert not [line for line in lines if line.startswith(("PrivateNetwork", "IPAddress"))]
    handed = f"LoadCredential=mqtt-password:{tmp_path}/pass word"
    assert (handed in lines) == (scope == "system")


def test_a_broker_on_this_device(config: Path, tmp_path: Path) -> None:
    (tmp_path / "pass word").write_text("geheim")
    config.write_text(MQTT.format(scheme="mqtt", host="127.0.0.1", folder=tmp_path))
    lines = Service("system").unit(config).splitlines()
    assert {"IPAddressDeny=any", "IPAddressAllow=localhost"} < set(lines)


def test_what_the_unit_says(config: Path) -> None:
    lines = Service("system").unit(config).splitlines()
    assert lines[0] == MARK.rstrip()
    for line in (
        "Type=notify",
        "Restart=on-failure",
        "WatchdogSec=60",
        "TimeoutStopSec=30",
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "StateDirectory=edgelid",
        "DeviceAllow=char-alsa rw",
        "ReadOnlyPaths=/run -/dev/mqueue",
        "ReadOnlyPaths=-/dev/shm",
        # /bin/kill is of procps, which a small Debian does not have.
        'ExecReload=/bin/sh -c "kill -HUP $MAINPID"',
    ):
        assert line in lines
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert start.endswith(f"-P -m edge.cli listen --config {config}")


def test_the_service_has_time_to_end(config: Path) -> None:
    """Until a second opinion has been given, and then until a lesson has been learnt."""
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", Service("system").unit(config), re.M)
    assert int(timeout) >= asking.LEAVE_S + learning.LEAVE_S + 5


@pytest.mark.parametrize("scope", SCOPES)
def test_the_journal_keeps_what_was_spoken_only_if_asked(config: Path, scope: str) -> None:
    for output, wanted in (("text", "null"), ("none", "null"), ("json", "journal")):
        config.write_text(f'output = "{output}"\n')
        lines = Service(scope).unit(config).splitlines()
        assert f"StandardOutput={wanted}" in lines
        assert "StandardError=journal" in lines


@needs_analyze
def test_a_path_is_written_to_as_it_is_called(config: Path, tmp_path: Path) -> None:
    """Only in commands does systemd put in variables."""
    folder = tmp_path / 'a $b "100 %" \\'
    folder.mkdir()
    name = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    config.write_text(f'log = "{name}/events.jsonl"\n')
    text = Service("user").unit(config)
    written = f'{tmp_path}/a $b \\"100 %%\\" \\\\'
    assert f'ReadWritePaths="{written}"\n' in text
    unit = tmp_path / "edgelid.service"
    unit.write_text(text)
    analyze("user", "verify", "--man=no", unit, tmp_path=tmp_path)


def test_the_command_of_the_unit_runs(config: Path, environment: dict[str, str]) -> None:
    """As systemd splits it, up to where it would need a microphone."""
    odd = config.with_name('odd $name "100 %".toml')
    odd.write_text("threads = 0\n")
    config.rename(odd)
    odd.write_text("")
    (start,) = re.findall("ExecStart=(.*)", Service("user").unit(odd))
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', start)
    plain = [
        re.sub(r"\\(.)", r"\1", a or b).replace("%%", "%").replace("$$", "$") for a, b in words
    ]
    odd.write_text("threads = 0\n")
    done = subprocess.run(plain, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (
        78,
        f"edgelid: {odd}: threads must be from 1 to 64, not 0.\n",
    )


REFUSED = {
    "threads = 0": "threads must be",
    'languages = ["xx"]': "does not know xx",
    'input = "-"': "a service listens to a microphone",
    'input = "a.wav"': "a service listens to a microphone",
    'record_to = "/var/lib/edgelid"': "record_to would record everything",
    'log = "/tmp/events.jsonl"': "can write nowhere but in /var/lib/edgelid",
}


@pytest.mark.parametrize(("text", "words"), REFUSED.items(), ids=REFUSED)
def test_what_is_refused(config: Path, text: str, words: str) -> None:
    config.write_text(text)
    with pytest.raises(EdgelidError, match=re.escape(words)):
        Service("system").unit(config)


@pytest.mark.parametrize("port", [1, 80, 1_023])
def test_a_port_that_only_root_may_have(config: Path, port: int) -> None:
    config.write_text(f'web = "0.0.0.0:{port}"\n')
    with pytest.raises(EdgelidError, match=f"may not have port {port} of web"):
        Service("system").unit(config)


def test_recording_has_to_be_asked_for_twice(config: Path, tmp_path: Path) -> None:
    config.write_text('record_to = "."\n')
    with pytest.raises(EdgelidError, match="record_in_service"):
        Service("user").unit(config)
    config.write_text('record_to = "."\nrecord_in_service = true\n')
    assert f"ReadWritePaths={tmp_path}\n" in Service("user").unit(config)


def test_a_password_of_the_shell_is_not_the_service_s(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('mqtt = "mqtts://broker.example"\nmqtt_user = "pi"\n')
    Service("user").unit(config)
    monkeypatch.setenv("EDGELID_MQTT_PASSWORD", "geheim")
    with pytest.raises(EdgelidError, match="mqtt_password_file") as caught:
        Service("user").unit(config)
    assert "geheim" not in str(caught.value)


def test_files_that_the_service_cannot_read(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    hidden = config.rename(tmp_path / "closed" / "edgelid.toml")
    monkeypatch.setattr(service_module, "_needed", lambda *_: [hidden])
    with pytest.raises(EdgelidError, match="is closed to others"):
        Service("system").install(hidden)


def test_each_part_of_a_model_has_to_be_readable(config: Path, tmp_path: Path) -> None:
    data = DEFAULT_MODEL.read_bytes()
    parts = [tmp_path / f"{name}.tflite.{i}" for name in ("one", "other") for i in range(2)]
    for first, second in (parts[:2], parts[2:]):
        first.write_bytes(data[:1_000_000])
        second.write_bytes(data[1_000_000:])
    config.write_text('model = "one.tflite"\nsecond_opinion = "other.tflite"\n')
    settings = read_settings(config, {}, {})
    Service("system").unit(config)
    assert set(service_module._needed(settings, config)) > set(parts)
    assert all(path.exists() for path in service_module._needed(settings, config))


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Service("user").unit(tmp_path / "missing.toml")


# --- with a manager ---------------------------------------------------------------------------

# There is no systemd to install into where tests run, so this stands in for its client: it writes
# down how it was called. The unit's file, its contents and the order of things are the real ones.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$CALLS"
[ "$2 $3" != "--no-ask-password show" ] || printf 'LoadState=loaded\\nActiveState=failed\\n'
[ ! -e "$CALLS.fail" ] || { echo "Access denied." >&2; exit 1; }
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(service_module, "BOOTED", tmp_path)
    return tmp_path / "calls"


def called(calls: Path) -> list[str]:
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    assert all(line.startswith("--user --no-ask-password ") for line in lines)
    return [line.removeprefix("--user --no-ask-password ") for line in lines]


def test_install_and_uninstall(calls: Path, config: Path, tmp_path: Path) -> None:
    service = Service("user")
    assert "is not installed" in service.uninstall()
    before = sorted(tmp_path.rglob("*"))
    assert "is installed" in service.install(config)
    assert service.path == tmp_path / "home/systemd/user/edgelid.service"
    assert service.path.read_text() == service.unit(config)
    start = ["daemon-reload", "enable edgelid.service"]
    assert called(calls) == [*start, "restart --no-block edgelid.service"]
    assert "was installed already" in service.install(config)
    assert called(calls) == [*start, "start --no-block edgelid.service"]
    config.write_text(f'log = "{tmp_path}/events.jsonl"')
    assert "is installed anew" in service.install(config)
    assert called(calls) == [*start, "restart --no-block edgelid.service"]
    assert "deleted" in service.uninstall()
    assert called(calls) == ["disable --now edgelid.service", "daemon-reload"]
    folders = {service.path.parents[0], service.path.parents[1], service.path.parents[2]}
    assert set(tmp_path.rglob("*")) - folders == set(before)


def test_a_unit_of_someone_else_stays(calls: Path, config: Path) -> None:
    service = Service("user")
    service.path.parent.mkdir(parents=True)
    service.path.write_text("[Service]\nExecStart=/bin/true\n")
    for act in (service.uninstall, lambda: service.install(config)):
        with pytest.raises(EdgelidError, match="was not written by"):
            act()
    assert service.path.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert called(calls) == []


def test_a_manager_that_refuses(calls: Path, config: Path) -> None:
    calls.with_suffix(".fail").touch()
    with pytest.raises(EdgelidError, match=r"daemon-reload` failed: Access denied\.$"):
        Service("user").install(config)


def test_a_folder_without_permission(calls: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "home").touch()  # no folder, not even for root
    with pytest.raises(EdgelidError, match="cannot be"):
        Service("user").install(config)
    assert called(calls) == []


def test_status(calls: Path) -> None:
    found = Service("user").status()
    assert (found["LoadState"], found["ActiveState"], found["MainPID"]) == ("loaded", "failed", "")


# --- the command -----------------------------------------------------------------------------


def test_the_command(
    edgelid: Edgelid, config: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    home = {**environment, "XDG_CONFIG_HOME": str(tmp_path / "home")}
    install = ("service", "install", "--user", "--config", config)
    dry = edgelid(*install, "--dry-run", env=home)
    assert (dry.returncode, dry.stdout, dry.stderr) == (0, Service("user").unit(config), "")
    told = json.loads(edgelid(*install, "--dry-run", "--json", env=home).stdout)
    assert told["unit"] == dry.stdout
    gone = edgelid("service", "uninstall", "--user", env=home)
    assert (gone.returncode, "is not installed" in gone.stdout) == (0, True)
    config.write_text("threads = 0")
    bad = edgelid(*install, env=home)
    assert (bad.returncode, bad.stdout) == (78, "")
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(
    Path("/run/systemd/system").is_dir(), reason="needs a machine that systemd does not run"
)
def test_without_systemd(
    edgelid: Edgelid, config: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    home = {**environment, "XDG_CONFIG_HOME": str(tmp_path / "home")}
    for command in (("install", "--config", config), ("status",)):
        done = edgelid("service", command[0], "--user", *command[1:], env=home)
        assert (done.returncode, done.stdout) == (1, "")
        assert "systemd does not run this device" in done.stderr
    assert not (tmp_path / "home").exists()


def test_root_installs_for_the_device() -> None:
    assert default_scope() == ("system" if os.geteuid() == 0 else "user")
