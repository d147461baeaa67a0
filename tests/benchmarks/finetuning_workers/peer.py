"""The process that has the model in PyTorch, see hugging_face.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "hugging_face.py"


class PeerWorker:
    """The process with the model in PyTorch."""

    def __init__(self, python: str, folder: str):
        self.folder = Path(folder)
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, float]:
        """Sends a command and returns the answer."""
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"The peer ended with status {self._process.wait()}, see above.")
