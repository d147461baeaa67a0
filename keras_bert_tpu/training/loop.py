"""A pre-training run from its config to the trained model: phases, evaluation, resume."""

import contextlib
import posixpath
import sys
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from keras_bert_tpu.checkpoints.run_layout import CHECKPOINTS, METRICS, MODEL, complete_checkpoints
from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE
from keras_bert_tpu.pretraining_data.shard_reader import damage_message
from keras_bert_tpu.text.vocabulary import Vocabulary
from keras_bert_tpu.tpu.peaks import device_peak
from keras_bert_tpu.training import run_folder
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.curves import plot_curves
from keras_bert_tpu.training.fitting import RunCallbacks, evaluate, fit_stretch
from keras_bert_tpu.training.histograms import WeightHistograms
from keras_bert_tpu.training.hosts import Hosts
from keras_bert_tpu.training.initialization import freeze, load_initial_weights
from keras_bert_tpu.training.inputs import (
    PhaseInput,
    check_inputs,
    load_inputs,
    num_validation_batches,
    training_batches,
    validation_batches,
)
from keras_bert_tpu.training.metrics_log import MetricsLog
from keras_bert_tpu.training.optimizers import make_schedule
from keras_bert_tpu.training.phases import (
    Rewind,
    Stretch,
    next_example,
    phase_of,
    position,
    stretch_before,
    stretches,
)
from keras_bert_tpu.training.profiling import ProfileSteps
from keras_bert_tpu.training.progress import Progress
from keras_bert_tpu.training.saving import EvaluateAverages, SaveCheckpoints, StopOnTermination
from keras_bert_tpu.training.schedules import PhasedSchedule
from keras_bert_tpu.training.spikes import LossSpike, SpikeRule, read_rewinds, write_rewinds
from keras_bert_tpu.training.termination import Terminated, TerminationSignal
from keras_bert_tpu.training.trackers import make_tracker
from keras_bert_tpu.training.train_step import make_pretrainer, make_step


