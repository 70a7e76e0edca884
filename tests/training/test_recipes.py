import inspect
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from croco3d.data import READERS
from croco3d.training import load_config
from croco3d.training.config import TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(
    path
    for path in CONFIGS.rglob("*.yaml")
    if path.parent.name != "accelerate" and path.name != "base.yaml"
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_recipes_hold_only_what_is_known(path):
    config = load_config(path)
    assert isinstance(config, TrainConfig)
    config.model.model_class.config_class(**config.model.config)
    stages = [stage.train for stage in config.data.curriculum]
    for specs in [config.data.train, config.data.validation, *stages]:
        for spec in specs:
            if spec["reader"] == "image_pairs":
                continue
            options = {k: v for k, v in spec.items() if k not in ("reader", "size", "crop")}
            inspect.signature(READERS[spec["reader"]]).bind(**options)


def test_stages_start_from_one_another():
    first, second, third = (
        load_config(CONFIGS / "dust3r" / f"{name}.yaml")
        for name in ("1_224_linear", "2_512_linear", "3_512_dpt")
    )
    assert first.model.init_from == f"{load_config(CONFIGS / 'croco/pretrain.yaml').output}/last"
    assert second.model.init_from == f"{first.output}/last"
    assert third.model.init_from == f"{second.output}/last"
    heads = [run.model.config["head_config"]["model_type"] for run in (first, second, third)]
    assert heads == ["croco3d_linear_head", "croco3d_linear_head", "croco3d_dpt_head"]
    assert len(second.data.resolution) == 5


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=lambda p: p.stem
)
def test_accelerate_knows_the_settings(path):
    settings = load_config_from_file(str(path))
    assert settings.distributed_type.name in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    if settings.distributed_type.name == "FSDP":
        assert settings.fsdp_config["fsdp_version"] == 2
