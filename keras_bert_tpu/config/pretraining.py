"""Settings of a pre-training run: optimizer, phases, and the run itself."""

import dataclasses
from collections.abc import Iterable

from keras_bert_tpu.config.checks import (
    require_choice,
    require_not_negative,
    require_positive,
    require_rate,
    require_seed,
)
from keras_bert_tpu.config.encoder import EncoderConfig
from keras_bert_tpu.dataclass_yaml import InputError, load_yaml

COMPUTE_DTYPES = ("float32", "bfloat16")
ON_DAMAGE = ("stop", "skip")
ALGORITHMS = ("adamw", "lamb")
BEST_METRICS = ("none", "loss", "mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy")
TRACKERS = ("wandb", "mlflow")
SCHEDULES = ("polynomial", "cosine", "constant")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate; the defaults are those of BERT.

    Attributes:
        algorithm: str. "adamw", or "lamb" for large batches (arXiv 1904.00962).
        learning_rate: float. Peak, reached at the end of the warm-up.
        schedule: str. After the warm-up: "polynomial", "cosine" or "constant".
        power: float. Of the polynomial; 1 is a straight line.
        end_learning_rate: float. Reached at the last step, unless the schedule is constant.
        warmup_steps: int. Steps from zero to the peak.
        beta_1: float. Decay of the first moment.
        beta_2: float. Decay of the second moment.
        epsilon: float. Added to the root of the second moment.
        weight_decay: float. Decoupled decay, not on biases and layer normalization.
        clip_norm: float. Largest global norm of the reduced gradient; 0 turns clipping off.
        bias_correction: bool or None. Of the moments. None follows the algorithm: not for AdamW,
            which is Google's rule in pre-training, and for LAMB as in its paper.
        average_decay: float. Keeps a moving average of the weights, by which held-out documents
            are evaluated and which the model of the finished run has; 0.999 forgets half in 700
            steps. 0 keeps none.
    """

    algorithm: str = "adamw"
    learning_rate: float = 1e-4
    schedule: str = "polynomial"
    power: float = 1.0
    end_learning_rate: float = 0.0
    warmup_steps: int = 10_000
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    bias_correction: bool | None = None
    average_decay: float = 0.0

    def __post_init__(self):
        require_choice(self, "algorithm", ALGORITHMS)
        require_choice(self, "schedule", SCHEDULES)
        require_positive(self, "learning_rate", "epsilon", "power")
        require_not_negative(self, "end_learning_rate", "warmup_steps", "weight_decay", "clip_norm")
        require_rate(self, "beta_1", "beta_2", "average_decay")


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """One stretch of a run at one sequence length.

    Attributes:
        steps: int. Optimizer steps in this phase.
        batch_size: int. Sequences, or rows of packed ones, in a step over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        max_sequences: int. Must be that of the records: the most sequences in a row where they are
            packed, else 1.
        data: str. Folder of this phase's records, below the folder given as --data.
        accumulation_steps: int. Slices of each replica's part of the batch that are gone through
            one after the other: the step of the whole batch in the memory of a slice.
        learning_rate: float or None. A peak of its own: the phase then begins a schedule of its
            own, with a warm-up, that ends with its last step or that of the phases behind it which
            set none. None goes on with the schedule that is under way.
        warmup_steps: int or None. Of that schedule; None takes the optimizer's.
        mask_rate: float or None. Share of the tokens that are masked, instead of the records' own,
            in training and in its evaluations. Needs records with dynamic masks; `max_predictions`
            may then be another than theirs, too.
        length_buckets: tuple of int. Ascending lengths, the last one `sequence_length`: each step
            has examples of one bucket, cut to that length. Empty pads all examples to full length.
    """

    steps: int = 1_000_000
    batch_size: int = 256
    sequence_length: int = 128
    max_predictions: int = 20
    max_sequences: int = 1
    data: str = "."
    accumulation_steps: int = 1
    learning_rate: float | None = None
    warmup_steps: int | None = None
    mask_rate: float | None = None
    length_buckets: tuple[int, ...] = ()

    def __post_init__(self):
        require_positive(self, "steps", "batch_size", "sequence_length", "max_predictions")
        require_positive(self, "accumulation_steps", "max_sequences")
        if self.learning_rate is not None:
            require_positive(self, "learning_rate")
        if self.mask_rate is not None:
            require_positive(self, "mask_rate")
            require_rate(self, "mask_rate")
        if self.warmup_steps is not None:
            require_not_negative(self, "warmup_steps")
            if self.learning_rate is None:
                raise InputError(
                    f"warmup_steps={self.warmup_steps} of a phase needs its learning_rate, with "
                    f"which a schedule of its own begins; set both, or neither."
                )


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """A whole pre-training run: the model, the optimizer and its phases.

    Attributes:
        encoder: EncoderConfig. In YAML, `preset: mini` may stand for the sizes of a preset.
        optimizer: OptimizerConfig. One schedule over the sum of all phases' steps, unless a phase
            has its own.
        phases: tuple of PhaseConfig. Gone through in order; weights, optimizer and step go on.
        seed: int. Initial weights, dropout and order of the data derive from it.
        init_checkpoint: str. Weights to begin with, for example to go on with a BERT on the text of
            a field: a model folder, a checkpoint or the folder of a run. Empty begins at random.
        init_layers: tuple of str. Which of them are taken: names of layers or weights, as in the
            table that is printed, or patterns: [encoder], [encoder/layer_0, encoder/embeddings*].
        frozen_layers: tuple of str. What stays as it is, by the same names.
        compute_dtype: str. "bfloat16" or "float32"; variables are always float32.
        recompute: bool. Keep only the inputs of the transformer layers for the gradient and compute
            the rest again: less memory, about a third more work.
        jit_compile: bool. Compile the step with XLA where the strategy leaves the choice.
        shuffle_window: int. Shards whose records are permuted together.
        on_damage: str. "stop" at a damaged record, or "skip" those that a scan of all shards
            before the run finds. Set within a run, it deals the rest of the epoch anew, because
            the order of the records depends on their number.
        max_skipped: int. Most records of a phase, training and held-out ones each, that "skip" may
            leave out.
        steps_per_execution: int. Steps of one call: TensorFlow loops over them where the devices
            are, and Python sees what there is after the last.
        max_nonfinite_steps: int. A step whose loss or gradient is not finite is skipped; so many in
            a row end the run.
        spike_factor: float. Where the loss of a line of metrics.jsonl is more than so many times
            the mean of the ten before, the run goes back to the checkpoint before and leaves out
            the examples since. 0 never does.
        max_rewinds: int. As often, at most; then the run ends.
        log_every: int. Steps between two lines of metrics.jsonl.
        histogram_every: int. Steps between two histograms of the weights in TensorBoard; 0 writes
            none.
        evaluate_every: int. Steps between two evaluations on the held-out documents.
        evaluate_examples: int. Held-out examples used each time; 0 takes all.
        save_every: int. Steps between two checkpoints.
        keep_checkpoints: int. How many of the last checkpoints are kept.
        best_metric: str. The checkpoint of the evaluation that is best by it, within a phase, is
            kept, too: "loss", "mlm_loss", "nsp_loss", "mlm_accuracy" or "nsp_accuracy"; "none"
            keeps none.
        background_saves: bool. Go on with training while a checkpoint is written, for which a copy
            of the weights and moments is in the host's memory.
    """

    encoder: EncoderConfig = EncoderConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    seed: int = 12345
    init_checkpoint: str = ""
    init_layers: tuple[str, ...] = ("*",)
    frozen_layers: tuple[str, ...] = ()
    compute_dtype: str = "bfloat16"
    recompute: bool = False
    jit_compile: bool = False
    shuffle_window: int = 8
    on_damage: str = "stop"
    max_skipped: int = 0
    steps_per_execution: int = 1
    max_nonfinite_steps: int = 10
    spike_factor: float = 0.0
    max_rewinds: int = 5
    log_every: int = 100
    histogram_every: int = 0
    evaluate_every: int = 1000
    evaluate_examples: int = 0
    save_every: int = 1000
    keep_checkpoints: int = 3
    best_metric: str = "loss"
    background_saves: bool = False

    def __post_init__(self):
        require_positive(
            self, "shuffle_window", "steps_per_execution", "log_every", "evaluate_every"
        )
        require_positive(self, "save_every", "keep_checkpoints", "max_nonfinite_steps")
        require_not_negative(self, "evaluate_examples", "max_skipped", "histogram_every")
        require_not_negative(self, "spike_factor", "max_rewinds")
        require_choice(self, "compute_dtype", COMPUTE_DTYPES)
        require_choice(self, "best_metric", BEST_METRICS)
        if 0 < self.spike_factor <= 1:
            raise InputError(
                f"spike_factor must be greater than 1, for example 1.5, or 0 for no rule. "
                f"Received: {self.spike_factor}."
            )
        if not self.init_checkpoint and self.init_layers != ("*",):
            raise InputError(
                f"init_layers={list(self.init_layers)} are those of an init_checkpoint; set that, "
                f"or leave init_layers out."
            )
        require_choice(self, "on_damage", ON_DAMAGE)
        require_seed(self)
        if not self.phases:
            raise InputError("phases is empty; a run needs at least one phase with steps.")
        if self.max_skipped and self.on_damage == "stop":
            raise InputError(
                f"max_skipped={self.max_skipped} has an effect with on_damage=skip only; set that, "
                f"or leave max_skipped out."
            )
        for name in ("log_every", "evaluate_every", "save_every"):
            if getattr(self, name) % self.steps_per_execution:
                raise InputError(
                    f"{name} must be a multiple of steps_per_execution, because the host sees only "
                    f"every steps_per_execution-th step. Received: {name}={getattr(self, name)}, "
                    f"steps_per_execution={self.steps_per_execution}."
                )
        for index, phase in enumerate(self.phases):
            if phase.sequence_length > self.encoder.max_positions:
                raise InputError(
                    f"phases.{index}.sequence_length={phase.sequence_length} is longer than "
                    f"encoder.max_positions={self.encoder.max_positions}; raise max_positions or "
                    f"shorten the sequences."
                )
            if phase.steps % self.steps_per_execution:
                raise InputError(
                    f"phases.{index}.steps={phase.steps} must be a multiple of "
                    f"steps_per_execution={self.steps_per_execution}."
                )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @classmethod
    def from_yaml(cls, path: str, overrides: Iterable[str] = ()) -> "PretrainingConfig":
        """Reads a run file.

        Args:
            path: str. Local or gs:// path of a YAML file.
            overrides: Strings `key.subkey=value`, applied in order over the file.

        Raises:
            InputError: If the file, a key or a value is not as it should be.
        """
        return load_yaml(cls, path, overrides)
