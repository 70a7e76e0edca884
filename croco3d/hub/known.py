"""Published weights: where they are, how large, under which licence."""

from dataclasses import dataclass
from pathlib import PurePath

NON_COMMERCIAL = "cc-by-nc-sa-4.0"


@dataclass(frozen=True)
class KnownWeights:
    """A published checkpoint.

    Attributes:
        name: repository on the Hub, or file name of a `.pth`.
        model: what it holds.
        license: licence of the weights, as the Hub names it.
        note: what distinguishes it.
    """

    name: str
    model: str
    license: str
    note: str


KNOWN = (
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear",
        "Dust3rForStereo",
        NON_COMMERCIAL,
        "224x224, linear heads",
    ),
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_linear",
        "Dust3rForStereo",
        NON_COMMERCIAL,
        "512 in five aspect ratios, linear heads",
    ),
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt",
        "Dust3rForStereo",
        NON_COMMERCIAL,
        "512 in five aspect ratios, DPT heads; the usual choice",
    ),
    KnownWeights(
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        "Mast3rForStereo",
        NON_COMMERCIAL,
        "512, DPT heads and descriptors, metric scale",
    ),
    KnownWeights("CroCo.pth", "CrocoForPreTraining", NON_COMMERCIAL, "v1, ViT-B, small decoder"),
    KnownWeights(
        "CroCo_V2_ViTBase_SmallDecoder.pth",
        "CrocoForPreTraining",
        NON_COMMERCIAL,
        "v2, ViT-B, small decoder",
    ),
    KnownWeights(
        "CroCo_V2_ViTBase_BaseDecoder.pth",
        "CrocoForPreTraining",
        NON_COMMERCIAL,
        "v2, ViT-B, base decoder",
    ),
    KnownWeights(
        "CroCo_V2_ViTLarge_BaseDecoder.pth",
        "CrocoForPreTraining",
        NON_COMMERCIAL,
        "v2, ViT-L, base decoder; what DUSt3R starts from",
    ),
)


def find_known(source: str) -> KnownWeights | None:
    """Returns the published checkpoint that a repository name, path or file name stands for."""
    last = PurePath(source).name.removesuffix(".pth").casefold()
    for weights in KNOWN:
        if PurePath(weights.name).name.removesuffix(".pth").casefold() == last:
            return weights
    return None


def is_restrictive(license_name: str | None) -> bool:
    """Tells whether a licence forbids commercial use or is not free."""
    if license_name is None:
        return False
    words = license_name.casefold().replace("_", "-").split("-")
    return "nc" in words or "noncommercial" in words or license_name == "other"
