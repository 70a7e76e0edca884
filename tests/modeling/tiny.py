"""A tiny config of every registered component. A test fails for a name that has none."""

ENCODERS = {
    "croco": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 16,
    },
    "timm": {
        "model_name": "vit_tiny_patch16_224",
        "patch_size": 16,
        "model_options": {"embed_dim": 32, "depth": 2, "num_heads": 4},
    },
}
_DECODER = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3}
DECODERS = {"single": _DECODER, "pair": _DECODER, "shared_pair": _DECODER}
_DPT = {"level_channels": (8, 8, 8, 8), "fusion_channels": 16}
HEADS = {
    "pixels": {},
    "linear": {},
    "dpt": _DPT,
    "matching": {
        "points_config": {"model_type": "croco3d_dpt_head", **_DPT},
        "descriptor_size": 6,
    },
}
