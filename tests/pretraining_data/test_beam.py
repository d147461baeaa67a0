"""The pipeline must give the files of `prepare`, byte for byte, whatever a runner does to it."""

import importlib.util
import itertools
import json
import os
import random
import sys

import pytest

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import beam as beam_module
from keras_bert_tpu.pretraining_data import beam_steps, corpora, documents, spill
from keras_bert_tpu.pretraining_data.beam import prepare_with_beam
from keras_bert_tpu.pretraining_data.corpora import find_corpora
from keras_bert_tpu.pretraining_data.documents import TRAIN, VALIDATION, HoldOut
from keras_bert_tpu.pretraining_data.examples import ExampleMaker
from keras_bert_tpu.pretraining_data.manifest import Counts
from keras_bert_tpu.pretraining_data.plan import plan_corpora, read_units
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.pretraining_data.work_folder import WORK_FOLDER
from keras_bert_tpu.text.vocabulary import Vocabulary

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="apache-beam, the extra [beam], is not installed",
)
TWO_PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
SMALL = DataConfig(
    sequence_length=32, max_predictions=5, dupe_factor=1, validation_rate=0.0, block_documents=4
)


class Case:
    """A corpus on disk, settings, and what `prepare` makes of them."""

    def __init__(self, folder, vocabulary, texts, weights=(), **settings):
        self.folder = folder
        self.vocab = str(folder / "pieces.txt")
        vocabulary.save(self.vocab)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        names = sorted(texts)
        self.input = [f"{folder}/{name}" for name in names]
        self.weights = weights
        self.config = DataConfig(
            **{"sequence_length": 64, "max_predictions": 10, "dupe_factor": 2, **settings}
        )
        self.expected = self.run(prepare, "expected", workers=1, progress=False)

    def run(self, function, output, **arguments):
        """The files that a preparation writes, by name."""
        path = self.folder / output
        function(self.input, str(path), self.vocab, self.config, weights=self.weights, **arguments)
        return {name: (path / name).read_bytes() for name in sorted(os.listdir(path))}

    def run_beam(self, output, *options):
        return self.run(
            prepare_with_beam, output, progress=False, options=("--runner=DirectRunner", *options)
        )


def paragraphs(sample_text, start, count):
    """Documents of the sample, as one text."""
    with open(sample_text, encoding="utf-8") as file:
        found = file.read().strip().split("\n\n")
    chosen = list(itertools.islice(itertools.cycle(found), start, start + count))
    return "\n\n".join("\n".join(document.split("\n")[:12]) for document in chosen) + "\n"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, vocabulary, sample_text):
    """Next sentences and masks as in BERT, of files that end within blocks and hold-out groups."""
    texts = {
        f"{name}.txt": paragraphs(sample_text, start, count)
        for name, start, count in [("a", 0, 13), ("b", 13, 1), ("c", 14, 25), ("d", 5, 10)]
    }
    folder = tmp_path_factory.mktemp("pairs")
    return Case(
        folder, vocabulary, texts, validation_rate=0.1, block_documents=4, num_shards=3, seed=5
    )


@pytest.fixture(scope="module")
def weighted(tmp_path_factory, vocabulary, sample_text):
    """Two corpora gone over unequally often, one of JSON, with masks that are drawn later."""
    lines = paragraphs(sample_text, 3, 20).strip().split("\n\n")
    texts = {
        "a.txt": paragraphs(sample_text, 0, 18),
        "b.jsonl": "".join(json.dumps({"text": line}) + "\n" for line in lines),
    }
    return Case(
        tmp_path_factory.mktemp("weighted"),
        vocabulary,
        texts,
        weights=(1.0, 1.75),
        objective="mlm",
        masks="dynamic",
        validation_rate=0.2,
        block_documents=3,
        # Of so many shards, some have no example.
        num_shards=100,
        sequence_length=128,
        pack=True,
    )


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, vocabulary, sample_text):
    """Documents that occur twice, in a file and in a later one, and some that are too short."""
    texts = {
        "a.txt": paragraphs(sample_text, 0, 9) + "\nShort.\n\n" + paragraphs(sample_text, 2, 3),
        "b.txt": "\n\n".join(["Short."] * 3) + "\n",
        "c.txt": paragraphs(sample_text, 6, 17) + "\nShort.\n",
    }
    return Case(
        tmp_path_factory.mktemp("repeated"),
        vocabulary,
        texts,
        duplicates="exact",
        min_characters=20,
        validation_rate=0.25,
        block_documents=4,
        pack=True,
        max_sequences=3,
    )


CASES = ["pairs", "weighted", "repeated"]


