"""The model of this package that the flags of protocol.py describe."""

import argparse

import protocol

from keras_bert_tpu.config import EncoderConfig


def encoder_of(arguments: argparse.Namespace) -> EncoderConfig:
    """Returns the encoder that a program is to have."""
    return EncoderConfig(
        vocab_size=arguments.vocabulary,
        num_layers=arguments.layers,
        hidden_size=arguments.hidden,
        num_heads=arguments.heads,
        intermediate_size=4 * arguments.hidden,
        hidden_dropout=protocol.DROPOUT,
        attention_dropout=protocol.DROPOUT,
        max_positions=protocol.MAX_POSITIONS,
    )
