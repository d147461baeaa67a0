"""Settings: frozen dataclasses, one YAML key for each field.

A run file is a mapping whose keys are the field names below, nested as the dataclasses are.
`from_dict` names the nearest key when one does not exist, and `--set key.subkey=value` on the
command line reaches every field (see `dataclass_yaml`).
"""

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from keras_bert_tpu.dataclass_yaml import InputError, from_dict, load_yaml

# Layers, hidden size and heads of the checkpoints published with "Well-Read Students Learn Better"
# (arXiv 1908.08962) and, for base and large, with BERT itself (arXiv 1810.04805).
PRESETS: Mapping[str, Mapping[str, int]] = types.MappingProxyType(
    {
        name: {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": heads,
            "intermediate_size": 4 * hidden,
        }
        for name, layers, hidden, heads in [
            ("tiny", 2, 128, 2),
            ("mini", 4, 256, 4),
            ("small", 4, 512, 8),
            ("medium", 8, 512, 8),
            ("base", 12, 768, 12),
            ("large", 24, 1024, 16),
        ]
    }
)

HIDDEN_ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
COMPUTE_DTYPES = ("float32", "bfloat16")
OBJECTIVES = ("mlm+nsp", "mlm", "mlm+sop")
MASKS = ("static", "dynamic")
REPLACEMENTS = ("piece", "gram")
INPUT_FORMATS = ("auto", "sentences", "documents", "jsonl")
DUPLICATES = ("keep", "exact", "near")
ON_DAMAGE = ("stop", "skip")
ALGORITHMS = ("adamw", "lamb")
BEST_METRICS = ("none", "loss", "mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy")
SCHEDULES = ("polynomial", "cosine", "constant")


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise InputError(f"{name} must be greater than 0. Received: {getattr(config, name)}.")


def _require_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 0:
            raise InputError(f"{name} must not be negative. Received: {getattr(config, name)}.")


