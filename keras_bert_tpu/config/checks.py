"""What all configs check of their values."""

from typing import Any

from keras_bert_tpu.dataclass_yaml import InputError


def require_positive(config: Any, *names: str) -> None:
    """Raises InputError if a number is not greater than 0."""
    for name in names:
        if getattr(config, name) <= 0:
            raise InputError(f"{name} must be greater than 0. Received: {getattr(config, name)}.")


def require_not_negative(config: Any, *names: str) -> None:
    """Raises InputError if a number is less than 0."""
    for name in names:
        if getattr(config, name) < 0:
            raise InputError(f"{name} must not be negative. Received: {getattr(config, name)}.")


def require_rate(config: Any, *names: str) -> None:
    """Raises InputError if a number is not at least 0 and less than 1."""
    for name in names:
        if not 0.0 <= getattr(config, name) < 1.0:
            raise InputError(
                f"{name} must be at least 0 and less than 1. Received: {getattr(config, name)}."
            )


def require_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raises InputError if a value is not one of the choices."""
    if getattr(config, name) not in choices:
        raise InputError(
            f"{name} must be one of {', '.join(choices)}. Received: {getattr(config, name)!r}."
        )


def require_seed(config: Any) -> None:
    """Raises InputError if the seed is not from 0 to 2**31 - 1."""
    if not 0 <= config.seed < 2**31:
        raise InputError(f"seed must be from 0 to 2**31 - 1. Received: {config.seed}.")
