"""What golden checkpoints of all frameworks share: sizes, pieces, a batch and random weights."""

import string

import numpy as np

# Layers, width, heads, width between: large enough that no two axes have the same size by chance,
# but for those of a layer's products, which are square in every BERT.
LAYERS, HIDDEN, HEADS, INNER, POSITIONS, SEGMENTS = 2, 32, 4, 48, 24, 2
WORDS = ["the", "garden", "was", "full", "of", "roses", "and", "birds", "she", "he", "they", "saw"]
WORDS += ["##ing", "##s", "##ed", "a", "in", "to", "it", "said", "not", "cafe", "open", "gate"]
PIECES = list(
    dict.fromkeys(
        [
            *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"],
            *[*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)],
            *[*".,;!?'\"-", *string.digits, *WORDS],
        ]
    )
)
TEXTS = ["The garden was full of roses, and she saw birds!", "CAFÉ café - it opened in 1911."]


def build_inputs() -> dict[str, np.ndarray]:
    """A batch under our names: int32 [3, 16], with padding and two segments; positions [3, 2]."""
    random = np.random.default_rng(1)
    ids = random.integers(6, len(PIECES), (3, 16)).astype("int32")
    mask = np.ones((3, 16), "int32")
    for row, length in enumerate((16, 11, 5)):
        mask[row, length:] = 0
    segments = np.tile((np.arange(16) >= 4).astype("int32"), (3, 1)) * mask
    ids[:, 0] = PIECES.index("[CLS]")
    return {
        "token_ids": ids * mask,
        "segment_ids": segments,
        "padding_mask": mask,
        "mask_positions": np.array([[1, 9], [3, 10], [1, 4]], "int32"),
    }


def draw(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """A wide random weight, so that no part of a model can be wrong unseen; scales are about 1."""
    noise = random.standard_normal(shape).astype("float32")
    if name.endswith(("LayerNorm.weight", "gamma")):
        return 1.0 + 0.2 * noise
    return 0.2 * noise
