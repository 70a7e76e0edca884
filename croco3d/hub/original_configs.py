"""Configurations of the published checkpoints and ours, both ways."""

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

from ..modeling.croco import CrocoConfig
from ..modeling.dust3r import Dust3rConfig
from ..modeling.heads import PointHeadConfig
from ..modeling.mast3r import Mast3rConfig

# What the published constructors assume where an argument is left out.
_TRUNK_DEFAULTS: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 16,
    "enc_embed_dim": 768,
    "enc_depth": 12,
    "enc_num_heads": 12,
    "dec_embed_dim": 512,
    "dec_depth": 8,
    "dec_num_heads": 16,
    "mlp_ratio": 4,
    "pos_embed": "cosine",
}
_CROCO_DEFAULTS = {**_TRUNK_DEFAULTS, "mask_ratio": 0.9, "norm_im2_in_dec": True}
_STEREO_DEFAULTS = {
    **_TRUNK_DEFAULTS,
    "head_type": "linear",
    "output_mode": "pts3d",
    "depth_mode": ("exp", -math.inf, math.inf),
    "conf_mode": ("exp", 1, math.inf),
    "desc_conf_mode": ("exp", 0, math.inf),
    "two_confs": False,
    "landscape_only": True,
    "freeze": "none",
    "patch_embed_cls": "PatchEmbedDust3R",
}
_IGNORED = {"freeze", "patch_embed_cls", "norm_layer", "norm_im2_in_dec", "mask_ratio"}
_HEAD_NAMES = {"linear": "linear", "dpt": "dpt", "catmlp+dpt": "matching"}
_CONSTRUCTORS = ("AsymmetricCroCo3DStereo", "AsymmetricMASt3R", "CroCoNet")


def is_original(config: Mapping[str, Any]) -> bool:
    """Tells whether a config.json is a published one: no model type, but an encoder's width."""
    return "model_type" not in config and "enc_embed_dim" in config


