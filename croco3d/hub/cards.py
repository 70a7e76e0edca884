"""Model cards: what a model is, how to use it, how it was trained, under which licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import ModelCardData

from ..modeling.components import Croco3DModel
from .auto import MODELS
from .known import is_restrictive

LIBRARY = "croco3d"
_PAPERS = {
    "croco": "[CroCo](https://arxiv.org/abs/2210.10716) ([v2](https://arxiv.org/abs/2211.10408))",
    "dust3r": "[DUSt3R](https://arxiv.org/abs/2312.14132)",
    "mast3r": "[MASt3R](https://arxiv.org/abs/2406.09756)",
}
_WHAT = {
    "croco": "It fills in the hidden parts of one photograph from a second one of the same scene; "
    "other models start from its weights.",
    "dust3r": "Two photographs in, a 3-D point and a confidence for every pixel out, both in the "
    "first camera's frame; cameras and scenes of many photographs follow.",
    "mast3r": "Two photographs in, for every pixel a 3-D point, a confidence, and a descriptor to "
    "match it by; cameras and scenes of many photographs follow.",
}
_TAGS = {
    "croco": ["croco", "self-supervised", "cross-view-completion", "image-feature-extraction"],
    "dust3r": ["image-to-3d", "dust3r", "pointmap", "stereo", "3d-reconstruction"],
    "mast3r": ["image-to-3d", "mast3r", "dust3r", "pointmap", "matching", "3d-reconstruction"],
}
_STEREO_USE = """from croco3d import AutoCroco3D, reconstruct

model = AutoCroco3D.from_pretrained({source})
scene = reconstruct(["left.jpg", "right.jpg"], model=model)
print(scene.cameras[1].cam2world)
scene.save("scene.glb")"""
_CROCO_USE = """from croco3d import CrocoForPreTraining, Dust3rForStereo

model = CrocoForPreTraining.from_pretrained({source})
stereo = Dust3rForStereo.from_croco(model)  # heads are new: train them"""
_COMPONENT_USE = """import croco3d
from transformers import AutoModel

component = AutoModel.from_pretrained({source})"""


@dataclass(frozen=True)
class TrainingFacts:
    """What a card says of a training run.

    Attributes:
        data: names of the training data.
        recipe: steps, learning rate and the like, by name.
        figures: validation metrics, by name.
    """

    data: list[str] = field(default_factory=list)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def model_card(
    model: Croco3DModel,
    repo_id: str,
    facts: TrainingFacts | None = None,
    tags: list[str] | None = None,
    subfolder: str = "",
) -> str:
    """Writes the card of a whole model or a component.

    Args:
        model: what the card is of.
        repo_id: where it will be.
        facts: of its training; the card says so where they are unknown.
        tags: beside the usual ones.
        subfolder: of the repository, where the model lies.
    """
    kind = model.config.model_type.removeprefix(f"{LIBRARY}_")
    source = _source(repo_id, subfolder)
    if type(model.config) not in MODELS:
        use, what, known = _COMPONENT_USE, _component(model, kind), ["component", kind]
    else:
        use = _CROCO_USE if kind == "croco" else _STEREO_USE
        what = f"A {type(model).__name__} model ({_PAPERS[kind]}). {_WHAT[kind]}"
        known = _TAGS[kind]
    license_name = getattr(model.config, "license", None)
    sections = [
        _header(license_name, [*known, *(tags or [])]),
        f"# {repo_id.split('/')[-1]}",
        _restriction(license_name),
        what,
        f"## Use\n\n`pip install croco3d`\n\n```python\n{use.format(source=source)}\n```",
        _contents(model),
        _training(facts),
        _license(license_name),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def adapter_card(
    model: Any,
    repo_id: str,
    facts: TrainingFacts | None = None,
    tags: list[str] | None = None,
    subfolder: str = "",
) -> str:
    """Writes the card of a LoRA adapter; see `model_card`."""
    base = model.get_base_model()
    adapter = model.active_peft_config
    under = adapter.base_model_name_or_path or "an unnamed model"
    license_name = getattr(base.config, "license", None)
    kind = base.config.model_type.removeprefix(f"{LIBRARY}_")
    trained = sum(p.numel() for key, p in model.named_parameters() if "lora_" in key)
    use = _STEREO_USE if kind != "croco" else _CROCO_USE
    sections = [
        _header(license_name, ["lora", "peft", *_TAGS.get(kind, []), *(tags or [])]),
        f"# {repo_id.split('/')[-1]}",
        _restriction(license_name),
        f"A LoRA adapter (rank {adapter.r}, {trained / 1e6:.2f} M parameters) of `{under}`, a "
        f"{type(base).__name__} model. Loading it loads that model too.",
        "## Use\n\n`pip install croco3d[train]`\n\n```python\n"
        f"{use.format(source=_source(repo_id, subfolder))}\n```",
        _training(facts),
        _license(license_name),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _source(repo_id: str, subfolder: str) -> str:
    return f'"{repo_id}", subfolder="{subfolder}"' if subfolder else f'"{repo_id}"'


def _header(license_name: str | None, tags: list[str]) -> str:
    data = ModelCardData(
        library_name=LIBRARY,
        license=license_name,
        pipeline_tag="image-to-3d" if "image-to-3d" in tags else None,
        tags=list(dict.fromkeys([LIBRARY, *tags])),
    )
    return f"---\n{data.to_yaml()}\n---"


def _restriction(license_name: str | None) -> str:
    if not is_restrictive(license_name):
        return ""
    return f"> **Not for commercial use.** The weights are licensed {license_name}."


def _component(model: Croco3DModel, kind: str) -> str:
    name = kind.replace("_", " ")
    return (
        f"The {name} ({type(model).__name__}) of a cross-view transformer, as a part to build with."
    )


def _contents(model: Croco3DModel) -> str:
    config: Any = model.config
    lines = ["## Contents", "", "| part | class | parameters |", "|---|---|---|"]
    for name, child in model.named_children():
        count = sum(parameter.numel() for parameter in child.parameters())
        lines.append(f"| {name} | {type(child).__name__} | {count / 1e6:.2f} M |")
    total = sum(parameter.numel() for parameter in model.parameters())
    lines.append(f"| in all | {type(model).__name__} | {total / 1e6:.2f} M |")
    size = getattr(config, "image_size", None)
    if size is not None:
        side = f"{size}" if isinstance(size, int) else f"{size[0]}x{size[1]}"
        lines += ["", f"Trained on images of {side} pixels."]
    return "\n".join(lines)


def _training(facts: TrainingFacts | None) -> str:
    if facts is None:
        return "## Training\n\nNot described by whoever uploaded these weights."
    lines = ["## Training", ""]
    if facts.data:
        lines += [f"Data: {', '.join(facts.data)}.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.recipe.items()]
    if facts.figures:
        lines += ["", "## Figures", "", "On the run's validation pairs:", ""]
        lines += ["| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in facts.figures.items()]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _license(license_name: str | None) -> str:
    stated = license_name or "not stated by whoever uploaded them"
    return (
        f"## Licence\n\nWeights: {stated}. The code, "
        "[croco3d](https://github.com/croco3d/croco3d), is Apache-2.0."
    )
