"""The container image says what the rest of the project says; building it is for .ci/run."""

from __future__ import annotations

import json
import re
import tomllib
from urllib.parse import urlsplit

from edge.config import ENVIRONMENT_PREFIX
from edge.outputs.settings import FIELDS, read_settings
from edge.outputs.web.address import parse_address
from edge.outputs.web.guard import PUBLIC_PATHS
from tests.architecture import PACKAGES, ROOT

STATE = "/var/lib/edgelid"


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text()
    without = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = without.replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]


def of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    starts = [number for number, (word, _) in enumerate(found) if word == "FROM"]
    assert len(starts) == 2
    return found[starts[-1] :]


def test_the_user_is_not_root_and_hears_by_group() -> None:
    (user,) = of("USER")
    assert int(user) > 0
    (made,) = re.findall(r"useradd [^&]*", " ".join(of("RUN")))
    assert f"--uid {user} " in made
    assert "--groups audio" in made
    words = [word for word, _ in last_stage()]
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_its_settings_are_settings() -> None:
    (text,) = of("ENV")
    environment = dict(re.findall(rf"({ENVIRONMENT_PREFIX}\w+)=(\S+)", text))
    assert {name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in environment} <= {*FIELDS}
    settings = read_settings(None, environment, {})
    assert not parse_address(settings.web).is_loopback
    assert settings.web_token_file.startswith(STATE)  # or there would be a new one every time
    assert settings.log.startswith(STATE)
    assert of("VOLUME") == of("WORKDIR") == [STATE]
    assert of("EXPOSE") == [str(parse_address(settings.web).port)]
    assert json.loads(of("ENTRYPOINT")[0]) == ["edgelid"]
    assert json.loads(of("CMD")[0]) == ["listen"]


def test_the_health_check_asks_what_everyone_may_ask() -> None:
    (check,) = of("HEALTHCHECK")
    words = json.loads(check[check.index("CMD") + 3 :])
    (url,) = re.findall(r"http://[^']+", words[-1])
    assert urlsplit(url).port == 8080
    assert urlsplit(url).path == "/healthz"
    assert urlsplit(url).path in PUBLIC_PATHS
    compile(words[-1], "health", "exec")


def test_what_it_installs_is_there() -> None:
    build = " ".join(of("RUN"))
    (extras,) = re.findall(r"/src\[([\w,-]+)\]", build)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    known = project["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    (constraints,) = re.findall(r"/src/(constraints/\S+)", build)
    versions = (ROOT / constraints).read_text()
    for extra in extras.split(","):
        for requirement in known[extra]:
            name = re.split(r"[<>=\[; ]", requirement)[0]
            assert re.search(rf"^{re.escape(name)}==", versions, re.MULTILINE), name


def test_what_is_copied_is_all_that_a_build_needs() -> None:
    kept = (ROOT / ".containerignore").read_text().split()
    assert kept[0] == "*"
    wanted = {line.removeprefix("!") for line in kept if line.startswith("!")}
    assert {*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "constraints"} <= wanted
    assert all((ROOT / name).exists() for name in wanted)
