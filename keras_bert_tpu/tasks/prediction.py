"""Fine-tuned models on files of any size: read, predicted and written some thousands at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.task_models import from_source
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.task_model import TaskModel
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.tasks import (
    choices,
    named_entities,
    ner,
    question_answering,
    squad,
    swag,
    tables,
    text_rows,
)
from keras_bert_tpu.tasks.columns import TableColumns
from keras_bert_tpu.tasks.text_classification import decide
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor

MODELS = (BertTextClassifier, BertTokenClassifier, BertQuestionAnswerer, BertMultipleChoice)
# Examples that are in memory at once: enough to sort by length.
_CHUNK = 8192
_SEPARATOR = ","

Example = TypeVar("Example")


class _Predicted(NamedTuple):
    """One example and what a model says of it."""

    example: Any
    prediction: Any
    probabilities: Sequence[float] = ()


def load_task_model(path: str, dtype: Any = None, needs_tokenizer: bool = True) -> TaskModel:
    """Loads a fine-tuned model of any task.

    Args:
        path: str. What `checkpoints.source.read_weights` reads.
        dtype: Keras dtype policy, for example "mixed_bfloat16".
        needs_tokenizer: bool. Whether it is an error if there is none.

    Raises:
        InputError: If there is no such model, or it is not one of a task.
    """
    source = read_weights(path)
    for model_class in MODELS:
        if model_class.__name__ == source.model:
            return from_source(model_class, source, dtype=dtype, needs_tokenizer=needs_tokenizer)
    raise InputError(
        f"{path} is a {source.model}, which has no head of a task; fine-tune it first, see "
        f"kbt-finetune."
    )


def predict_file(
    model: TaskModel,
    path: str,
    output: str,
    columns: TableColumns | None = None,
    batch_size: int = 64,
    strategy: tf.distribute.Strategy | None = None,
    progress: bool = True,
) -> int:
    """Predicts on a file in the format of the model's task.

    Args:
        model: TaskModel with a tokenizer.
        path: str. Local or gs:// file: a table of texts, CoNLL columns, JSON of SQuAD, or a table
            with the columns of SWAG. Labels in it are not looked at.
        output: str. What is written: a .csv, .tsv or .jsonl table of a text classifier or of
            choices, CoNLL columns, or a folder for the three files of SQuAD.
        columns: TableColumns of texts; None looks for usual names.
        batch_size: int. Rows that are computed at once, over all replicas.
        strategy: What `tpu.connect` returned as strategy.
        progress: bool. Whether a bar is shown.

    Returns:
        int. How many examples there were.

    Raises:
        InputError: If the file is not as it should be, or the output cannot be written.
    """
    predictor = Predictor(model, batch_size, strategy=strategy)
    with tqdm.tqdm(unit="ex", disable=not progress) as bar:
        done = _Done(bar)
        if isinstance(model, BertQuestionAnswerer):
            _predict_answers(model, predictor, path, output, done)
        elif isinstance(model, BertTokenClassifier):
            rows = _stream(
                ner.read_sentences(path), lambda part: _entities(model, predictor, part), done
            )
            predicted, examples = itertools.tee(rows)
            ner.write_predictions(
                output, (p.prediction for p in predicted), (p.example for p in examples)
            )
        elif isinstance(model, BertMultipleChoice):
            rows = _stream(
                swag.read_unlabelled(path),
                lambda part: _choices(model, predictor, part, done),
                done,
            )
            predicted, examples = itertools.tee(rows)
            swag.write_predictions(
                output, (p.prediction for p in predicted), (p.example for p in examples)
            )
        else:
            _predict_texts(model, predictor, path, output, columns, done)
    if done.trimmed:
        print(f"{done.trimmed:,} rows are longer than {model.sequence_length} pieces, and trimmed.")
    return done.number


class _Done:
    """Counts examples and trimmed rows, and moves a bar, which counts nothing if not shown."""

    def __init__(self, bar: tqdm.tqdm):
        self._bar = bar
        self.number = self.trimmed = 0

    def add(self, number: int) -> None:
        self.number += number
        self._bar.update(number)


def _stream(
    examples: Iterable[Example],
    predict: Callable[[Sequence[Example]], Iterable[_Predicted]],
    done: _Done,
) -> Iterator[_Predicted]:
    examples = iter(examples)
    while part := list(itertools.islice(examples, _CHUNK)):
        for predicted in predict(part):
            yield predicted
            done.add(1)


def _predict_texts(
    model: BertTextClassifier,
    predictor: Predictor,
    path: str,
    output: str,
    columns: TableColumns | None,
    done: _Done,
) -> None:
    rows = _stream(
        tables.read_unlabelled(path, columns),
        lambda part: _texts(model, predictor, part, done),
        done,
    )
    predictions, examples, probabilities = itertools.tee(rows, 3)
    labels = model.labels or tuple(map(str, range(model.num_classes)))
    is_regression = model.num_classes == 1
    tables.write_predictions(
        output,
        (p.prediction for p in predictions),
        (p.example for p in examples),
        () if is_regression else labels,
        None if is_regression else (p.probabilities for p in probabilities),
        _SEPARATOR if model.multi_label else "",
    )


def _texts(
    model: BertTextClassifier,
    predictor: Predictor,
    examples: Sequence[tables.TextExample],
    done: _Done,
) -> Iterator[_Predicted]:
    tokens, trimmed = text_rows.encode(examples, model.tokenizer, model.sequence_length)
    done.trimmed += trimmed
    scores = predictor(TaskArrays(tokens, {}))
    if model.multi_label:
        probabilities = 1.0 / (1.0 + np.exp(-scores))
    else:
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
    yield from map(_Predicted, examples, decide(model, scores).tolist(), probabilities.tolist())


def _entities(
    model: BertTokenClassifier, predictor: Predictor, sentences: Sequence[ner.Sentence]
) -> Iterator[_Predicted]:
    labels = model.labels or tuple(map(str, range(model.num_classes)))
    features = ner.make_features(sentences, model.tokenizer, labels, model.sequence_length)
    ids = predictor(named_entities.arrays_of(features)).argmax(axis=-1)
    yield from map(_Predicted, sentences, ner.labels_of_words(ids, features, sentences, labels))


def _choices(
    model: BertMultipleChoice,
    predictor: Predictor,
    examples: Sequence[swag.ChoiceExample],
    done: _Done,
) -> Iterator[_Predicted]:
    arrays, trimmed = choices.arrays_of(examples, model)
    done.trimmed += trimmed
    yield from map(_Predicted, examples, predictor(arrays).argmax(axis=1).tolist())


def _predict_answers(
    model: BertQuestionAnswerer, predictor: Predictor, path: str, folder: str, done: _Done
) -> None:
    questions = squad.read(path, needs_answers=False)
    version_2 = any(question.is_impossible for question in questions)
    features = squad.make_features(questions, model.tokenizer, model.sequence_length)
    scores = predictor(question_answering.arrays_of(features))
    found = squad.find_answers(scores[:, 0], scores[:, 1], features, questions, version_2)
    squad.write_predictions(folder, found)
    done.add(len(questions))
