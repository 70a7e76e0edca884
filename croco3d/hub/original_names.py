"""Parameter names of the published checkpoints and ours, both ways.

The tables are literal and one to one, so that each reads in either direction.
"""

from torch import Tensor

_LAYERS = (
    (".attn.", ".attention."),
    (".cross_attn.projq.", ".cross_attention.query."),
    (".cross_attn.projk.", ".cross_attention.key."),
    (".cross_attn.projv.", ".cross_attention.value."),
    (".cross_attn.proj.", ".cross_attention.proj."),
    (".norm_y.", ".norm_memory."),
)
_TRUNK = (
    ("patch_embed.", "encoder.patch_embed."),
    ("enc_blocks.", "encoder.blocks."),
    ("enc_norm.", "encoder.norm."),
    ("decoder_embed.", "decoder.embed."),
    ("dec_norm.", "decoder.norm."),
    ("mask_token", "decoder.mask_token"),
)
_SINGLE = (*_TRUNK, ("dec_blocks.", "decoder.blocks."), ("prediction_head.", "head.proj."))
_PAIR = (
    *_TRUNK,
    ("dec_blocks.", "decoder.blocks1."),
    ("dec_blocks2.", "decoder.blocks2."),
    ("downstream_head1.", "head1."),
    ("downstream_head2.", "head2."),
)
_DPT = (
    (".dpt.act_postprocess.", ".reassemble."),
    (".dpt.scratch.refinenet4.resConfUnit1.", ".unused_unit."),
    *((f".dpt.scratch.layer{level}_rn.", f".project.{level - 1}.") for level in range(1, 5)),
    *(
        (f".dpt.scratch.refinenet{level}.{theirs}.", f".fuse.{level - 1}.{ours}.")
        for level in range(1, 5)
        for theirs, ours in (
            ("resConfUnit1", "skip_unit"),
            ("resConfUnit2", "unit"),
            ("out_conv", "out"),
        )
    ),
    (".dpt.head.0.", ".predict_fine."),
    (".dpt.head.2.", ".predict_full."),
    (".dpt.head.4.", ".predict_raw."),
)
_MATCHING = (
    *((theirs, f".points{ours}") for theirs, ours in _DPT),
    (".head_local_features.", ".descriptor_mlp."),
)
_INNER = {"linear": _LAYERS, "dpt": (*_LAYERS, *_DPT), "matching": (*_LAYERS, *_MATCHING)}

# CroCo v1 stores its fixed positions; ours are computed.
_FIXED = ("enc_pos_embed", "dec_pos_embed")


def from_original(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Renames a published checkpoint's weights to ours.

    Args:
        weights: by their published names.
        head: "pixels" (CroCo), "linear", "dpt" or "matching".

    Returns:
        the same tensors by our names; duplicates and fixed positions are left out.
    """
    renamed = {}
    for name, tensor in weights.items():
        name = name.removeprefix("module.")
        if name in _FIXED:
            continue
        # The same weights under a second name.
        for level in range(4):
            name = name.replace(f".scratch.layer_rn.{level}.", f".scratch.layer{level + 1}_rn.")
        renamed[_rename(name, head, reverse=False)] = tensor
    return renamed


def to_original(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Renames our weights to their published names: the inverse of `from_original`."""
    return {_rename(name, head, reverse=True): tensor for name, tensor in weights.items()}


def _rename(name: str, head: str, reverse: bool) -> str:
    outer = _SINGLE if head == "pixels" else _PAIR
    for source, target in (pair[::-1] if reverse else pair for pair in outer):
        if name.startswith(source):
            name = target + name[len(source) :]
            break
    for source, target in (pair[::-1] if reverse else pair for pair in _INNER.get(head, _LAYERS)):
        name = name.replace(source, target)
    return name
