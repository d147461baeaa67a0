"""What a preempted machine says before it goes: SIGTERM, on which a run saves and ends."""

import signal
import threading
from types import FrameType
from typing import Any

# 75 is EX_TEMPFAIL of sysexits.h: not done, and worth trying again.
EXIT_CODE = 75


class Terminated(Exception):
    """SIGTERM came, the run is saved, and the same command goes on with it."""


class TerminationSignal:
    """Notes SIGTERM, within a `with`, instead of dying of it.

    Where signals cannot be handled, that is in another thread than the main one, nothing is noted.
    """

    def __init__(self) -> None:
        self.is_received = False
        self._previous: Any = None
        self._is_installed = False

    def __enter__(self) -> "TerminationSignal":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
            self._is_installed = True
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_installed:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_received = True