def _require_rate(config: Any, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(config, name) < 1.0:
            raise InputError(
                f"{name} must be at least 0 and less than 1. Received: {getattr(config, name)}."
            )


def _require_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise InputError(
            f"{name} must be one of {', '.join(choices)}. Received: {getattr(config, name)!r}."
        )


def _require_seed(config: Any) -> None:
    if not 0 <= config.seed < 2**31:
        raise InputError(f"seed must be from 0 to 2**31 - 1. Received: {config.seed}.")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Shape and rates of a BERT encoder.

    Attributes:
        vocab_size: int. Number of word pieces, special tokens included.
        num_layers: int. Number of transformer layers.
        hidden_size: int. Width of the residual stream.
        num_heads: int. Attention heads; must divide `hidden_size`.
        intermediate_size: int. Width between the two feed-forward products.
        hidden_activation: str. "gelu" (exact, with erf), "gelu_tanh" or "relu".
        hidden_dropout: float. Dropout rate of embeddings and of each sublayer's output.
        attention_dropout: float. Dropout rate of the attention probabilities.
        max_positions: int. Longest sequence the position table can hold.
        type_vocab_size: int. Number of segments.
        initializer_range: float. Standard deviation of the truncated normal initializer.
        layer_norm_epsilon: float. Added to the variance in layer normalization.
    """

    vocab_size: int = 30522
    num_layers: int = 12
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    hidden_activation: str = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_positions: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12

    def __post_init__(self):
        _require_positive(
            self, "vocab_size", "num_layers", "hidden_size", "num_heads", "intermediate_size"
        )
        _require_positive(self, "max_positions", "type_vocab_size")
        _require_rate(self, "hidden_dropout", "attention_dropout")
        _require_choice(self, "hidden_activation", HIDDEN_ACTIVATIONS)
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"hidden_size must be a multiple of num_heads. Received: "
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}."
            )

    SHORTHANDS: ClassVar[tuple[str, ...]] = ("preset",)

    @classmethod
    def expand_shorthands(cls, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Replaces `preset: NAME` by the sizes of that preset; other keys come over them."""
        values = dict(values)
        name = values.pop("preset", None)
        if name is None:
            return values
        if name not in PRESETS:
            raise InputError(
                f"{prefix}preset must be one of {', '.join(PRESETS)}. Received: {name!r}."
            )
        return {**PRESETS[name], **values}

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "EncoderConfig":
        """Returns the configuration of a published size.

        Args:
            name: str. One of "tiny", "mini", "small", "medium", "base" and "large".
            **overrides: Any field, for example `vocab_size=8000`.

        Raises:
            InputError: If there is no preset or no field of that name.
        """
        return from_dict(cls, {"preset": name, **overrides})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How documents become pre-training examples. Written into the manifest of the records.

    Attributes:
        objective: str. "mlm+nsp": masked words and next sentences (BERT). "mlm": masked words in
            full rows of sentences (RoBERTa). "mlm+sop": masked words and the order of two
            consecutive parts (ALBERT).
        sequence_length: int. Tokens in an example, special tokens included.
        max_predictions: int. Largest number of masked positions in an example.
        mask_rate: float. Share of the tokens (specials counted in the length) that are masked.
        masks: str. "static" masks are written into the records; "dynamic" ones are drawn anew in
            each epoch when the records are read.
        whole_word_mask: bool. Mask all pieces of a word together.
        segmented_words: bool. The text has white space between words of a script that is written
            without (Chinese), so that whole words are more than one character.
        max_ngram: int. Longest run of words masked together; needs `whole_word_mask` above 1.
        replacement: str. Whether [MASK], the original or a random piece takes a masked place is
            drawn for each "piece" (BERT) or for each "gram", that is word or run of words.
        random_specials: bool. Whether the random piece may be a special token, as in BERT.
        short_sequence_rate: float. Share of the documents (of the rows, for "mlm") whose target
            length is a random, shorter one; drawn anew in each pass over the corpus.
        random_next_rate: float. Share of the pairs whose second part is from another document, or,
            for "mlm+sop", whose parts are swapped.
        dupe_factor: int. How often the corpus is gone over, each time with other pairs and masks.
        lower_case: bool. Lower-case, as uncased vocabularies ask for.
        strip_accents: bool or None. Take away accents; None does so if `lower_case` is set.
        added_tokens: tuple of str. Pieces of the vocabulary that are found in the text as they
            stand, before words are split, for example "[E1]".
        input_format: str. "sentences": a sentence on a line, a blank line between documents.
            "documents": a document on a line. "jsonl": a JSON object with a document on a line.
            "auto": by the name of the file, ".jsonl" or ".json" or sentences.
        text_field: str. Name of the document's text in "jsonl" and in tensorflow-datasets.
        min_characters: int. Documents with fewer characters are dropped; 0 drops none.
        max_characters: int. Documents with more characters are dropped; 0 drops none.
        min_letter_share: float. Documents with a smaller share of letters among the characters
            that are not white space are dropped; 0 drops none.
        duplicates: str. "keep" all documents; drop those whose text equals an earlier one's
            ("exact"); drop those that share most of their word sequences with an earlier one, too
            ("near").
        near_threshold: float. Jaccard similarity from which on documents are near-duplicates.
        validation_rate: float. Share of the documents that are held out: one of each
            round(1 / rate) in a row.
        block_documents: int. Documents in a block, from which random next sentences are drawn.
        num_shards: int. Files of training records; 0 chooses by the size of the corpus.
        seed: int. All randomness derives from it.
    """

    objective: str = "mlm+nsp"
    sequence_length: int = 128
    max_predictions: int = 20
    mask_rate: float = 0.15
    masks: str = "static"
    whole_word_mask: bool = False
    segmented_words: bool = False
    max_ngram: int = 1
    replacement: str = "piece"
    random_specials: bool = True
    short_sequence_rate: float = 0.1
    random_next_rate: float = 0.5
    dupe_factor: int = 10
    lower_case: bool = True
    strip_accents: bool | None = None
    added_tokens: tuple[str, ...] = ()
    input_format: str = "auto"
    text_field: str = "text"
    min_characters: int = 0
    max_characters: int = 0
    min_letter_share: float = 0.0
    duplicates: str = "keep"
    near_threshold: float = 0.8
    validation_rate: float = 0.01
    block_documents: int = 64
    num_shards: int = 0
    seed: int = 12345

    def __post_init__(self):
        _require_choice(self, "objective", OBJECTIVES)
        _require_choice(self, "masks", MASKS)
        _require_choice(self, "replacement", REPLACEMENTS)
        _require_choice(self, "input_format", INPUT_FORMATS)
        _require_choice(self, "duplicates", DUPLICATES)
        _require_positive(self, "max_predictions", "dupe_factor", "max_ngram", "block_documents")
        _require_not_negative(self, "min_characters", "max_characters", "num_shards")
        _require_positive(self, "mask_rate")
        _require_rate(self, "mask_rate", "short_sequence_rate", "random_next_rate")
        _require_rate(self, "validation_rate", "min_letter_share")
        _require_seed(self)
        if not 0.0 < self.near_threshold <= 1.0:
            raise InputError(
                f"near_threshold must be greater than 0 and at most 1. Received: "
                f"{self.near_threshold}."
            )
        if self.sequence_length < 8:
            raise InputError(
                f"sequence_length must be at least 8 to hold two parts and their special tokens. "
                f"Received: sequence_length={self.sequence_length}."
            )
        maskable = self.sequence_length - self.num_specials
        if self.max_predictions > maskable:
            raise InputError(
                f"max_predictions must be at most {maskable}, the tokens that sequence_length="
                f"{self.sequence_length} leaves beside the {self.num_specials} special ones. "
                f"Received: {self.max_predictions}."
            )
        if self.block_documents < 2:
            raise InputError(
                f"block_documents must be at least 2, because a random next sentence comes from "
                f"another document of the block. Received: {self.block_documents}."
            )
        for name, value in {"segmented_words": False, "max_ngram": 1}.items():
            if getattr(self, name) != value and not self.whole_word_mask:
                raise InputError(
                    f"{name}={getattr(self, name)} is about words and needs whole_word_mask=True."
                )

    @property
    def num_specials(self) -> int:
        """Special tokens in a full example: [CLS] and a [SEP] behind each part."""
        return 2 if self.objective == "mlm" else 3


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
        _require_choice(self, "algorithm", ALGORITHMS)
        _require_choice(self, "schedule", SCHEDULES)
        _require_positive(self, "learning_rate", "epsilon", "power")
        _require_not_negative(
            self, "end_learning_rate", "warmup_steps", "weight_decay", "clip_norm"
        )
        _require_rate(self, "beta_1", "beta_2", "average_decay")


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """One stretch of a run at one sequence length.

    Attributes:
        steps: int. Optimizer steps in this phase.
        batch_size: int. Sequences in a step, over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
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
    data: str = "."
    accumulation_steps: int = 1
    learning_rate: float | None = None
    warmup_steps: int | None = None
    mask_rate: float | None = None
    length_buckets: tuple[int, ...] = ()

    def __post_init__(self):
        _require_positive(self, "steps", "batch_size", "sequence_length", "max_predictions")
        _require_positive(self, "accumulation_steps")
        if self.learning_rate is not None:
            _require_positive(self, "learning_rate")
        if self.mask_rate is not None:
            _require_positive(self, "mask_rate")
            _require_rate(self, "mask_rate")
        if self.warmup_steps is not None:
            _require_not_negative(self, "warmup_steps")
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
        steps_per_execution: int. Steps run on the device between two visits of the host.
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
        _require_positive(
            self, "shuffle_window", "steps_per_execution", "log_every", "evaluate_every"
        )
        _require_positive(self, "save_every", "keep_checkpoints", "max_nonfinite_steps")
        _require_not_negative(self, "evaluate_examples", "max_skipped", "histogram_every")
        _require_not_negative(self, "spike_factor", "max_rewinds")
        _require_choice(self, "compute_dtype", COMPUTE_DTYPES)
        _require_choice(self, "best_metric", BEST_METRICS)
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
        _require_choice(self, "on_damage", ON_DAMAGE)
        _require_seed(self)
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