def pretrain(
    config: PretrainingConfig,
    data: str,
    output: str,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    profile_steps: tuple[int, int] | None = None,
    trackers: Sequence[str] = (),
) -> BertPretrainer:
    """Trains a BERT, or continues the run that the output folder holds.

    Below `output` stand `config.yaml`, `metrics.jsonl`, `tensorboard/`, `curves.png`,
    `checkpoints/` and, once the run is done, the folder `model` that
    `BertPretrainer.from_pretrained` reads.

    Args:
        config: PretrainingConfig.
        data: str. Local or gs:// folder of the records that `kbt-prepare` wrote; the phases' own
            folders lie below it.
        output: str. Local or gs:// folder of this run alone.
        strategy: What `tpu.connect` returned as strategy. Defaults to the current one.
        callbacks: Keras callbacks. An epoch, to them, is the stretch between two evaluations;
            the logs of `on_epoch_end` hold the evaluation as `val_...`.
        profile_steps: First and last step of a profile for TensorBoard, counted from 1.
        trackers: Names of `config.TRACKERS` that are given the records of metrics.jsonl, too.

    Returns:
        The trained BertPretrainer, float32 variables under the config's compute dtype.

    Raises:
        InputError: Before the first step, if the records, the config, the folder and the replicas
            do not fit together; later, if records that are read are damaged, gone or replaced, or
            the loss does not stay finite.
        Terminated: After SIGTERM, once the step that was made last is saved.

    Example:
        config = PretrainingConfig.from_yaml("gcs_configs/mini_cpu.yaml")
        model = pretrain(config, data="records", output="run")
        model.save_pretrained("model", Vocabulary.load("records/vocab.txt"))
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = load_inputs(config, data)
    check_inputs(config, inputs, strategy)
    # At the end of the run it goes with the model.
    vocabulary = inputs[-1].manifest.load_vocabulary()
    schedule = make_schedule(config.optimizer, config.phases)
    hosts = Hosts(strategy)
    inputs = _claim(config, inputs, output, hosts)
    with TerminationSignal() as signal:
        run = _Run(config, inputs, output, strategy, hosts, vocabulary, schedule)
        with _told_in_a_sentence():
            run.train(callbacks, profile_steps, trackers, signal)
    run.finish(vocabulary)
    return run.pretrainer


class _Run:
    """What the parts of a run share: made once, when the process starts.

    Args:
        config: PretrainingConfig.
        inputs: PhaseInputs.
        output: str. Folder of the run.
        strategy: tf.distribute.Strategy.
        hosts: Hosts.
        vocabulary: Vocabulary of the records.
        schedule: PhasedSchedule.
    """

    def __init__(
        self,
        config: PretrainingConfig,
        inputs: Sequence[PhaseInput],
        output: str,
        strategy: tf.distribute.Strategy,
        hosts: Hosts,
        vocabulary: Vocabulary,
        schedule: PhasedSchedule,
    ):
        self.config, self.inputs, self.output = config, inputs, output
        self.strategy, self.hosts, self.schedule = strategy, hosts, schedule
        keras.utils.set_random_seed(config.seed)
        folder = posixpath.join(output, CHECKPOINTS)
        with strategy.scope():
            self.pretrainer = make_pretrainer(config)
            table = self._begin_with(vocabulary, folder)
            frozen = freeze(self.pretrainer, config.frozen_layers)
            self.step = make_step(self.pretrainer, config, schedule)
        self.optimizer = self.step.optimizer
        self.checkpointer = Checkpointer(
            folder,
            self.pretrainer,
            self.optimizer,
            config.keep_checkpoints,
            hosts.is_chief,
            config.background_saves,
        )
        self.first_step = self._restore()
        self.rewinds = read_rewinds(output, self.first_step)
        self.averages = EvaluateAverages(self.pretrainer.trainable_variables, self.optimizer)
        if hosts.is_chief:
            for line in [*self._announcement(), *filter(None, [table])]:
                print(line)
            if frozen:
                print(f"{len(frozen)} of {len(self.pretrainer.weights)} weights are frozen.")
            sys.stdout.flush()

    def train(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        profile_steps: tuple[int, int] | None,
        trackers: Sequence[str],
        signal: TerminationSignal,
    ) -> None:
        """Makes the steps that are left; the arguments are those of `pretrain`."""
        config, hosts = self.config, self.hosts
        tracked = trackers if hosts.is_chief else ()
        # In the order of `with`: what is made last is closed first.
        with contextlib.ExitStack() as stack:
            log = MetricsLog(
                self.output,
                self.first_step,
                hosts.is_chief,
                [make_tracker(name, self.output, to_dict(config)) for name in tracked],
            )
            stack.callback(log.close)
            spikes = SpikeRule(config.spike_factor, self._recorded_losses(log))
            peak = device_peak(self.strategy, config.compute_dtype)
            self.progress = Progress(
                log,
                config,
                self.first_step,
                lambda step: float(self.schedule(step)),
                spikes,
                peak,
                hosts.is_chief,
            )
            stack.callback(self.progress.close)
            self.saver = SaveCheckpoints(
                self.checkpointer,
                config.save_every,
                self.progress,
                lambda step: position(config, step, self.rewinds),
                lambda step: phase_of(config, step)[0],
                config.best_metric,
                saved_step=self.first_step or -1,
            )
            own = [self.averages, self.progress, *self._watchers(profile_steps, stack), self.saver]
            self.callbacks = RunCallbacks(
                [*own, StopOnTermination(signal, hosts), *callbacks], self.step
            )
            try:
                self._make_steps(log)
                self.saver.save()
                self.callbacks.close()
            except Terminated as error:
                self.averages.put_back()
                self.saver.save()
                raise Terminated(self._farewell()) from error
            finally:
                self.checkpointer.wait()

    def finish(self, vocabulary: Vocabulary) -> None:
        """Writes the picture and the model, with the averages of the weights if there are any."""
        self.averages.put_in()
        if not self.hosts.is_chief:
            return
        plot_curves(posixpath.join(self.output, METRICS), posixpath.join(self.output, "curves.png"))
        folder = posixpath.join(self.output, MODEL)
        data_config = self.inputs[-1].manifest.config
        self.pretrainer.save_pretrained(
            folder,
            vocabulary,
            data_config.lower_case,
            data_config.strip_accents,
            data_config.added_tokens,
        )
        best = self.saver.best
        if best is not None:
            print(f"Best held-out {best.metric}: {best.value:.4f}, at step {best.step}.")
        waited = self.progress.input_wait_share
        if waited is not None:
            print(f"Steps waited for input in {waited:.1%} of their time.")
        print(
            f"Done: {self.progress.step} of {self.config.total_steps} steps; the model is in "
            f"{folder}."
        )

    def _make_steps(self, log: MetricsLog) -> None:
        self._evaluate_what_is_missing(log)
        epoch, step = 0, self.first_step
        while left := stretches(self.config, step):
            stretch = left[0]
            try:
                self._fit(stretch, epoch)
            except LossSpike as spike:
                step = self._go_back(spike, log)
                continue
            if self.step.stop_training:
                break
            epoch, step = epoch + 1, stretch.last_step

    def _fit(self, stretch: Stretch, epoch: int) -> None:
        config, phase_input = self.config, self.inputs[stretch.phase_index]
        made = stretch.first_step - stretch.phase_start
        start = next_example(config, stretch.phase_index, made, self.rewinds)
        self._begin(stretch)
        fit_stretch(
            self.step,
            training_batches(config, phase_input, start, self.strategy),
            *self._validation(phase_input),
            stretch.last_step - stretch.first_step,
            epoch,
            self.callbacks,
            self.hosts.number > 1,
        )

    def _evaluate_what_is_missing(self, log: MetricsLog) -> None:
        """Makes the evaluation that a run came to, and was broken off before its end."""
        stretch = stretch_before(self.config, self.first_step)
        records = [(r["split"], r["step"]) for r in log.records()]
        if stretch is None or ("validation", self.first_step) in records:
            return
        batches, number = self._validation(self.inputs[stretch.phase_index])
        if batches is not None:
            self._begin(stretch._replace(first_step=self.first_step))
            logs = evaluate(self.step, batches, number, self.callbacks, self.hosts.number > 1)
            for callback in (self.progress, self.saver):
                callback.on_epoch_end(0, logs)

    def _begin(self, stretch: Stretch) -> None:
        phase = self.config.phases[stretch.phase_index]
        self.step.length_buckets = phase.length_buckets
        self.step.accumulation_steps = phase.accumulation_steps
        self.progress.begin_stretch(stretch)

    def _validation(self, phase_input: PhaseInput) -> tuple[tf.data.Dataset | None, int | None]:
        batches = validation_batches(self.config, phase_input, self.strategy)
        if batches is None:
            return None, None
        return batches, num_validation_batches(self.config, phase_input)

    def _go_back(self, spike: LossSpike, log: MetricsLog) -> int:
        """Goes back to the checkpoint before a spike, and around the examples since."""
        config = self.config
        if len(self.rewinds) >= config.max_rewinds:
            raise InputError(
                f"The loss has jumped again ({spike}) after {len(self.rewinds)} rewinds; lower "
                f"optimizer.learning_rate or raise max_rewinds or spike_factor. The last "
                f"checkpoint is kept."
            )
        # The spike may have begun with any step of its record.
        before = [s for s in self.checkpointer.steps() if s <= spike.step - config.log_every]
        if not before:
            raise InputError(
                f"The loss has jumped ({spike}) before there was a checkpoint to go back to; lower "
                f"save_every or optimizer.learning_rate."
            )
        step = self.hosts.from_chief(before[-1])
        phase, start = phase_of(config, spike.step)
        rewind = Rewind(step, phase, spike.step - max(step, start), spike.step, spike.loss)
        self.rewinds = [*self.rewinds, rewind]
        # In this order: a kill between leaves a run that meets the spike again.
        self.checkpointer.discard_after(step)
        if self.hosts.is_chief:
            write_rewinds(self.output, self.rewinds)
        self.checkpointer.restore(step)
        log.drop_after(step)
        self.step.reset_metrics()
        self.progress.go_back(step)
        self.saver.go_back(step)
        self.progress.tell(
            f"The loss has jumped ({spike}); going back to step {step} and leaving out "
            f"{rewind.skipped_steps} batches."
        )
        return step

    def _begin_with(self, vocabulary: Vocabulary, folder: str) -> str:
        """Takes the weights of `init_checkpoint`, unless the run goes on with its own."""
        config = self.config
        if not config.init_checkpoint or complete_checkpoints(folder):
            return ""
        return load_initial_weights(
            self.pretrainer, config.init_checkpoint, config.init_layers, vocabulary
        )

    def _restore(self) -> int:
        """Goes on after the last whole checkpoint, the same in all processes; 0 without."""
        step = 0
        if self.hosts.is_chief:
            checkpoint = self.checkpointer.restore_latest()
            step = checkpoint.step if checkpoint else 0
        step = self.hosts.from_chief(step)
        if step and not self.hosts.is_chief:
            self.checkpointer.restore(step)
        return step

    def _farewell(self) -> str:
        saved = self.saver.saved_step
        if saved < 0:  # The steps so far were not finite.
            return "SIGTERM: no step is saved yet; the same command begins anew."
        steps = f"step {saved} of {self.config.total_steps}"
        return f"SIGTERM: {steps} is saved; the same command goes on from there."

    def _recorded_losses(self, log: MetricsLog) -> list[float]:
        """The losses of the phase that a run goes on in."""
        start = phase_of(self.config, self.first_step)[1]
        records = [r for r in log.records() if r["split"] == "train"]
        return [r["loss"] for r in records if start < r["step"] <= self.first_step]

    def _watchers(
        self, profile_steps: tuple[int, int] | None, stack: contextlib.ExitStack
    ) -> Iterator[keras.callbacks.Callback]:
        boards = posixpath.join(self.output, "tensorboard")
        if not self.hosts.is_chief:
            return
        if self.config.histogram_every:
            writer = tf.summary.create_file_writer(posixpath.join(boards, "weights"))
            stack.callback(writer.close)
            yield WeightHistograms(
                self.pretrainer, writer, self.config.histogram_every, lambda: self.progress.step
            )
        if profile_steps is not None:
            profile = ProfileSteps(boards, *profile_steps, lambda: self.progress.step)
            stack.callback(profile.close)
            yield profile

    def _announcement(self) -> Iterator[str]:
        config, schedule = self.config, self.schedule
        encoder, replicas = config.encoder, self.strategy.num_replicas_in_sync
        yield (
            f"BERT with {encoder.num_layers} layers of width {encoder.hidden_size}, "
            f"{self.pretrainer.count_params() / 1e6:.1f} million weights, {config.compute_dtype}, "
            f"{replicas} replica{'s'[: replicas > 1]}."
        )
        start = 0
        for index, (phase, manifest, _) in enumerate(self.inputs):
            epochs = phase.steps * phase.batch_size / manifest.num_examples
            yield (
                f"Phase {index + 1}: steps {start + 1} to {start + phase.steps} of "
                f"{phase.batch_size} x {phase.sequence_length} tokens, {epochs:.1f} epochs of "
                f"{manifest.num_examples} examples in {manifest.directory}."
            )
            if start in schedule.starts:
                own = schedule.schedules[schedule.starts.index(start)]
                yield f"  {config.optimizer.algorithm}, learning rate {own.describe()}."
            else:
                yield f"  The learning rate goes on, from {float(schedule(start)):.4g}."
            start += phase.steps
        if self.first_step:
            yield (
                f"Resuming after step {self.first_step} of {config.total_steps}, at a learning "
                f"rate of {float(schedule(self.first_step)):.4g}."
            )


def _claim(
    config: PretrainingConfig, inputs: Sequence[PhaseInput], output: str, hosts: Hosts
) -> list[PhaseInput]:
    """Takes the folder, the chief first, and returns the inputs with what they leave out."""
    manifests = [phase_input.manifest for phase_input in inputs]
    files = [posixpath.join(manifest.directory, MANIFEST_FILE) for manifest in manifests]

    def claim() -> list[PhaseInput]:
        run_folder.claim(output, config, files, hosts.is_chief)
        scans = run_folder.scans_for(output, config, manifests)
        return [i._replace(scan=scan) for i, scan in zip(inputs, scans, strict=True)]

    claimed = claim() if hosts.is_chief else []
    hosts.from_chief(0)
    return claimed or claim()


@contextlib.contextmanager
def _told_in_a_sentence() -> Iterator[None]:
    """Turns what TensorFlow raises when records or files are gone or damaged into InputError."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        if message := damage_message(error):
            raise InputError(message) from error
        if isinstance(error, tf.errors.NotFoundError):
            reason = error.message.splitlines()[0]
            raise InputError(f"A file of the records or of the run is gone: {reason}") from error
        raise
