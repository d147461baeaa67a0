import pytest

from keras_bert_tpu.text.vocabulary import Vocabulary

from programs import run_program


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "a.txt").write_text("The cat and the dog.\n\nThe end\n")
    return tmp_path


def test_help_teaches_commands_and_flags():
    output = run_program("vocab", "--help").stdout
    assert "kbt-vocab --input='corpus/*.txt.gz' --output=vocab.txt --vocab_size=8192" in output
    flags = ("--input", "--output", "--check", "--vocab_size")
    for flag in (*flags, "--[no]lower_case", "--[no]strip_accents"):
        assert f"  {flag}: " in output


def test_text_becomes_a_vocabulary_and_a_summary(corpus):
    output = corpus / "vocab.txt"
    result = run_program(
        "vocab", f"--input={corpus}/*.txt", f"--output={output}", "--vocab_size=30"
    )
    assert result.returncode == 0, result.stderr
    vocabulary = Vocabulary.load(str(output))
    assert "the" in vocabulary.ids and len(vocabulary) <= 30
    # the 3 times, cat, and, dog, the stop, end: 8 words, 6 of them distinct.
    for line in (
        f"{output}: {len(vocabulary)} pieces",
        "special tokens: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4",
        f"sha256: {vocabulary.sha256}",
        "Text: 3 lines, 8 words, 6 distinct",
        "words that are [UNK]: 0.0000%",
        f"kbt-prepare '--input={corpus}/*.txt' --output=records --vocab={output} --lower_case=true",
    ):
        assert line in result.stdout

    before = output.read_bytes()
    again = run_program("vocab", f"--input={corpus}/a.txt", f"--output={output}", "--vocab_size=20")
    assert again.returncode == 2
    assert "vocab.txt exists already" in again.stderr and "--overwrite" in again.stderr
    assert output.read_bytes() == before
    replaced = run_program(
        "vocab",
        f"--input={corpus}/a.txt",
        f"--output={output}",
        "--vocab_size=20",
        "--nolower_case",
        "--overwrite",
    )
    assert replaced.returncode == 0, replaced.stderr
    assert "T" in Vocabulary.load(str(output)).ids


def test_the_text_of_json_lines_is_learned_from_and_not_its_other_fields(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "zz", "body": "a garden, a garden"}\n' * 2)
    output = tmp_path / "vocab.txt"
    flags = [f"--input={tmp_path}/*.jsonl", "--text_field=body"]
    result = run_program("vocab", *flags, f"--output={output}", "--vocab_size=30")
    assert result.returncode == 0, result.stderr
    pieces = Vocabulary.load(str(output)).pieces
    assert "garden" in pieces and not any("z" in piece for piece in pieces)
    assert "Text: 2 lines, 10 words, 3 distinct" in result.stdout
    next_command = f"kbt-prepare '--input={tmp_path}/*.jsonl' --text_field=body --output=records"
    assert next_command in result.stdout


@pytest.mark.parametrize("output", ["", "folder", "a.txt/vocab.txt"])
def test_an_output_that_cannot_be_written_is_told_before_the_text_is_read(corpus, output):
    (corpus / "folder").mkdir()
    output = str(corpus / output) if output else ""
    result = run_program(
        "vocab", f"--input={corpus}/*.txt", f"--output={output}", "--vocab_size=20", "--overwrite"
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "counting" not in result.stderr
    assert "output" in result.stderr or "cannot be written" in result.stderr


def test_accents_and_case_are_told_apart(tmp_path):
    (tmp_path / "a.txt").write_text("Été été ete", encoding="utf-8")
    found = {}
    for flags in ([], ["--nostrip_accents"], ["--nolower_case", "--strip_accents"]):
        output = tmp_path / "vocab.txt"
        result = run_program(
            "vocab", f"--input={tmp_path}/a.txt", f"--output={output}", "--overwrite", *flags
        )
        assert result.returncode == 0, result.stderr
        letters = set("".join(Vocabulary.load(str(output)).pieces[5:])) - {"#"}
        found[" ".join(flags)] = "".join(sorted(letters))
        assert "words that are [UNK]: 0.0000%" in result.stdout
        last = result.stdout.splitlines()[-1]
        strip = {
            "--nostrip_accents": " --strip_accents=false",
            "--strip_accents": " --strip_accents=true",
        }
        assert last.endswith(
            f"--lower_case={'false' if '--nolower_case' in flags else 'true'}"
            + "".join(strip.get(flag, "") for flag in flags)
        )
    assert found == {
        "": "et",
        "--nostrip_accents": "et\u00e9",
        "--nolower_case --strip_accents": "Eet",
    }


def test_a_vocabulary_is_checked_against_a_text(corpus):
    path = corpus / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "d", "##og", "."]
    path.write_text("\r\n".join(pieces))
    result = run_program("vocab", f"--check={path}", f"--input={corpus}/a.txt")
    assert result.returncode == 0, result.stderr
    # the 3 times, cat and the stop are whole; dog is two pieces; and, end are unknown.
    assert f"{path}: 10 pieces, 1 of them inside words (##)" in result.stdout
    assert "words that are one piece: 62.50%" in result.stdout
    assert "pieces per word: 1.125" in result.stdout
    assert "words that are [UNK]: 25.0000%" in result.stdout

    path.write_text("\n".join(pieces[:-1] + ["the"]))
    result = run_program("vocab", f"--check={path}")
    assert result.returncode == 2
    assert "'the' stands twice" in result.stderr and "lines 6 and 10" in result.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Give either --output"),
        (["--output=a", "--check=b"], "Give either --output"),
        (["--output=vocab.txt"], "--input or --tfds is missing"),
        (["--output=a", "stray"], "Unexpected argument 'stray'"),
    ],
)
def test_wrong_flags_are_told_in_one_line(arguments, message):
    result = run_program("vocab", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("kbt-vocab: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