def test_the_cases_have_what_they_are_for(pairs, weighted, repeated):
    assert len(pairs.expected) == 3 + 1 + 2  # Shards of each split, manifest and vocabulary.
    shards = [content for name, content in weighted.expected.items() if name.startswith("train")]
    assert len(shards) == 100 and not all(shards)
    dropped = json.loads(repeated.expected["manifest.json"])["corpora"][0]["dropped"]
    assert len(dropped) == 2 and min(dropped.values()) > 3
    for case in (pairs, weighted, repeated):
        assert any(name.startswith("validation") for name in case.expected)


class TestPipeline:
    @needs_beam
    @pytest.mark.parametrize("name", CASES)
    def test_in_memory_the_files_are_those_of_prepare(self, name, request):
        case = request.getfixturevalue(name)
        assert case.run_beam("beam") == case.expected

    @needs_beam
    def test_bundles_that_are_run_twice_change_nothing(self, repeated):
        assert repeated.run_beam("twice", "--direct_runner_bundle_repeat=1") == repeated.expected

    @needs_beam
    def test_in_two_processes_the_files_are_those_of_prepare(self, pairs):
        assert pairs.run_beam("processes", *TWO_PROCESSES) == pairs.expected


class TestSteps:
    """The steps strung together by hand, so that they are held without Beam, too."""

    @staticmethod
    def run(case, output, order):
        """Runs every step on its elements in an order, shards twice; returns the files."""
        path, work = case.folder / output, case.folder / output / "work"
        work.mkdir(parents=True)
        found = find_corpora(case.input, (), case.weights)
        plan = plan_corpora(found, case.config)
        split_documents = tuple(dict(counts.documents) for counts in plan.counts)
        read = beam_steps.ReadDocuments(case.config, split_documents)
        vocabulary = Vocabulary.load(case.vocab)
        make = beam_steps.MakeExamples(
            case.config,
            split_documents,
            plan.num_shards,
            tuple(corpus.weight for corpus in found),
            case.vocab,
            vocabulary.sha256,
        )
        write = beam_steps.WriteShard(str(path), str(work), plan.num_shards, case.config)
        parts = {
            (split, shard): [(beam_steps.NO_ORIGIN, spill.EMPTY_PART)]
            for split, number in plan.num_shards.items()
            for shard in range(number)
        }
        blocks = {}
        for part in order(beam_steps.file_parts(plan)):
            for key, document in read(part):
                blocks.setdefault(key, []).append(document)
        totals = dict.fromkeys(documents.SPLITS, Counts())
        for key, block in order(blocks.items()):
            for (split, counts), made in make((key, order(block))):
                totals[split] += Counts(*counts)
                for shard, value in made:
                    parts[shard].append(value)
        for _ in range(2):
            for key, values in order(parts.items()):
                write((key, order(values)))
        files = {name: (path / name).read_bytes() for name in os.listdir(path) if name != "work"}
        return files, totals

    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_in_any_order_the_shards_are_those_of_prepare(self, name, seed, request):
        case = request.getfixturevalue(name)
        rng = random.Random(seed)
        files, totals = self.run(
            case, f"steps{seed}", lambda values: rng.sample(list(values), len(values))
        )
        shards = {name: value for name, value in case.expected.items() if "tfrecord" in name}
        assert files == shards
        manifest = json.loads(case.expected["manifest.json"])
        for split in documents.SPLITS:
            assert Counts(**manifest[split]["counts"]) == totals[split]

    def test_records_with_equal_keys_stand_in_the_order_of_prepare(
        self, pairs, monkeypatch, tmp_path_factory, vocabulary
    ):
        # Keys of four values only, in prepare and here.
        keys = ExampleMaker._keys

        def few(self, purpose, *arguments):
            found = keys(self, purpose, *arguments)
            return found >> 62 << 62 if purpose == documents.ORDER_KEY else found

        monkeypatch.setattr(ExampleMaker, "_keys", few)
        folder = tmp_path_factory.mktemp("ties")
        texts = {os.path.basename(p): open(p, encoding="utf-8").read() for p in pairs.input}
        case = Case(folder, vocabulary, texts, block_documents=4, num_shards=2, validation_rate=0.0)
        rng = random.Random(0)
        files, _ = self.run(case, "ties", lambda values: rng.sample(list(values), len(values)))
        assert files == {k: v for k, v in case.expected.items() if "tfrecord" in k}

    def test_two_attempts_at_a_shard_at_once_do_not_collide(self, pairs, monkeypatch, tmp_path):
        (tmp_path / "work").mkdir()
        write = beam_steps.WriteShard(
            str(tmp_path), str(tmp_path / "work"), {TRAIN: 1}, DataConfig()
        )
        element = ((TRAIN, 0), [(beam_steps.NO_ORIGIN, spill.EMPTY_PART)])
        write_shard = beam_steps.write_shard
        attempts = []

        def write_twice(*arguments):
            shard = write_shard(*arguments)
            attempts.append(arguments[0])
            if len(attempts) == 1:  # The other begins and ends before the first goes on.
                write(element)
            return shard

        monkeypatch.setattr(beam_steps, "write_shard", write_twice)
        write(element)
        assert len(set(attempts)) == 2
        assert (tmp_path / "train-00000-of-00001.tfrecord").exists()

    @pytest.mark.parametrize("counted", [3, 5])
    def test_a_file_that_shrank_or_grew_is_refused(self, tmp_path, counted):
        (tmp_path / "a.txt").write_text("a wall\n\na tree\n\nthe garden\n\na robin\n")
        (corpus,) = find_corpora(str(tmp_path / "a.txt"))
        read = beam_steps.ReadDocuments(SMALL, ({TRAIN: counted, VALIDATION: 0},))
        assert len(list(read(beam_steps.FilePart(corpus, 0, 4, (0, 0))))) == 4
        with pytest.raises(InputError, match="a.txt changed while it was read"):
            list(read(beam_steps.FilePart(corpus, 0, counted, (0, 0))))

    def test_a_set_of_tensorflow_datasets_is_one_element(self, monkeypatch):
        texts = [f"Page {number} is here." for number in range(30)]
        monkeypatch.setattr(corpora, "_read_data_set", lambda corpus, text_field: iter(texts))
        (corpus,) = find_corpora(None, ["pages/en"])
        config = DataConfig(validation_rate=0.1)
        plan = plan_corpora([corpus], config)
        (part,) = beam_steps.file_parts(plan)
        read = beam_steps.ReadDocuments(config, (plan.counts[0].documents,))
        expected = {
            (block.split, 0, block.number): list(enumerate(block.documents, block.first_document))
            for _, blocks in read_units(plan)
            for block in blocks
        }
        found = {}
        for key, document in read(part):
            found.setdefault(key, []).append(document)
        assert found == expected

    def test_a_block_that_lost_a_document_is_an_error(self, pairs):
        found = find_corpora(pairs.input)
        plan = plan_corpora(found, pairs.config)
        sizes = (dict(plan.counts[0].documents),)
        sha256 = Vocabulary.load(pairs.vocab).sha256
        make = beam_steps.MakeExamples(
            pairs.config, sizes, plan.num_shards, (1.0,), pairs.vocab, sha256
        )
        block = [(number, ["a wall"]) for number in range(4)]
        assert list(make(((TRAIN, 0, 0), block)))
        for wrong in (block[:3], block[1:], [*block, block[0]]):
            with pytest.raises(RuntimeError, match="lost or twice"):
                list(make(((TRAIN, 0, 0), wrong)))

    def test_a_vocabulary_that_changed_is_refused(self, pairs, vocabulary, tmp_path):
        pieces = list(vocabulary.pieces)
        Vocabulary([*pieces[:-2], pieces[-1], pieces[-2]]).save(str(tmp_path / "vocab.txt"))
        make = beam_steps.MakeExamples(
            SMALL,
            ({TRAIN: 2},),
            {TRAIN: 1},
            (1.0,),
            str(tmp_path / "vocab.txt"),
            vocabulary.sha256,
        )
        with pytest.raises(InputError, match="vocab.txt changed while the records were made"):
            list(make(((TRAIN, 0, 0), [(0, ["a wall"]), (1, ["a tree"])])))


