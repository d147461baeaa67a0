"""What people hand to a model's `fit`, `evaluate` and `predict`, as examples and rows of its task.

Each function takes Python's own lists and strings and names the first entry that is not as it
should be.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.tasks import choices, named_entities, ner, question_answering, squad, swag
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_rows import encode
from keras_bert_tpu.training.task_batches import TaskArrays

# Texts whose rows are in memory at once.
_CHUNK = 50_000

Predict = Callable[[TaskArrays], np.ndarray]


class PredictedAnswer(NamedTuple):
    """What a passage answers to a question.

    Attributes:
        text: str. The best answer that is not empty.
        probability: float. Of it, among the best answers and none.
        null_odds: float. By how much the score of no answer exceeds its score; above 0, the model
            thinks that there is none.
    """

    text: str
    probability: float
    null_odds: float


def predict_texts(model: BertTextClassifier, columns: Sequence[Sequence[Any]], predict: Predict):
    """Returns the scores [texts, classes] of one column of texts, or of two."""
    columns = [[as_text(value) for value in column] for column in columns]
    _check_numbers("second text", len(columns[0]), [len(column) for column in columns])
    found = []
    for start in range(0, len(columns[0]), _CHUNK):
        texts = zip(*(column[start : start + _CHUNK] for column in columns), strict=True)
        examples = [TextExample("", row, None) for row in texts]
        tokens, _ = encode(examples, model.tokenizer, model.sequence_length)
        found.append(predict(TaskArrays(tokens, {})))
    return np.concatenate(found)


def as_text(value: Any) -> str:
    """Returns a str of what TensorFlow and NumPy have for one.

    Raises:
        InputError: If it is none, or not UTF-8.
    """
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"A text is not UTF-8: {value[:40]!r}.") from error
    if not isinstance(value, str):
        raise InputError(f"A text must be a str. Received: {value!r} of {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"A text has a half of a character: {value[:40]!r}.") from error
    return str(value)


def predict_words(model: BertTokenClassifier, x: Any, predict: Predict) -> list[np.ndarray]:
    """Returns the scores of the words of each sentence, float32 [words, classes]."""
    sentences = _sentences(x, None)
    features = ner.make_features(sentences, model.tokenizer, (), model.sequence_length)
    scores = predict(named_entities.arrays_of(features))
    of_words = scores[features.word_rows, features.word_positions]
    ends = np.cumsum([len(sentence.words) for sentence in sentences])
    return np.split(of_words, ends[:-1])


def word_batches(
    model: BertTokenClassifier, x: Any, y: Any, weights: Any, batch_size: int, shuffle: bool
) -> tf.data.Dataset:
    """Returns batches of the rows of sentences, with the labels on the first pieces of words."""
    labels = model.labels or tuple(map(str, range(model.num_classes)))
    sentences = _sentences(x, y, labels)
    features = ner.make_features(sentences, model.tokenizer, labels, model.sequence_length)
    of_pieces = features.label_weights
    if weights is not None:
        weights = _weights(weights, len(sentences))
        of_pieces = of_pieces * weights[features.sentence_index][:, np.newaxis]
    rows = _tokens_of(features)
    return _batches(rows, features.label_ids, of_pieces, batch_size, shuffle)


def predict_answers(model: BertQuestionAnswerer, x: Any, predict: Predict) -> list[PredictedAnswer]:
    """Returns the best answer to each question."""
    questions = _questions(x, None)
    features = squad.make_features(questions, model.tokenizer, model.sequence_length)
    scores = predict(question_answering.arrays_of(features))
    found = squad.find_answers(scores[:, 0], scores[:, 1], features, questions, version_2=True)
    answers = []
    for question in questions:
        text = found.texts[question.id]
        probabilities = (n["probability"] for n in found.nbest[question.id] if n["text"] == text)
        odds = found.null_odds[question.id]
        answers.append(PredictedAnswer(text, float(next(probabilities, 0.0)), float(odds)))
    return answers


def answer_batches(
    model: BertQuestionAnswerer, x: Any, y: Any, weights: Any, batch_size: int, shuffle: bool
) -> tf.data.Dataset:
    """Returns batches of the windows of passages, with where the answers begin and end."""
    questions = _questions(x, y)
    features = squad.make_features(questions, model.tokenizer, model.sequence_length)
    if weights is not None:
        weights = _weights(weights, len(questions))[features.question_index]
    positions = np.stack([features.start_position, features.end_position], axis=1)
    return _batches(_tokens_of(features), positions, weights, batch_size, shuffle)


def predict_choices(model: BertMultipleChoice, x: Any, predict: Predict) -> np.ndarray:
    """Returns the scores [questions, choices]."""
    return predict(choices.arrays_of(_choices(x, None), model)[0])


def choice_batches(
    model: BertMultipleChoice, x: Any, y: Any, weights: Any, batch_size: int, shuffle: bool
) -> tf.data.Dataset:
    """Returns batches of questions, each a row for every choice, with the right choices."""
    arrays, _ = choices.arrays_of(_choices(x, y), model)
    if weights is not None:
        weights = _weights(weights, len(arrays))
    return _batches(arrays.tokens, arrays.labels.get("label"), weights, batch_size, shuffle)


def _sentences(x: Any, y: Any, labels: Sequence[str] = ()) -> list[ner.Sentence]:
    _check_column(x, "Sentences")
    if y is not None:
        _check_numbers("list of labels", len(x), [len(y)])
    found = []
    for number, words in enumerate(x):
        if not (isinstance(words, list | tuple) and words):
            raise InputError(
                f"Sentence {number} must be a list of words, at least one. Received: {words!r}."
            )
        names: tuple[str, ...] = ()
        if y is not None:
            _check_numbers(f"label of sentence {number}", len(words), [len(y[number])])
            names = tuple(_label_name(label, labels, number) for label in y[number])
        found.append(ner.Sentence(str(number), tuple(map(as_text, words)), names, 0))
    return found


def _label_name(label: Any, labels: Sequence[str], number: int) -> str:
    if isinstance(label, str) and label in labels:
        return label
    if isinstance(label, int | np.integer) and 0 <= label < len(labels):
        return labels[label]
    raise InputError(
        f"A label of sentence {number} must be one of {list(labels)}, or its number. Received: "
        f"{label!r}."
    )


def _questions(x: Any, y: Any) -> list[squad.Question]:
    texts, contexts = ([as_text(v) for v in c] for c in _two_columns(x, "questions", "passages"))
    _check_numbers("passage", len(texts), [len(contexts)])
    if y is not None:
        _check_numbers("answer", len(texts), [len(y)])
    found = []
    for number, (text, context) in enumerate(zip(texts, contexts, strict=True)):
        for what, value in (("Question", text), ("The passage of question", context)):
            if not value.strip():
                raise InputError(f"{what} {number} is empty; fill it in or leave it out.")
        answers = () if y is None else _answers(y[number], number, context)
        is_impossible = y is not None and not answers
        found.append(squad.Question(str(number), text, context, answers, is_impossible))
    return found


def _answers(given: Any, number: int, context: str) -> tuple[squad.Answer, ...]:
    """The first answer of a question, (text, start) or as in SQuAD's data sets; () is none."""
    if isinstance(given, Mapping):
        starts, texts = given.get("answer_start"), given.get("text")
        given = None
        if texts is not None and starts is not None and len(texts) == len(starts):
            given = (texts[0], starts[0]) if len(texts) else ()
    if given == () or given == "":
        return ()
    is_answer = isinstance(given, Sequence) and len(given) == 2
    if not (is_answer and isinstance(given[0], str) and isinstance(given[1], int | np.integer)):
        raise InputError(
            f"The answer of question {number} must be a text and the character that it begins on, "
            f"or () if there is none. Received: {given!r}."
        )
    answer = squad.Answer(given[0], int(given[1]))
    if not answer.text or context[answer.start :][: len(answer.text)] != answer.text:
        raise InputError(
            f"The answer of question {number}, {answer.text!r}, does not begin on character "
            f"{answer.start} of its passage; mend the one or the other."
        )
    return (answer,)


