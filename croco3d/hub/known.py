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
        note: what distinguishes it.
        parameters: how many; a test counts them in the published architecture.
        license: licence of the weights, as the Hub names it.
        revision: of the repository; its authors tag none, so it is the branch. `None` for a file.
    """

    name: str
    model: str
    note: str
    parameters: int
    license: str = NON_COMMERCIAL
    revision: str | None = "main"

    @property
    def size(self) -> int:
        """Bytes of the weights in float32, as published; a file may hold more beside them."""
        return 4 * self.parameters


KNOWN = (
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_224_linear",
        "Dust3rForStereo",
        "224x224, linear heads",
        532_342_016,
    ),
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_linear",
        "Dust3rForStereo",
        "512 in five aspect ratios, linear heads",
        532_342_016,
    ),
    KnownWeights(
        "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt",
        "Dust3rForStereo",
        "512 in five aspect ratios, DPT heads; the usual choice",
        571_170_440,
    ),
    KnownWeights(
        "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        "Mast3rForStereo",
        "512, DPT heads and descriptors, metric scale",
        688_638_088,
    ),
    KnownWeights(
        "CroCo.pth", "CrocoForPreTraining", "v1, ViT-B, small decoder", 120_076_288, revision=None
    ),
    KnownWeights(
        "CroCo_V2_ViTBase_SmallDecoder.pth",
        "CrocoForPreTraining",
        "v2, ViT-B, small decoder",
        120_076_288,
        revision=None,
    ),
    KnownWeights(
        "CroCo_V2_ViTBase_BaseDecoder.pth",
        "CrocoForPreTraining",
        "v2, ViT-B, base decoder",
        200_269_824,
        revision=None,
    ),
    KnownWeights(
        "CroCo_V2_ViTLarge_BaseDecoder.pth",
        "CrocoForPreTraining",
        "v2, ViT-L, base decoder; what DUSt3R starts from",
        417_918_720,
        revision=None,
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
