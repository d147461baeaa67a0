import pytest
import reference_tokenizer as reference
import tensorflow as tf
from hypothesis import given, settings, strategies

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.added_tokens import AddedTokens
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

from adversarial_texts import ADDED_TOKENS, fragments, letter_vocabulary, odd_texts, texts

PIECES = [
    *SPECIAL_TOKENS,
    *("[E1]", "[E1]]", "E", "<é>", "a.b", "the", "##s", "e", "##1", "[", "]", "ς", "a", "##b", "1"),
    *("mask", "σ", "##ς", "α", "cls", "\x01", "x\x02"),
]
VOCABULARY = Vocabulary(PIECES)


def encode(text, *tokens: str, lower_case: bool = True) -> list[str]:
    ids = BertTokenizer(VOCABULARY, lower_case, added_tokens=tokens)(text)
    return [PIECES[index] for index in ids.numpy()]


def test_only_added_tokens_have_a_meaning():
    assert encode("[CLS] the[MASK]", "[MASK]") == ["[", "cls", "]", "the", "[MASK]"]
    assert encode("[CLS] the[MASK]") == ["[", "cls", "]", "the", "[", "mask", "]"]


def test_tokens_are_found_as_they_stand_before_the_text_is_normalized():
    assert encode("[E1] [e1] [MASK]", "[E1]", "[MASK]") == (
        ["[E1]", "[", "e", "##1", "]", "[MASK]"]
    )
    # The composed letter only, and not with a control character that would be dropped inside.
    assert encode("<é>", "<é>") == ["<é>"]
    for text in ("<e\u0301>", "<É>", "<\u200bé>"):
        assert "<é>" not in encode(text, "<é>")
    assert encode("the\x01[MA\x01SK]\x02[MASK]\x01", "[MASK]") == (
        ["the", "[", "mask", "]", "[MASK]"]
    )
    # Unlike normalization, cutting at tokens makes words.
    assert encode("theEs thes", "E") == ["the", "E", "[UNK]", "the", "##s"]
    assert encode("ΑΣ[MASK]Σ", "[MASK]") == ["α", "##ς", "[MASK]", "σ"]


def test_the_leftmost_then_the_longest_is_taken():
    assert encode("[E1]]", "[E1]", "[E1]]") == ["[E1]]"]
    assert encode("[E1]]", "[E1]]", "[E1]") == ["[E1]]"]
    assert encode("[E1][E1]]", "[E1]", "[E1]]") == ["[E1]", "[E1]]"]
    assert encode("a.b.b", "a.b", "E") == ["a.b", "[UNK]", "[UNK]"]


def test_characters_that_patterns_give_a_meaning_stand_for_themselves():
    assert encode("axb a.b", "a.b") == ["[UNK]", "a.b"]
    # All of ASCII but white space, of which no piece is, and the two that mark places.
    single = [char for char in map(chr, range(128)) if char not in "\t\n\r \x01\x02"]
    symbols = [*single, "".join(map(chr, range(33, 127))), "(?i)e", "\\d", "$^", "a|", "{2}"]
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *symbols])
    for symbol in symbols:
        split = AddedTokens([symbol], vocabulary).split(tf.constant([f"é {symbol}\xa0{symbol}"]))
        parts = [part.decode() for part in split.parts.values.numpy()]
        assert parts == ["é ", symbol, "\xa0", symbol, ""]
        assert split.ids.numpy().tolist() == [vocabulary.ids[symbol]] * 2
    tokenizer = BertTokenizer(vocabulary, added_tokens=symbols)
    ids = tokenizer("é" + "é".join(symbols)).numpy().tolist()
    assert ids[1::2] == [vocabulary.ids[symbol] for symbol in symbols]


def test_bytes_that_are_not_utf8_are_no_part_of_a_token():
    assert encode(b"\xe4[MASK]\xb8\xff<\xc3\xa9>\xe4\xb8", "[MASK]", "<é>") == ["[MASK]", "<é>"]
    assert encode(b"<\xc3>\xa9", "<é>") == ["[UNK]", "[UNK]"]


