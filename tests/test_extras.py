"""Extras that errors ask for are there, under names that every pip finds."""

import configparser
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def test_extras_that_errors_name_can_be_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = set(config["options.extras_require"])
    # pip 23.2, which Python 3.11 puts into a new environment, only warns that there is no extra
    # with an underscore, and installs nothing of it.
    assert not [name for name in extras if "_" in name]
    named = {
        name
        for path in (ROOT / "keras_bert_tpu").rglob("*.py")
        for name in re.findall(r"keras_bert_tpu\[([\w-]+)\]", path.read_text())
    }
    assert {"beam", "hub", "keras-hub"} <= named <= extras
