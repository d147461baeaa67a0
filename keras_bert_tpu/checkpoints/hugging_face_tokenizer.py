"""The tokenizer beside Hugging Face's weights: its pieces and its rules, in and out."""

import itertools
import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_bert_tpu.checkpoints.storage import list_folder, read_json_object, write_atomically
from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.normalizer import MAX_WORD_CHARS
from keras_bert_tpu.text.vocabulary import CLS, MASK, PAD, SEP, SPECIAL_TOKENS, UNK, Vocabulary

VOCABULARY, TOKENIZER = "vocab.txt", "tokenizer.json"
SETTINGS, ADDED_TOKENS = "tokenizer_config.json", "added_tokens.json"


class TokenizerFiles(NamedTuple):
    """What the files of a tokenizer say, in the terms of `BertTokenizer`."""

    vocabulary: Vocabulary | None
    lower_case: bool
    strip_accents: bool | None
    added_tokens: tuple[str, ...]
    # Why there is no vocabulary, where there is a tokenizer.
    refusal: str = ""


def read_tokenizer(path: str) -> TokenizerFiles:
    """Reads the tokenizer of a folder: vocab.txt, the WordPiece model of tokenizer.json, or both.

    Another kind of tokenizer is not read, but told in `refusal`: the model can go without it.

    Settings of tokenizer_config.json go before those of tokenizer.json, as they do there. Added
    tokens are found in the text as they stand; there, those of an uncased tokenizer that are not
    special may also be found in another case.

    Args:
        path: str. Local or gs:// folder.

    Raises:
        InputError: If a file is damaged, a WordPiece tokenizer has other rules than BERT's, or
            vocab.txt and tokenizer.json have other pieces.
    """
    names = list_folder(path)
    settings: dict[str, Any] = {}
    fast: dict[str, Any] = {}
    if TOKENIZER in names:
        fast = read_json_object(posixpath.join(path, TOKENIZER))
        kind = _kind(fast)
        if kind not in (None, "WordPiece"):
            return TokenizerFiles(
                None,
                lower_case=True,
                strip_accents=None,
                added_tokens=(),
                refusal=f"{posixpath.join(path, TOKENIZER)} has a model of type {kind!r}, and only "
                f"WordPiece, which BERT has, can be read.",
            )
    if SETTINGS in names:
        settings = read_json_object(posixpath.join(path, SETTINGS))
    rules = _rules(posixpath.join(path, TOKENIZER), fast)
    rules |= {name: settings[name] for name in _RULES if name in settings}
    _check_rules(path, rules)
    added = _added_tokens(path, fast, settings, names)
    found: dict[str, list[str]] = {}
    if VOCABULARY in names:
        found[VOCABULARY] = list(Vocabulary.load(posixpath.join(path, VOCABULARY)).pieces)
    if fast:
        found[TOKENIZER] = _wordpiece_pieces(posixpath.join(path, TOKENIZER), fast)
    if not found:
        return TokenizerFiles(None, rules["do_lower_case"], rules["strip_accents"], ())
    for pieces in found.values():
        _append_added(path, pieces, added)
    pieces = next(iter(found.values()))
    _check_same_pieces(path, found)
    return TokenizerFiles(
        Vocabulary(pieces),
        rules["do_lower_case"],
        rules["strip_accents"],
        tuple(token for token in added if token not in SPECIAL_TOKENS),
    )


def write_tokenizer(
    path: str,
    vocabulary: Vocabulary,
    lower_case: bool,
    strip_accents: bool | None,
    added_tokens: tuple[str, ...],
    max_positions: int,
) -> None:
    """Writes vocab.txt, tokenizer.json and tokenizer_config.json.

    Args:
        path: str. Local or gs:// folder.
        vocabulary: Vocabulary.
        lower_case: bool. As of `BertTokenizer`, like the next two.
        strip_accents: bool or None.
        added_tokens: tuple of str.
        max_positions: int. The longest row.
    """
    added = [_added_token(token, vocabulary, True) for token in SPECIAL_TOKENS]
    added += [_added_token(token, vocabulary, False) for token in added_tokens]
    added.sort(key=lambda token: token["id"])
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lower_case,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": max_positions,
        "unk_token": UNK,
        "sep_token": SEP,
        "pad_token": PAD,
        "cls_token": CLS,
        "mask_token": MASK,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in added
        },
    }
    vocabulary.save(posixpath.join(path, VOCABULARY))
    fast = _fast_tokenizer(vocabulary, lower_case, strip_accents, added)
    for name, values in ((TOKENIZER, fast), (SETTINGS, settings)):
        content = json.dumps(values, indent=2, ensure_ascii=False)
        write_atomically(posixpath.join(path, name), content.encode())


def _append_added(path: str, pieces: list[str], added: Mapping[str, int]) -> None:
    for token, index in sorted(added.items(), key=lambda item: item[1]):
        if index == len(pieces):
            pieces.append(token)
        elif not 0 <= index < len(pieces) or pieces[index] != token:
            raise InputError(
                f"{path}: the added token {token!r} has the id {index}, at which the vocabulary of "
                f"{len(pieces)} pieces has no such piece; take the files of one tokenizer."
            )


def _check_same_pieces(path: str, found: Mapping[str, list[str]]) -> None:
    if len(found) < 2 or found[VOCABULARY] == found[TOKENIZER]:
        return
    pairs = itertools.zip_longest(found[VOCABULARY], found[TOKENIZER])
    index, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise InputError(
        f"{path}: the piece of the id {index} is {one!r} in {VOCABULARY} and {other!r} in "
        f"{TOKENIZER}; take the files of one tokenizer, or remove the wrong one."
    )


