"""The output folder of a run: which run it holds, and whether another may write there."""

import hashlib
import json
import posixpath
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.checkpoints import run_layout
from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import flatten, from_dict, to_dict, to_yaml
from keras_bert_tpu.pretraining_data.damage import ShardScan, scan_shards
from keras_bert_tpu.pretraining_data.manifest import Manifest

FORMAT_VERSION = run_layout.RUN_FORMAT_VERSION
RUN, CHECKPOINTS, METRICS = run_layout.RUN, run_layout.CHECKPOINTS, run_layout.METRICS
CONFIG, DAMAGE = "config.yaml", "damage.json"
# What may differ between a run and its continuation, because no weight depends on it.
_WATCHING = (
    "log_every",
    "histogram_every",
    "evaluate_every",
    "evaluate_examples",
    "save_every",
    "keep_checkpoints",
    "best_metric",
    "background_saves",
)
# What may differ so that a run which met damaged records, or losses that spike, can go on.
_REPAIRS = ("on_damage", "max_skipped", "max_nonfinite_steps", "spike_factor", "max_rewinds")


def claim(
    output: str, config: PretrainingConfig, manifests: Sequence[str], writes: bool = True
) -> None:
    """Takes an output folder for a run, or makes sure that it holds this very run.

    A run that ended before its training began, by a mistake in its config for example, has left
    nothing to lose: its folder is free.

    Args:
        output: str. Local or gs:// folder; it is made if it does not exist.
        config: PretrainingConfig of the run.
        manifests: Paths of the manifests of the phases' records.
        writes: bool. Of processes that train together one does, before the others come here.

    Raises:
        InputError: If the folder holds another run, naming the first setting that differs.
    """
    if not output or (tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output)):
        raise InputError(f"The output {output!r} is not a folder; name one for this run alone.")
    path = posixpath.join(output, RUN)
    settings = to_dict(config)
    values = {
        "format_version": FORMAT_VERSION,
        "settings": {key: settings[key] for key in settings if key not in (*_WATCHING, *_REPAIRS)},
        "records": [hashlib.sha256(read_bytes(manifest)).hexdigest() for manifest in manifests],
    }
    found = _parse(path) if tf.io.gfile.exists(path) else None
    begun = any(tf.io.gfile.exists(posixpath.join(output, name)) for name in (METRICS, CHECKPOINTS))
    if found is not None and (begun or not writes):
        _require_same(output, found, values)
    elif tf.io.gfile.exists(posixpath.join(output, CHECKPOINTS)):
        raise InputError(
            f"{output} holds checkpoints but no {RUN}, so it cannot be told whose they are; choose "
            f"another output folder."
        )
    elif not writes:
        raise InputError(
            f"{output} is not there, though the first process of the run has made it; give a "
            f"folder on storage that all processes share."
        )
    else:
        tf.io.gfile.makedirs(output)
        damage = posixpath.join(output, DAMAGE)
        if tf.io.gfile.exists(damage):  # Perhaps of other records.
            tf.io.gfile.remove(damage)
        write_atomically(path, json.dumps(values, indent=2).encode())
    if writes:
        write_atomically(posixpath.join(output, CONFIG), to_yaml(config).encode())


def scans_for(
    output: str, config: PretrainingConfig, manifests: Sequence[Manifest]
) -> list[ShardScan | None]:
    """Returns what is damaged in the records of each phase; None where that is not asked for.

    The order of the data depends on what is left out, so the scan that a run began with is kept in
    its folder, and a run that goes on takes it from there.

    Args:
        output: str. Folder of the run.
        config: PretrainingConfig. With `on_damage` "skip" the shards are scanned.
        manifests: Of the records of each phase.

    Raises:
        InputError: If the scans in the folder are not those of these shards.
    """
    path = posixpath.join(output, DAMAGE)
    is_known = tf.io.gfile.exists(path)
    if config.on_damage == "stop":
        if is_known:
            raise InputError(
                f"{output} holds a run that goes around the damaged records of {DAMAGE}, which its "
                f"order depends on; set on_damage=skip and max_skipped as they were."
            )
        return [None] * len(manifests)
    if is_known:
        phases = _parse(path).get("phases", ())
        if len(phases) != len(manifests):
            raise InputError(
                f"{path} does not describe the {len(manifests)} phases of this run; choose another "
                f"output folder."
            )
        return [ShardScan.from_dict(values) for values in phases]
    # Phases often share a folder.
    scans = {m.directory: scan_shards(m) for m in {m.directory: m for m in manifests}.values()}
    found = [scans[manifest.directory] for manifest in manifests]
    for manifest, scan in zip(manifests, found, strict=True):
        for split in scan.splits:  # What is not taken must not be kept: it may be repaired.
            scan.check(manifest, [split], config.max_skipped)
    values = {"format_version": FORMAT_VERSION, "phases": [scan.to_dict() for scan in found]}
    write_atomically(path, json.dumps(values, indent=2).encode())
    return found


def _parse(path: str) -> dict[str, Any]:
    try:
        values = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); choose another output folder."
        ) from error
    if values.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {values.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}; use the version of keras_bert_tpu that wrote it."
        )
    return values


def _require_same(output: str, found: dict[str, Any], values: dict[str, Any]) -> None:
    try:
        # A setting that came later than the run has the default, which is what the run did.
        settings = to_dict(from_dict(PretrainingConfig, found["settings"]))
    except InputError as error:
        raise InputError(
            f"{output} holds a run of another version of keras_bert_tpu ({error}); use that "
            f"version, or choose another output folder."
        ) from error
    kept = {key: settings[key] for key in values["settings"]}
    before, now = flatten(kept), flatten(values["settings"])
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{output} holds another run: there {key} is {before.get(key)}, here it is "
                f"{now.get(key)}; choose another output folder, or set {key} as it was to "
                f"continue that run."
            )
    if found["records"] != values["records"]:
        raise InputError(
            f"{output} holds a run on other records than those given as --data; choose another "
            f"output folder, or give the records it began with."
        )
