"""The base of all our configurations."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from transformers import PreTrainedConfig


class Croco3DConfig(PreTrainedConfig):
    """A configuration that refuses keys it does not know.

    transformers keeps unknown keys silently, so a misspelled option would simply not act.
    """

    def validate_architecture(self) -> None:
        """Checks the values; runs at construction and at every save.

        Raises:
            ValueError: if a key is unknown or a value is out of range.
        """
        known = {field.name for field in fields(self)} | set(type(self).sub_configs_defaults)
        for key in vars(self):
            if key not in known and not key.startswith("_") and not hasattr(type(self), key):
                near = get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{type(self).__name__} has no option {key!r}.{hint}")


def check_divisible(config: Croco3DConfig, value: int, by: int, what: str, why: str) -> None:
    """Raises a `ValueError` naming both numbers unless `value` is a positive multiple of `by`."""
    if by < 1 or value < 1 or value % by:
        raise ValueError(
            f"{type(config).__name__}: {what} is {value}, which is no positive multiple of {by} "
            f"({why})."
        )


def check_choice(config: Croco3DConfig, option: str, choices: tuple[str | None, ...]) -> None:
    """Raises a `ValueError` naming the choices unless the option's value is one of them."""
    value = getattr(config, option)
    if value not in choices:
        raise ValueError(
            f"{type(config).__name__}: {option}={value!r}; choose one of "
            f"{', '.join(map(repr, choices))}."
        )


def check_attention(config: Any) -> None:
    """Raises a `ValueError` unless heads divide the channels as attention and positions need it."""
    check_choice(config, "absolute_positions", (None, "sincos", "learned"))
    heads = config.num_attention_heads
    check_divisible(config, config.hidden_size, heads, "hidden_size", "num_attention_heads")
    if config.rotary_base is not None:
        dim = config.hidden_size // heads
        check_divisible(config, dim, 4, "hidden_size / num_attention_heads", "rotary positions")
    if config.absolute_positions == "sincos":
        check_divisible(config, config.hidden_size, 4, "hidden_size", "sine-cosine positions")