# Settings that decide how text is cut, with their defaults.
_RULES = {
    "do_lower_case": True,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "do_basic_tokenize": True,
}


def _rules(file: str, fast: Mapping[str, Any]) -> dict[str, Any]:
    """The rules that tokenizer.json has; the defaults where there is none."""
    rules = dict(_RULES)
    if not fast:
        return rules
    normalizer = fast.get("normalizer")
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if kind != "BertNormalizer":
        raise InputError(
            f"{file} has a normalizer {kind!r}, and only BertNormalizer can be read; take a "
            f"tokenizer of BERT."
        )
    words = fast.get("pre_tokenizer")
    kind = words.get("type") if isinstance(words, dict) else words
    if kind != "BertPreTokenizer":
        raise InputError(
            f"{file} has a pre_tokenizer {kind!r}, and only BertPreTokenizer can be read; take a "
            f"tokenizer of BERT."
        )
    if normalizer.get("clean_text") is False:
        raise InputError(f"{file} sets clean_text to false, which BERT's tokenizer never does.")
    rules["do_lower_case"] = normalizer.get("lowercase", True)
    rules["strip_accents"] = normalizer.get("strip_accents")
    rules["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars", True)
    return rules


def _check_rules(path: str, rules: Mapping[str, Any]) -> None:
    for name in ("do_lower_case", "strip_accents"):
        if not isinstance(rules[name], bool) and not (name == "strip_accents" and not rules[name]):
            raise InputError(
                f"{path}: {name} of the tokenizer must be true or false. Received: {rules[name]!r}."
            )
    for name in ("tokenize_chinese_chars", "do_basic_tokenize"):
        if rules[name] is not True:
            raise InputError(
                f"{path}: the tokenizer has {name}={rules[name]!r}, and only the rules of BERT's "
                f"own tokenizer, where it is true, can be followed."
            )


def _added_tokens(
    path: str, fast: Mapping[str, Any], settings: Mapping[str, Any], names: set[str]
) -> dict[str, int]:
    """Tokens found in the text as they stand, with their ids, from the first file that has some."""
    try:
        if fast.get("added_tokens"):
            found = {token["content"]: token for token in fast["added_tokens"]}
            ids = {content: token["id"] for content, token in found.items()}
        elif settings.get("added_tokens_decoder"):
            decoder = settings["added_tokens_decoder"]
            found = {token["content"]: token for token in decoder.values()}
            ids = {token["content"]: int(index) for index, token in decoder.items()}
        elif ADDED_TOKENS in names:
            ids = read_json_object(posixpath.join(path, ADDED_TOKENS))
            found = {token: {} for token in ids}
        else:
            return {}
        for token, flags in found.items():
            set_flags = [name for name in ("single_word", "lstrip", "rstrip") if flags.get(name)]
            if set_flags and token not in SPECIAL_TOKENS:
                raise InputError(
                    f"{path}: the added token {token!r} sets {', '.join(set_flags)}, which cannot "
                    f"be followed; tokens are found in the text as they stand."
                )
        if not all(
            isinstance(index, int) and isinstance(token, str) for token, index in ids.items()
        ):
            raise TypeError("a token is no string, or its id no whole number")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: the added tokens of the tokenizer are not as they should be ({error!r}); "
            f"copy its files again."
        ) from error
    return ids


def _kind(fast: Mapping[str, Any]) -> Any:
    """The type of the model in tokenizer.json; None if there is no model."""
    model = fast.get("model")
    return model.get("type", "WordPiece") if isinstance(model, dict) else None


def _wordpiece_pieces(file: str, fast: Mapping[str, Any]) -> list[str]:
    model = fast.get("model")
    if _kind(fast) is None:
        raise InputError(f"{file} has no model that says how words are cut; copy it again.")
    vocabulary = model.get("vocab")
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    # As a set, as values of other types cannot be sorted.
    is_whole = all(isinstance(index, int) for index in ids) and set(ids) == set(range(len(ids)))
    if not ids or not is_whole:
        raise InputError(
            f"{file} must give each piece of its model an id from 0 on, without gaps; copy it "
            f"again."
        )
    if model.get("continuing_subword_prefix", "##") != "##" or model.get("unk_token", UNK) != UNK:
        raise InputError(
            f"{file} marks pieces inside words by {model.get('continuing_subword_prefix')!r} and "
            f"unknown words by {model.get('unk_token')!r}; only ## and {UNK} can be read."
        )
    return sorted(vocabulary, key=vocabulary.get)


def _added_token(token: str, vocabulary: Vocabulary, special: bool) -> dict[str, Any]:
    return {
        "id": vocabulary.ids[token],
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _fast_tokenizer(
    vocabulary: Vocabulary,
    lower_case: bool,
    strip_accents: bool | None,
    added: list[dict[str, Any]],
) -> dict[str, Any]:
    """The contents of tokenizer.json for BERT's rules."""

    def special(token: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special(CLS, 0), text("A", 0), special(SEP, 0)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": strip_accents,
            "lowercase": lower_case,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, text("B", 1), special(SEP, 1)],
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary.ids[token]], "tokens": [token]}
                for token in (CLS, SEP)
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": UNK,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_WORD_CHARS,
            "vocab": dict(vocabulary.ids),
        },
    }