class TestHoldOut:
    @pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.3, 0.9])
    def test_splits_from_any_document_on_are_those_from_the_first(self, rate):
        rule = HoldOut(rate, 3, 1)
        splits = list(itertools.islice(rule.splits(), 320))
        for first in (0, 1, 2, 7, 99, 100, 101, 250):
            assert list(itertools.islice(rule.splits(first), 70)) == splits[first : first + 70]
            sizes = rule.split_sizes(first)
            assert sizes == {name: splits[:first].count(name) for name in (TRAIN, VALIDATION)}


@needs_beam
class TestErrors:
    @pytest.fixture
    def call(self, tmp_path, vocabulary):
        vocabulary.save(str(tmp_path / "pieces.txt"))
        (tmp_path / "a.txt").write_text("a wall\n\na tree\n\nthe garden\n\na robin\n")

        def call(**arguments):
            return prepare_with_beam(
                **{
                    "input": f"{tmp_path}/a.txt",
                    "output": f"{tmp_path}/out",
                    "vocab": f"{tmp_path}/pieces.txt",
                    "config": SMALL,
                    "progress": False,
                    **arguments,
                }
            )

        return call

    def test_records_are_replaced_only_with_overwrite(self, call, tmp_path):
        call(config=SMALL)
        stale = tmp_path / "out" / "train-00007-of-00009.tfrecord"
        stale.write_bytes(b"old")
        before = (tmp_path / "out" / "manifest.json").read_bytes()
        with pytest.raises(InputError, match="already holds records .*--overwrite"):
            call()
        assert (tmp_path / "out" / "manifest.json").read_bytes() == before and stale.exists()
        call(overwrite=True)
        assert (tmp_path / "out" / "manifest.json").read_bytes() == before
        assert sorted(os.listdir(tmp_path / "out")) == [
            "manifest.json",
            "train-00000-of-00001.tfrecord",
            "vocab.txt",
        ]

    def test_a_preparation_that_did_not_finish_is_in_the_way(self, call, tmp_path):
        (tmp_path / "out" / WORK_FOLDER).mkdir(parents=True)
        with pytest.raises(InputError, match="did not finish.*--overwrite"):
            call()
        assert call(overwrite=True).num_examples
        assert not (tmp_path / "out" / WORK_FOLDER).exists()

    def test_text_that_changed_is_told_in_one_sentence_without_a_manifest(
        self, call, tmp_path, monkeypatch
    ):
        plan = beam_module.plan_corpora

        def plan_and_change(*arguments):
            made = plan(*arguments)
            with open(tmp_path / "a.txt", "a") as file:
                file.write("\na rose\n")
            return made

        monkeypatch.setattr(beam_module, "plan_corpora", plan_and_change)
        with pytest.raises(InputError, match="changed while it was read.*writes to it.$"):
            call()
        assert not (tmp_path / "out" / "manifest.json").exists()

    def test_text_without_a_token_leaves_nothing(self, call, tmp_path):
        (tmp_path / "a.txt").write_text("\x01\n\n\x02\n\n\x03\n")
        with pytest.raises(InputError, match="No training example came out of the 3 documents"):
            call()
        assert sorted(os.listdir(tmp_path / "out")) == ["vocab.txt"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--direct_num_worker=2"],
                "no option '--direct_num_worker'; the nearest is --direct_",
            ),
            (["stray"], "no option 'stray'"),
            (["--direct_num_workers=x"], "--direct_num_workers: invalid int value: 'x'"),
            (["--runner=SparkyRunner"], "cannot use the runner 'SparkyRunner'"),
            (["--runner=no.such.Runner"], "cannot use the runner 'no.such.Runner'"),
        ],
    )
    def test_a_bad_option_is_told_before_anything_is_written(
        self, call, tmp_path, options, message
    ):
        with pytest.raises(InputError, match=message):
            call(options=options)
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(
        importlib.util.find_spec("apitools") is not None, reason="apache-beam[gcp] is installed"
    )
    def test_dataflow_without_its_packages_is_told(self, call):
        with pytest.raises(InputError, match=r'pip install "apache-beam\[gcp\]"'):
            call(options=["--runner=DataflowRunner"])

    def test_other_runners_take_options_that_only_their_server_knows(self, monkeypatch):
        _, runner = beam_module._parse_options(["--runner=FlinkRunner", "--only_there=3"])
        assert runner == "FlinkRunner"

    def test_local_paths_are_refused_where_workers_do_not_see_them(self, call, monkeypatch):
        parsed = lambda options: (None, "DataflowRunner")  # noqa: E731
        monkeypatch.setattr(beam_module, "_parse_options", parsed)
        with pytest.raises(InputError, match="do not see '.*a.txt'; give gs:// paths"):
            call()
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
        with pytest.raises(InputError, match="gs:// folder that holds it by --tfds_folder"):
            call(input=None, tfds=["pages/en"], output="gs://bucket/out")


