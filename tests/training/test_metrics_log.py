import json

from keras_bert_tpu.training.metrics_log import MetricsLog, parse_records
from keras_bert_tpu.training.progress import describe

VALUES = {"loss": 2.5, "mlm_accuracy": 0.25, "nsp_loss": 0.7, "nsp_accuracy": 0.5}


def test_record_that_a_crash_cut_short_is_left_out():
    content = b'{"step": 1}\n{"step": 2}\n{"st'
    assert parse_records(content) == [{"step": 1}, {"step": 2}]


def test_resumed_log_drops_the_steps_that_will_be_made_again(tmp_path):
    log = MetricsLog(str(tmp_path), resume_step=0)
    for step in (5, 10, 15):
        log.write("train", step, VALUES)
    log.close()
    log = MetricsLog(str(tmp_path), resume_step=10)
    log.write("validation", 15, VALUES)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"]) for line in lines] == [
        ("train", 5),
        ("train", 10),
        ("validation", 15),
    ]
    assert lines[-1]["loss"] == 2.5


def test_new_log_removes_what_a_run_without_checkpoint_left(tmp_path):
    MetricsLog(str(tmp_path), resume_step=0).write("train", 5, VALUES)
    MetricsLog(str(tmp_path), resume_step=0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_bar_shows_loss_and_both_accuracies():
    assert describe(VALUES) == "loss 2.500, mlm 25.0%, nsp 50.0%"


def test_bar_is_silent_on_next_sentences_when_none_are_trained():
    values = {**VALUES, "nsp_loss": 0.0, "nsp_accuracy": 0.0}
    assert describe(values) == "loss 2.500, mlm 25.0%"
