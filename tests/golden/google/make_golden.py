"""Writes a small checkpoint in Google's first format, and what Google's own code gives for a batch.

The model is that of modeling.py of google-research/bert, given by its path: no part of it is kept
here. It needs TensorFlow 1's layers, which tf-keras 2.21 has, and one function of tf.contrib, which
is made here. Run with tensorflow 2.21.0, tf-keras 2.21.0:

    TF_USE_LEGACY_KERAS=1 python tests/golden/google/make_golden.py PATH/modeling.py

    pretraining/      bert_config.json, bert_model.ckpt.*, vocab.txt; the optimizer's moments of one
                      weight and global_step beside the weights, as in a training
    squad/            the heads of run_squad.py
    outputs.npz       sequence_output, pooled_output, and the scores of the heads, which are plain
                      products and were computed as run_pretraining.py and run_squad.py do it
"""

import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import small_bert  # noqa: E402

v1 = tf.compat.v1
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.2,
    "hidden_size": small_bert.HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": small_bert.INNER,
    "max_position_embeddings": small_bert.POSITIONS,
    "num_attention_heads": small_bert.HEADS,
    "num_hidden_layers": small_bert.LAYERS,
    "type_vocab_size": small_bert.SEGMENTS,
    "vocab_size": len(small_bert.PIECES),
}


def layer_norm(inputs, begin_norm_axis, begin_params_axis, scope=None):
    """What tf.contrib.layers.layer_norm does for these arguments; epsilon 1e-12."""
    assert begin_norm_axis == begin_params_axis == -1
    with v1.variable_scope(scope, default_name="LayerNorm"):
        size = inputs.shape[-1]
        beta = v1.get_variable("beta", [size], initializer=v1.zeros_initializer())
        gamma = v1.get_variable("gamma", [size], initializer=v1.ones_initializer())
    mean, variance = tf.nn.moments(inputs, [-1], keepdims=True)
    return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)


def load_modeling(path: str) -> types.ModuleType:
    """Google's modeling.py, with TensorFlow 1's names."""
    names = types.ModuleType("tensorflow")
    names.__dict__.update({name: getattr(v1, name) for name in dir(v1)})
    names.contrib = types.SimpleNamespace(layers=types.SimpleNamespace(layer_norm=layer_norm))
    real = sys.modules["tensorflow"]
    sys.modules["tensorflow"] = names
    try:
        spec = importlib.util.spec_from_file_location("modeling", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.modules["tensorflow"] = real
    return module


def heads(modeling, model, config, positions):
    """The heads of run_pretraining.py and run_squad.py, with their names."""
    hidden = config.hidden_size
    rows = tf.gather(model.get_sequence_output(), positions, batch_dims=1)
    with v1.variable_scope("cls/predictions"):
        with v1.variable_scope("transform"):
            rows = v1.layers.dense(rows, hidden, modeling.get_activation("gelu"))
            rows = modeling.layer_norm(rows)
        bias = v1.get_variable("output_bias", [config.vocab_size])
        words = tf.matmul(rows, model.get_embedding_table(), transpose_b=True) + bias
    with v1.variable_scope("cls/seq_relationship"):
        weights = v1.get_variable("output_weights", [2, hidden])
        sentences = tf.matmul(model.get_pooled_output(), weights, transpose_b=True)
        sentences += v1.get_variable("output_bias", [2])
    weights = v1.get_variable("cls/squad/output_weights", [2, hidden])
    spans = tf.matmul(model.get_sequence_output(), weights, transpose_b=True)
    spans += v1.get_variable("cls/squad/output_bias", [2])
    return {"mlm_logits": words, "nsp_logits": sentences, "scores": spans}


def main() -> None:
    """Builds the graph, gives each variable random numbers, and writes all."""
    modeling = load_modeling(sys.argv[1])
    config = modeling.BertConfig.from_dict(CONFIG)
    inputs = small_bert.build_inputs()
    with tf.Graph().as_default(), v1.Session() as session:
        model = modeling.BertModel(
            config,
            is_training=False,
            input_ids=tf.constant(inputs["token_ids"]),
            input_mask=tf.constant(inputs["padding_mask"]),
            token_type_ids=tf.constant(inputs["segment_ids"]),
        )
        outputs = heads(modeling, model, config, tf.constant(inputs["mask_positions"]))
        outputs["sequence_output"] = model.get_sequence_output()
        outputs["pooled_output"] = model.get_pooled_output()
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        random = np.random.default_rng(0)
        for name in sorted(variables):
            value = small_bert.draw(name, tuple(variables[name].shape), random)
            variables[name].load(value, session)
        np.savez(HERE / "outputs.npz", **session.run(outputs))
        of_training = {
            "global_step": v1.Variable(7, name="global_step"),
            "bert/pooler/dense/bias/adam_m": v1.Variable(tf.ones(config.hidden_size)),
            "bert/pooler/dense/bias/adam_v": v1.Variable(tf.ones(config.hidden_size)),
        }
        session.run([variable.initializer for variable in of_training.values()])
        squad = {name for name in variables if name.startswith("cls/squad")}
        pretraining = {name for name in variables if name.startswith("cls")} - squad
        for folder, without, more in (
            ("pretraining", squad, of_training),
            ("squad", pretraining, {}),
        ):
            path = HERE / folder
            path.mkdir(exist_ok=True)
            saved = {name: variables[name] for name in variables if name not in without} | more
            v1.train.Saver(saved).save(
                session, str(path / "bert_model.ckpt"), write_meta_graph=False, write_state=False
            )
            (path / "bert_config.json").write_text(json.dumps(CONFIG, indent=2))
            (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in small_bert.PIECES))


if __name__ == "__main__":
    main()