def parse_constructor(text: str) -> dict[str, Any]:
    """Reads the keyword arguments of a constructor call kept as text, without running anything.

    Args:
        text: such as `AsymmetricCroCo3DStereo(enc_depth=24, depth_mode=('exp', -inf, inf))`.

    Raises:
        ValueError: if the text is not a call of a known constructor with literal arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        if call.func.id not in _CONSTRUCTORS or call.args:
            raise ValueError(f"not a call of {' or '.join(_CONSTRUCTORS)} with keywords only")
        return {str(item.arg): _literal(item.value) for item in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"Cannot read the model's constructor {text[:80]!r}: {error}.") from error


class _Infinities(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:  # noqa: N802  (ast's naming)
        return ast.Constant(math.inf) if node.id == "inf" else node


def _literal(node: ast.AST) -> Any:
    return ast.literal_eval(_Infinities().visit(node))


def stereo_from_original(options: Mapping[str, Any]) -> Dust3rConfig | Mast3rConfig:
    """Translates a published DUSt3R or MASt3R configuration.

    Args:
        options: a config.json of the Hub, or the constructor's keyword arguments.

    Raises:
        ValueError: if it asks for something that is not known here.
    """
    options = {key: _decode_float(value) for key, value in options.items()}
    full = _with_defaults(options, _STEREO_DEFAULTS)
    if full["head_type"] not in _HEAD_NAMES:
        raise ValueError(
            f"Unknown head_type {full['head_type']!r}; known: {', '.join(_HEAD_NAMES)}."
        )
    points: dict[str, Any] = {
        "depth_mode": full["depth_mode"][0],
        "depth_bounds": tuple(full["depth_mode"][1:]),
        "confidence_mode": None,
    }
    if full["conf_mode"] is not None:
        points["confidence_mode"] = full["conf_mode"][0]
        points["confidence_bounds"] = tuple(full["conf_mode"][1:])
    name = _HEAD_NAMES[full["head_type"]]
    head: dict[str, Any] = {"model_type": f"croco3d_{name}_head"}
    if name == "linear":
        head |= points
    elif name == "dpt":
        head |= {"keep_unused_unit": True, **points}
    else:
        head |= _descriptors(full)
        head["points_config"] = {
            "model_type": "croco3d_dpt_head",
            "keep_unused_unit": True,
            **points,
        }
    size = full["img_size"]
    encoder, decoder = _trunk(full)
    return (Mast3rConfig if name == "matching" else Dust3rConfig)(
        encoder_config=encoder,
        decoder_config={
            "model_type": "croco3d_pair_decoder",
            "keep_mask_token": True,
            **decoder,
        },
        head_config=head,
        image_size=size if isinstance(size, int) else tuple(size),
        landscape_only=bool(full["landscape_only"]),
    )


def croco_from_original(options: Mapping[str, Any]) -> CrocoConfig:
    """Translates the `croco_kwargs` of a published CroCo checkpoint (empty: the defaults)."""
    full = _with_defaults(options, _CROCO_DEFAULTS)
    if not full["norm_im2_in_dec"]:
        raise ValueError("norm_im2_in_dec=False is not supported: memories are always normalised.")
    encoder, decoder = _trunk(full)
    size = full["img_size"]
    return CrocoConfig(
        encoder_config=encoder,
        decoder_config={"model_type": "croco3d_single_decoder", **decoder},
        mask_ratio=full["mask_ratio"],
        image_size=size if isinstance(size, int) else tuple(size),
    )


def to_original_config(config: CrocoConfig | Dust3rConfig) -> dict[str, Any]:
    """Translates our configuration to the published form.

    Raises:
        ValueError: if the original code has no such component.
    """
    encoder: Any = config.encoder_config
    decoder: Any = config.decoder_config
    if encoder.model_type != "croco3d_croco_encoder" or encoder.stem != "linear":
        raise ValueError("The original layout knows only the CroCo encoder with a linear stem.")
    if decoder.model_type not in ("croco3d_single_decoder", "croco3d_pair_decoder"):
        raise ValueError(f"The original layout knows no decoder {decoder.model_type!r}.")
    size = config.image_size
    common = {
        "img_size": size if isinstance(config, CrocoConfig) else _sides(size),
        "patch_size": encoder.patch_size,
        "enc_embed_dim": encoder.hidden_size,
        "enc_depth": encoder.num_hidden_layers,
        "enc_num_heads": encoder.num_attention_heads,
        "dec_embed_dim": decoder.hidden_size,
        "dec_depth": decoder.num_hidden_layers,
        "dec_num_heads": decoder.num_attention_heads,
        "mlp_ratio": encoder.mlp_ratio,
        "pos_embed": _position_name(encoder),
    }
    if isinstance(config, CrocoConfig):
        return {**common, "mask_ratio": config.mask_ratio}
    return {**common, **_stereo_options(config)}


def _stereo_options(config: Dust3rConfig) -> dict[str, Any]:
    head: Any = config.head_config
    theirs = {f"croco3d_{ours}_head": name for name, ours in _HEAD_NAMES.items()}
    if head.model_type not in theirs:
        raise ValueError(f"The original layout knows no head {head.model_type!r}.")
    points: PointHeadConfig = getattr(head, "points_config", head)
    confidence = points.confidence_mode
    options = {
        "head_type": theirs[head.model_type],
        "output_mode": "pts3d",
        "depth_mode": [points.depth_mode, *points.depth_bounds],
        "conf_mode": None if confidence is None else [confidence, *points.confidence_bounds],
        "landscape_only": config.landscape_only,
        "patch_embed_cls": "ManyAR_PatchEmbed" if config.landscape_only else "PatchEmbedDust3R",
        "freeze": "none",
    }
    if head.model_type == "croco3d_matching_head":
        options["output_mode"] = f"pts3d+desc{head.descriptor_size}"
        bounds = head.descriptor_confidence_bounds
        options["desc_conf_mode"] = [head.descriptor_confidence_mode, *bounds]
        options["two_confs"] = True
    return options


def _with_defaults(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    known = {*defaults, *_IGNORED}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(
            f"The checkpoint's configuration has unknown options {', '.join(unknown)}."
        )
    return {**defaults, **options}


def _trunk(full: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    base, absolute = _positions(full["pos_embed"])
    size = full["img_size"]
    shared = {
        "mlp_ratio": full["mlp_ratio"],
        "rotary_base": base,
        "absolute_positions": absolute,
        "image_size": size if isinstance(size, int) else tuple(size),
    }
    encoder = {
        "model_type": "croco3d_croco_encoder",
        "hidden_size": full["enc_embed_dim"],
        "num_hidden_layers": full["enc_depth"],
        "num_attention_heads": full["enc_num_heads"],
        "patch_size": full["patch_size"],
        **shared,
    }
    decoder = {
        "hidden_size": full["dec_embed_dim"],
        "num_hidden_layers": full["dec_depth"],
        "num_attention_heads": full["dec_num_heads"],
        **shared,
    }
    return encoder, decoder


def _descriptors(full: Mapping[str, Any]) -> dict[str, Any]:
    match = re.fullmatch(r"pts3d\+desc(\d+)", full["output_mode"])
    if match is None or not full["two_confs"]:
        raise ValueError(
            "A matching head needs output_mode 'pts3d+desc<channels>' and two_confs=True, not "
            f"{full['output_mode']!r} and {full['two_confs']!r}."
        )
    mode, *bounds = full["desc_conf_mode"]
    return {
        "descriptor_size": int(match[1]),
        "descriptor_confidence_mode": mode,
        "descriptor_confidence_bounds": tuple(bounds),
    }


def _positions(name: str) -> tuple[float | None, str | None]:
    if name == "cosine":
        return None, "sincos"
    match = re.fullmatch(r"RoPE(\d+(?:\.\d+)?)", name)
    if match is None:
        raise ValueError(f"Unknown pos_embed {name!r}; known: 'cosine' and 'RoPE<base>'.")
    return float(match[1]), None


def _position_name(encoder: Any) -> str:
    if encoder.absolute_positions == "sincos" and encoder.rotary_base is None:
        return "cosine"
    if encoder.absolute_positions is None and encoder.rotary_base is not None:
        return f"RoPE{encoder.rotary_base:g}"
    raise ValueError(
        "The original layout knows either sine-cosine or rotary positions, not "
        f"absolute_positions={encoder.absolute_positions!r} with "
        f"rotary_base={encoder.rotary_base!r}."
    )


def _sides(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _decode_float(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"__float__"}:
        return float(value["__float__"])
    if isinstance(value, list):
        return [_decode_float(item) for item in value]
    return value