def test_offsets_are_those_of_the_whole_text():
    tokenizer = BertTokenizer(VOCABULARY, added_tokens=["[MASK]", "<é>"])
    text = b"\xffthe\xc3\xa1 <\xc3\xa9>[MASK]\xe4 the"
    for unit, places in (
        ("byte", [(1, 6), (7, 11), (11, 17), (19, 22)]),
        ("char", [(0, 4), (5, 8), (8, 14), (15, 18)]),
    ):
        ids, starts, ends = tokenizer.tokenize_with_offsets(text, unit)
        assert [PIECES[index] for index in ids.numpy()] == ["[UNK]", "<é>", "[MASK]", "the"]
        assert list(zip(starts.numpy().tolist(), ends.numpy().tolist(), strict=True)) == places
    _, starts, ends = tokenizer.tokenize_with_offsets([["[MASK]", ""], ["the", "the [MASK]"]])
    assert starts.to_list() == [[[0], []], [[0], [0, 4]]]
    assert ends.to_list() == [[[6], []], [[3], [3, 10]]]
    for empty in (tf.zeros([0], tf.string), [""]):
        assert [values.values.shape[0] for values in tokenizer.tokenize_with_offsets(empty)] == [
            0
        ] * 3


@pytest.mark.parametrize("lower_case, strip_accents", [(True, None), (False, None), (True, False)])
def test_ids_are_those_of_the_rules(lower_case, strip_accents):
    found = [*fragments(), *odd_texts()[:90]]
    vocabulary = letter_vocabulary(found, lower_case, strip_accents, ADDED_TOKENS)
    tokenizer = BertTokenizer(vocabulary, lower_case, strip_accents, ADDED_TOKENS)
    compiled = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)])

    def check(texts: list[bytes]) -> None:
        for text, ids in zip(texts, compiled(tf.constant(texts)).to_list(), strict=True):
            assert [vocabulary.pieces[index] for index in ids] == reference.tokenize(
                text, vocabulary.ids, lower_case, strip_accents, ADDED_TOKENS
            ), text

    check(found)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(texts=strategies.lists(texts(), min_size=1, max_size=12))
    def check_together(texts):
        check(texts)

    check_together()


def test_a_thousand_tokens_are_found():
    tokens = [f"[unused{index}]" for index in range(1000)]
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "a", *tokens])
    text = "a".join(reversed(tokens))
    ids = BertTokenizer(vocabulary, added_tokens=tokens)(text).numpy().tolist()
    assert ids[::2] == list(range(1005, 5, -1))
    assert set(ids[1::2]) == {5}


def test_masks_are_encoded_beside_added_tokens():
    tokenizer = BertTokenizer(VOCABULARY, added_tokens=["[E1]"])
    text = "[E1] [MASK]s [CLS]"
    expected = ["[E1]", "[MASK]", "[UNK]", "[", "cls", "]"]
    assert [PIECES[index] for index in tokenizer.encode_with_masks(text)] == expected
    assert encode(text, "[E1]", "[MASK]") == expected
    assert tokenizer.added_tokens == ("[E1]",)


def test_a_saved_model_holds_operations_of_tensorflow_and_two_of_tensorflow_text(tmp_path):
    tokenizer = BertTokenizer(VOCABULARY, added_tokens=["[MASK]", "[E1]"])
    module = tf.Module()
    module.tokenize = tf.function(
        lambda text: (tokenizer(text), *tokenizer.tokenize_with_offsets(text, "char")),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    texts = ["the [MASK][E1]", "", "É[E1]" + "a" * 201]
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for found, expected in zip(loaded.tokenize(texts), module.tokenize(texts), strict=True):
        assert found.to_list() == expected.to_list()
    graph = module.tokenize.get_concrete_function().graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    names = {node.op for node in nodes}
    # Of the package's own operations, those that TF Serving knows (see DESIGN) and no other.
    assert {name for name in names if not hasattr(tf.raw_ops, name)} == {
        "FastWordpieceTokenizeWithOffsets",
        "NormalizeUTF8",
    }
    # No table or other resource that a server would have to initialize.
    assert not [name for name in names if "Table" in name or "Resource" in name or "PyFunc" in name]


def test_tokens_that_cannot_be_added_are_input_errors():
    with pytest.raises(InputError, match=r"added token '\[E2\]' is not in the vocabulary of 27"):
        BertTokenizer(VOCABULARY, added_tokens=["[E1]", "[E2]", "[E3]"])
    for token in ("\x01", "x\x02"):
        with pytest.raises(InputError, match="must not hold U\\+0001 or U\\+0002"):
            BertTokenizer(VOCABULARY, added_tokens=[token])
    with pytest.raises(
        InputError, match=r"must be a sequence of strings, for example \('\[E1\]',\)"
    ):
        BertTokenizer(VOCABULARY, added_tokens="[E1]")