class TestWorkersErrors:
    @pytest.mark.parametrize(
        "text",
        [
            "keras_bert_tpu.dataclass_yaml.InputError: Line 3 of 'x' is not JSON; fix it. [while "
            "running 'ReadDocuments']\n",
            "Traceback:\\n  raise InputError(\\nkeras_bert_tpu.InputError: other\\nagain\\n"
            "InputError: Line 3 of 'x' is not JSON; fix it.\\n\\nMore",
        ],
    )
    def test_the_sentence_is_found_in_the_runners_text(self, text):
        told = beam_module._input_error(RuntimeError(text))
        assert str(told) == "Line 3 of 'x' is not JSON; fix it."

    def test_a_missing_package_is_told(self):
        error = RuntimeError("ModuleNotFoundError: No module named 'keras_bert_tpu'")
        assert "--extra_package" in str(beam_module._input_error(error))

    def test_any_other_error_is_left_as_it_is(self):
        assert beam_module._input_error(ValueError("no space left on device")) is None


def test_without_apache_beam_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    for name in [name for name in sys.modules if name.startswith("apache_beam.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r'pip install "keras_bert_tpu\[beam\]"'):
        prepare_with_beam("x.txt", str(tmp_path / "out"), "vocab.txt")
    assert not (tmp_path / "out").exists()
