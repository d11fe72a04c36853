"""Fan-out of audio and events: to log, recorder, service manager and outlets."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from edge import __version__
from edge.audio.sources import Gap, Sound, length_samples
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.languages import UNKNOWN
from edge.listener import Heard
from edge.outputs.eventlog_outlet import LogOutlet
from edge.outputs.monitor import Monitor
from edge.outputs.recorder import Recorder
from edge.outputs.registry import close_outlets, open_outlets
from edge.outputs.settings import Settings, is_live
from edge.outputs.stdout import Output, now
from edge.outputs.systemd_notify import Notifier
from edge.outputs.timeline import change_of

logger = logging.getLogger(__name__)

FILE_WAIT_S = 10.0  # how long a file is held up by a disk that takes no events


class Sinks:
    """Takes audio and events as `edgelid listen` has them, and passes them on as is set.

    Parameters
    ----------
    settings : Settings
    output : Output
        Where events go if ``output`` is ``json``.
    notifier : Notifier
    labels : tuple of str
        Classes of the model at the start, with languages that lessons have added.
    monitor : Monitor, optional
        For those who look on.

    Raises
    ------
    EdgelidError
        If the log or the recordings cannot be written, or an outlet cannot be set up.
    """

    def __init__(
        self,
        settings: Settings,
        output: Output,
        notifier: Notifier,
        labels: tuple[str, ...],
        monitor: Monitor | None = None,
    ) -> None:
        self._output = output
        self._notifier = notifier
        self._log: LogOutlet | None = None
        self._recorder: Recorder | None = None
        self._settings = Settings()
        self._heard_samples = 0
        self._reloading = False
        self._ready = False
        self._language = UNKNOWN  # the answer now
        self._monitor = monitor
        self._outlets = open_outlets(settings, labels, monitor)
        try:
            self.apply(settings)
        except EdgelidError:
            close_outlets(self._outlets)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._notifier.stopping()
        if self._recorder is not None:
            self._recorder.close()
        close_outlets(self._outlets)

    def reloading(self) -> None:
        """The configuration is about to be read again."""
        self._reloading = True
        self._notifier.reloading()

    def apply(self, settings: Settings) -> None:
        """Go on with these settings.

        Raises
        ------
        EdgelidError
            If they cannot be used; then everything stays as it was.
        """
        before, old_log, old_recorder = self._settings, self._log, self._recorder
        log, recorder = old_log, old_recorder
        other_log = settings.log != before.log
        other_recorder = (settings.record_to, settings.record_mb) != (
            before.record_to,
            before.record_mb,
        )
        if other_log:
            log = None
            if settings.log:
                wait_s = 0.0 if is_live(settings) else FILE_WAIT_S
                log = LogOutlet(
                    Path(settings.log), settings.log_file_bytes, settings.log_files, wait_s
                )
        if other_recorder:
            try:
                recorder = None
                if settings.record_to:
                    recorder = Recorder(Path(settings.record_to), settings.record_mb * 1_000_000)
            except EdgelidError:
                if log is not None and log is not old_log:
                    log.close()
                raise
        self._settings, self._log, self._recorder = settings, log, recorder
        if other_log:
            if old_log is not None:
                self._outlets.remove(old_log)
                old_log.close()
            if log is not None:
                self._outlets.append(log)
                log.put(self._start())
        elif log is not None:
            log.bound(settings.log_file_bytes, settings.log_files)
        if other_recorder and old_recorder is not None:
            old_recorder.close()
        if recorder is not None and (other_log or other_recorder):
            logger.warning("%s", recorder.sentence())
            self.record(recorder.announcement())

    def audio(self, blocks: Iterable[Sound]) -> Iterator[Sound]:
        """Hand blocks on, once they are recorded if that is asked for.

        Whoever asks for the next block has dealt with the one before. That keeps the watchdog
        quiet, and nothing else does.
        """
        done_s = time.perf_counter()
        for block in blocks:
            came_s = time.perf_counter()
            if isinstance(block, np.ndarray):
                if self._recorder is not None:
                    self._recorder.write(block)
                if self._monitor is not None:
                    self._monitor.audio(block)
                if not self._ready:
                    self._ready = True
                    self._notifier.ready()
            elif isinstance(block, Gap) and self._monitor is not None:
                self._monitor.gap()
            self._heard_samples += length_samples(block)
            yield block
            self._notifier.alive()
            if self._monitor is not None:
                waited_s, done_s = came_s - done_s, time.perf_counter()
                self._monitor.took(done_s - came_s, waited_s)
            if self._reloading:
                self._reloading = False
                self._notifier.ready()

    def heard(self, heard: Heard, labels: tuple[str, ...]) -> None:
        """Take note of what a hop brought."""
        if self._monitor is not None:
            self._monitor.heard(heard, labels)

    def record(self, record: dict[str, Any]) -> None:
        """Pass an event on."""
        if self._settings.output == "json":
            self._output.record(record)
        if self._monitor is not None:
            self._monitor.record(record)
        for outlet in self._outlets:
            outlet.put(record)
        change = change_of(record, self._language)
        if change is not None:
            self._language = change["language"]
            self._notifier.status(f"{self._language} since {change['time']}")

    def _start(self) -> dict[str, Any]:
        """Begins a stretch of the log; the stream times after it count from the same zero."""
        heard_s = round(self._heard_samples / SAMPLE_RATE_HZ, 3)
        live = not self._settings.input  # a file or pipe may be heard at any pace
        start = {"type": "start", "start_s": heard_s, "version": __version__, "live": live}
        return {**start, "time": now()}
