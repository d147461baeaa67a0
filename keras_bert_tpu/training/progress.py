"""The progress bar of a run, and the records of its metrics."""

import sys
import time
from collections.abc import Callable, Mapping

import keras
import tqdm.auto as tqdm

from keras_bert_tpu.config import EncoderConfig, InputError, PhaseConfig, PretrainingConfig
from keras_bert_tpu.training.eta import remaining_seconds
from keras_bert_tpu.training.flops import model_flops
from keras_bert_tpu.training.metrics_log import MetricsLog
from keras_bert_tpu.training.phases import Stretch
from keras_bert_tpu.training.spikes import SpikeRule

# What an evaluation has no figure for.
_OF_TRAINING = ("gradient_norm", "skipped_steps")


class Progress(keras.callbacks.Callback):
    """Progress bar, and a record of the metrics each `log_every` steps and each evaluation.

    The metrics of a record are those of the steps since the record before.

    Args:
        log: MetricsLog.
        config: PretrainingConfig.
        first_step: int. Steps that were made before.
        learning_rate: Callable from the number of steps made to the rate of the next.
        spikes: SpikeRule. It is shown the loss of each record.
        peak_flops: float or None. Operations a second that the devices can do, where it is known.
        is_shown: bool. Of processes that train together one shows the bar.
    """

    def __init__(
        self,
        log: MetricsLog,
        config: PretrainingConfig,
        first_step: int,
        learning_rate: Callable[[int], float],
        spikes: SpikeRule,
        peak_flops: float | None = None,
        is_shown: bool = True,
    ):
        super().__init__()
        self._log = log
        self._config = config
        self._learning_rate = learning_rate
        self._spikes = spikes
        self._peak_flops = peak_flops
        self._is_shown = is_shown
        self._flops = [step_flops(config.encoder, phase) for phase in config.phases]
        self._bar: tqdm.tqdm | None = None
        self._seconds = self._waited = 0.0
        self.step = first_step

    def begin_stretch(self, stretch: Stretch) -> None:
        """Announces the next call of `fit`."""
        self._stretch = stretch
        self.step = stretch.first_step
        if stretch.first_step == stretch.phase_start:
            self._spikes.begin_phase()
        title = f"phase {stretch.phase_index + 1} of {len(self._config.phases)}"
        if self._bar is None:
            # In a file instead of a terminal each refresh is a line of its own.
            interval = 0.5 if sys.stdout.isatty() else 30.0
            self._bar = tqdm.tqdm(
                total=self._config.total_steps,
                initial=self.step,
                unit="step",
                file=sys.stdout,
                mininterval=interval,
                maxinterval=interval,
                # The time left is told beside, see `eta`.
                bar_format="{desc}{percentage:3.0f}% {bar:20} {n_fmt}/{total_fmt} [{elapsed}"
                "{postfix}]",
                disable=not self._is_shown,
            )
        self._bar.set_description(title, refresh=False)

    def go_back(self, step: int) -> None:
        """Sets the bar back to an earlier step."""
        self.step = step
        if self._bar is not None:
            self._bar.n = step

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Starts the clock anew: what lies between two stretches is not training."""
        self._restart_clock()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the steps; `batch` is the last step of this visit, from 0 in the stretch."""
        previous, self.step = self.step, self._stretch.first_step + batch + 1
        self._bar.update(self.step - previous)
        if self.step % self._config.log_every == 0:
            self._record(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Records the evaluation that closes each stretch."""
        self.check_skipped()
        values = {
            name.removeprefix("val_"): float(value)
            for name, value in (logs or {}).items()
            if name.startswith("val_") and name.removeprefix("val_") not in _OF_TRAINING
        }
        if values:
            self._log.write("validation", self.step, values)
            self.tell(f"step {self.step}: held-out {describe(values)}")

    @property
    def input_wait_share(self) -> float | None:
        """Share of the time of all recorded steps in which they waited for input, if any were."""
        return self._waited / self._seconds if self._seconds else None

    def check_skipped(self) -> None:
        """Ends the run if too many steps in a row were skipped.

        Raises:
            InputError: If so, naming them.
        """
        skipped = self.model.skipped_in_row
        limit = self._config.max_nonfinite_steps
        if skipped >= limit:
            first = self.step - skipped + 1
            raise InputError(
                f"The loss or its gradient was not finite in steps {first} to {first + limit - 1}, "
                f"{limit} in a row; the weights are as they were before, and the last checkpoint "
                f"is kept. Lower optimizer.learning_rate, lengthen the warm-up, or look at the "
                f"examples of these steps; max_nonfinite_steps sets the limit."
            )

    def tell(self, message: str) -> None:
        """Prints a line above the bar."""
        if self._is_shown:
            tqdm.tqdm.write(message, file=sys.stdout)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

    def _restart_clock(self) -> None:
        self.model.take_length()
        self.model.take_input_wait()
        self._counted_from, self._clock = self.step, time.perf_counter()

    def _record(self, logs: Mapping[str, float]) -> None:
        # Read first: values wait for the device, and its time belongs to these steps.
        values = {name: float(value) for name, value in logs.items()}
        self.check_skipped()
        norms = self.model.layer_gradient_norms()
        seconds = time.perf_counter() - self._clock
        waited = min(self.model.take_input_wait(), seconds)
        self._seconds += seconds
        self._waited += waited
        steps = self.step - self._counted_from
        phase = self._config.phases[self._stretch.phase_index]
        flops = self._flops[self._stretch.phase_index] * steps / seconds
        values |= {
            "learning_rate": self._learning_rate(self.step),
            "sequences_per_second": steps * phase.batch_size / seconds,
            "tokens_per_second": self.model.take_length() * phase.batch_size / seconds,
            "input_wait_share": waited / seconds,
            "model_flops_per_second": flops,
        }
        if self._peak_flops:
            values["model_flops_share"] = flops / self._peak_flops
        values |= {f"gradient_norm/{name}": norm for name, norm in norms.items()}
        self._log.write("train", self.step, values)
        left = remaining_seconds(self._config.phases, self.step, seconds / steps, self._flops)
        left = tqdm.tqdm.format_interval(left)
        self._bar.set_postfix_str(f"{left} left, {describe_speed(values, phase)}", refresh=False)
        self.model.reset_metrics()
        self._spikes.add(self.step, values["loss"])
        self._restart_clock()


def describe_speed(values: Mapping[str, float], phase: PhaseConfig) -> str:
    """Returns a record of training as people read it."""
    unit = "seq/s" if phase.max_sequences == 1 else "rows/s"
    text = (
        f"{describe(values)}, {values['sequences_per_second']:.1f} {unit}, "
        f"{values['tokens_per_second']:.0f} tokens/s, "
        f"{values['model_flops_per_second'] / 1e12:.3g} TFLOP/s"
    )
    if "model_flops_share" in values:
        text += f" ({values['model_flops_share']:.0%} of the peak)"
    text += f", input wait {values['input_wait_share']:.0%}"
    if values["skipped_steps"]:
        text += f", {values['skipped_steps']:.0f} steps skipped (not finite)"
    return text


def step_flops(encoder: EncoderConfig, phase: PhaseConfig) -> float:
    """Returns the operations of a step of a phase; length buckets count at full length."""
    flops = model_flops(encoder, phase.sequence_length, phase.max_predictions)
    return flops * phase.batch_size


def describe(values: Mapping[str, float]) -> str:
    """Returns the losses and accuracies of a record as people read them."""
    text = f"loss {values['loss']:.3f}, mlm {values['mlm_accuracy']:.1%}"
    # Without next sentences there is no such loss at all; a mean of some is never zero.
    return f"{text}, nsp {values['nsp_accuracy']:.1%}" if values["nsp_loss"] else text
