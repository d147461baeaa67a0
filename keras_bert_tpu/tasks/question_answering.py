"""Questions about passages: SQuAD 1.1 and 2.0."""

from collections.abc import Sequence

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.training.finetuning_step import SpanStep, TaskStep
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor


class QuestionAnswering(Task):
    """Questions to stretches of their passages; with SQuAD 2.0 there may be none.

    Args:
        training: Questions with answers.
        development: Questions with answers.
    """

    model_class = BertQuestionAnswerer
    settings = {"sequence_length": 384}
    best_metric = "f1"

    def __init__(self, training: Sequence[squad.Question], development: Sequence[squad.Question]):
        self.training, self.development = training, development
        self.version_2 = any(q.is_impossible for part in (training, development) for q in part)
        self.name = f"SQuAD {'2.0' if self.version_2 else '1.1'}"
        self.sizes = {"train": len(training), "dev": len(development)}

    def make_step(self, model: BertQuestionAnswerer, config: FinetuningConfig) -> TaskStep:
        """Returns the step of spans."""
        if config.class_weights != "none":
            raise InputError("class_weights is a setting of texts; questions have none.")
        return SpanStep(model, config.clip_norm, config.seed)

    def encode(self, model: BertQuestionAnswerer) -> EncodedTask:
        """Makes the rows of all questions, windows of long passages."""
        training, development = (
            squad.make_features(part, model.tokenizer, model.sequence_length)
            for part in (self.training, self.development)
        )
        if not training.trainable.any():
            raise InputError(
                "No question to train on has an answer that stands in its passage where "
                "answer_start says; mend the file, or give another one."
            )
        held_out = arrays_of(development)
        misplaced = len(squad.misplaced_answers(list(self.training)))
        remarks = [
            f"{len(self.training):,} questions are {len(training.token_ids):,} rows, the "
            f"{len(self.development):,} of the development set {len(development.token_ids):,}; "
            f"{misplaced:,} answers do not stand where they should, and are not trained on."
        ]

        def answer(predictor: Predictor) -> squad.SquadPredictions:
            scores = predictor(held_out)
            return squad.find_answers(
                scores[:, 0], scores[:, 1], development, self.development, self.version_2
            )

        def evaluate(predictor: Predictor) -> dict[str, float]:
            found = answer(predictor)
            if not self.version_2:
                return squad.score(found.texts, self.development, False)
            threshold = squad.best_threshold(found.texts, self.development, found.null_odds)
            scores = squad.score(found.answers(threshold), self.development, True)
            return {**scores, "null_threshold": threshold}

        def write_outputs(folder: str, predictor: Predictor) -> None:
            found = answer(predictor)
            threshold = 0.0
            if self.version_2:
                threshold = squad.best_threshold(found.texts, self.development, found.null_odds)
            squad.write_predictions(folder, found, threshold)

        return EncodedTask(arrays_of(training, for_training=True), evaluate, write_outputs, remarks)


def arrays_of(features: squad.SquadFeatures, for_training: bool = False) -> TaskArrays:
    """Returns the rows of questions; for training, those whose answer is where it should be."""
    rows = features.trainable if for_training else slice(None)
    tokens = {
        name: getattr(features, name)[rows] for name in ("token_ids", "segment_ids", "padding_mask")
    }
    labels = {name: getattr(features, name)[rows] for name in ("start_position", "end_position")}
    labels["label_weights"] = (labels["start_position"] >= 0).astype("float32")
    return TaskArrays(tokens, labels)
