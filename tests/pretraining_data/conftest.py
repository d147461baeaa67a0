import collections
import pathlib
import re

import pytest

from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

from prepared_text import SAMPLE


@pytest.fixture(scope="session")
def vocab(tmp_path_factory):
    """Special tokens, letters and frequent words of the sample, split at a suffix of their own."""
    text = " ".join(pathlib.Path(path).read_text(encoding="utf-8") for path in SAMPLE).lower()
    words = collections.Counter(re.findall(r"[a-z]+", text))
    characters = sorted(set(text) - set(" \n"))
    pieces = [*SPECIAL_TOKENS, *characters, *(f"##{c}" for c in characters if c.isalpha())]
    pieces += ["##ed", "##ing", "##ly", "##er"]
    pieces += sorted(word for word, _ in words.most_common(3000) if len(word) > 1)
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    Vocabulary(pieces).save(str(path))
    return str(path)