def _choices(x: Any, y: Any) -> list[swag.ChoiceExample]:
    contexts, endings = _two_columns(x, "texts", "lists of choices")
    _check_numbers("list of choices", len(contexts), [len(endings)])
    if y is not None:
        _check_numbers("label", len(contexts), [len(y)])
    found = []
    for number, (context, texts) in enumerate(zip(contexts, endings, strict=True)):
        if isinstance(texts, str) or len(texts) < 2:
            raise InputError(
                f"The choices of question {number} must be a list of two texts or more. Received: "
                f"{texts!r}."
            )
        label = None
        if y is not None:
            label = int(y[number])
            if not 0 <= label < len(texts):
                raise InputError(
                    f"The label of question {number} must be the number of a choice, 0 to "
                    f"{len(texts) - 1}. Received: {label}."
                )
        texts = tuple(map(as_text, texts))
        found.append(swag.ChoiceExample(str(number), as_text(context), texts, label))
    return found


def _two_columns(x: Any, first: str, second: str) -> tuple[Any, Any]:
    if len(x) != 2:
        raise InputError(
            f"There must be a tuple of two columns, {first} and {second}. Received: {len(x)}."
        )
    _check_column(x[0], first.capitalize())
    _check_column(x[1], second.capitalize())
    return x[0], x[1]


def _check_column(column: Any, what: str) -> None:
    if isinstance(column, str | bytes) or not hasattr(column, "__len__") or not len(column):
        raise InputError(f"{what} must be a list with one at least. Received: {column!r}.")


def _weights(weights: Any, number: int) -> np.ndarray:
    _check_numbers("weight", number, [len(weights)])
    return np.asarray(weights, "float32")


def _check_numbers(what: str, number: int, found: Sequence[int]) -> None:
    for other in found:
        if other != number:
            raise InputError(f"There must be a {what} for each of {number}. Received: {other}.")


def _tokens_of(features: Any) -> dict[str, np.ndarray]:
    return {name: getattr(features, name) for name in ("token_ids", "segment_ids", "padding_mask")}


def _batches(
    tokens: Mapping[str, np.ndarray],
    targets: np.ndarray | None,
    weights: np.ndarray | None,
    batch_size: int,
    shuffle: bool,
) -> tf.data.Dataset:
    # No row is longer than the longest: what is padding in all of them is left out.
    longest = int(tokens["padding_mask"].sum(axis=-1).max())
    length = min(-(-longest // 8) * 8, tokens["padding_mask"].shape[-1])
    rows = {name: array[..., :length] for name, array in tokens.items()}
    parts = [part for part in (targets, weights) if part is not None]
    if weights is not None and weights.ndim > 1:
        parts = [part[..., :length] for part in parts]
    dataset = tf.data.Dataset.from_tensor_slices((rows, *parts))
    if shuffle:
        dataset = dataset.shuffle(len(dataset), reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
