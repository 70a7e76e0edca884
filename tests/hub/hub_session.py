"""Everything croco3d does with the Hub, in one process that knows the stub as its Hub.

`HF_ENDPOINT` is read when huggingface_hub is imported, hence a process of its own; importing
torch, transformers and timm takes seconds, hence one for all. It writes {step: error} as JSON.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
STEPS = {}


def step(function):
    STEPS[function.__name__] = function
    return function


@step
def bare_import_is_light_and_registers(w):
    import croco3d  # noqa: F401

    heavy = {"torch", "transformers", "timm"} & set(sys.modules)
    assert not heavy, heavy
    from transformers import AutoConfig

    assert AutoConfig.for_model("croco3d_dust3r").model_type == "croco3d_dust3r"
    from transformers import AutoImageProcessor, pipeline  # noqa: F401
    from transformers.pipelines import PIPELINE_REGISTRY

    assert "stereo-reconstruction" in PIPELINE_REGISTRY.get_supported_tasks()


@step
def whole_model(w):
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    from croco3d import AutoCroco3D, AutoEncoder, Dust3rForStereo

    w.model = w.make_model()
    address = w.model.push_to_hub("org/room", tags=["indoor"])
    assert "/org/room/commit/" in str(address), address
    files = w.hub.repos["org/room"].files("main")
    wanted = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert wanted == set(files) - {".gitattributes"}, set(files)
    for loader in (Dust3rForStereo, AutoCroco3D, AutoModel):
        w.equal(loader.from_pretrained("org/room"), w.model)
    w.equal(AutoEncoder.from_pretrained("org/room"), w.model.encoder)
    config = AutoConfig.from_pretrained("org/room")
    assert type(config).__name__ == "Dust3rConfig"
    processor = AutoImageProcessor.from_pretrained("org/room")
    assert type(processor).__name__ == "Dust3rImageProcessor"
    assert processor.size.longest_edge == w.model.config.image_size


@step
def our_card(w):
    from huggingface_hub import ModelCard

    card = ModelCard.load("org/room")
    assert card.data.library_name == "croco3d"
    assert card.data.license == "cc-by-nc-sa-4.0"
    assert {"image-to-3d", "dust3r", "indoor"} <= set(card.data.tags)
    first = "\n".join(card.text.strip().splitlines()[:4])
    assert "Not for commercial use" in first, first
    assert 'from_pretrained("org/room")' in card.text


@step
def kept_card(w):
    repo = w.hub.repos["org/room"]
    repo.commit("main", {"README.md": b"---\nlicense: other\n---\nMine."})
    w.model.push_to_hub("org/room")
    assert repo.files("main")["README.md"].endswith(b"Mine.")


@step
def single_component(w):
    from transformers import AutoModel

    w.model.decoder.push_to_hub("org/decoder")
    w.equal(AutoModel.from_pretrained("org/decoder"), w.model.decoder)
    card = w.hub.repos["org/decoder"].files("main")["README.md"].decode()
    assert "library_name: croco3d" in card and 'AutoModel.from_pretrained("org/decoder")' in card
    w.equal(type(w.model.decoder).from_pretrained("org/room"), w.model.decoder)
    files = set(w.hub.repos["org/decoder"].files("main"))
    assert "preprocessor_config.json" not in files


@step
def processor_alone(w):
    from transformers import AutoImageProcessor

    from croco3d import Dust3rImageProcessor

    Dust3rImageProcessor(size={"longest_edge": 160}, square_ok=True).push_to_hub("org/eyes")
    assert set(w.hub.repos["org/eyes"].files("main")) == {"preprocessor_config.json"}
    for loader in (Dust3rImageProcessor, AutoImageProcessor):
        processor = loader.from_pretrained("org/eyes")
        assert processor.size.longest_edge == 160 and processor.square_ok


@step
def lora_adapter(w):
    import torch
    from peft import LoraConfig, get_peft_model

    from croco3d import AutoCroco3D, Dust3rForStereo, reconstruct
    from croco3d.hub import push_adapter
    from croco3d.hub.convert import convert

    base = AutoCroco3D.from_pretrained("org/room")
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"])).eval()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    push_adapter(tuned, "org/adapter")
    files = w.hub.repos["org/adapter"].files("main")
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert b"LoRA adapter (rank 2" in files["README.md"] and b"org/room" in files["README.md"]
    again = AutoCroco3D.from_pretrained("org/adapter").eval()
    images = torch.randn(2, 1, 3, 32, 48)
    with torch.no_grad():
        expected = tuned(*images).pointmap2
        assert torch.equal(again(*images).pointmap2, expected)
        assert not torch.equal(w.model(*images).pointmap2, expected)
    convert("org/adapter", w.path / "merged")
    with torch.no_grad():
        merged = Dust3rForStereo.from_pretrained(w.path / "merged").eval()(*images).pointmap2
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    photographs = [torch.randint(256, (60, 80, 3), dtype=torch.uint8).numpy() for _ in range(2)]
    assert len(reconstruct(photographs, model="org/adapter").cameras) == 2
    w.fails(ValueError, "holds no model but a LoRA adapter", Dust3rForStereo, "org/adapter")


@step
def sharded_weights(w):
    from croco3d import AutoCroco3D

    w.model.push_to_hub("org/shards", max_shard_size="100KB")
    files = w.hub.repos["org/shards"].files("main")
    shards = [name for name in files if "-of-" in name]
    assert len(shards) > 1 and "model.safetensors.index.json" in files
    w.equal(AutoCroco3D.from_pretrained("org/shards"), w.model)
    w.hub.add("org/gap", w.folder("gap", {k: v for k, v in files.items() if k != shards[0]}))
    w.fails(OSError, f"lacks {shards[0]}", AutoCroco3D, "org/gap")


@step
def subfolder_and_revision(w):
    from croco3d import AutoCroco3D, Dust3rImageProcessor

    w.model.push_to_hub("org/many", subfolder="first")
    other = w.make_model(seed=1)
    other.push_to_hub("org/many", subfolder="first", revision="draft")
    first = AutoCroco3D.from_pretrained("org/many", subfolder="first")
    draft = AutoCroco3D.from_pretrained("org/many", subfolder="first", revision="draft")
    w.equal(first, w.model)
    w.equal(draft, other)
    assert b'subfolder="first"' in w.hub.repos["org/many"].files("main")["README.md"]
    Dust3rImageProcessor.from_pretrained("org/many", subfolder="first")
    w.fails(OSError, "holds no config.json", AutoCroco3D, "org/many")


@step
def published_layout(w):
    from croco3d import AutoEncoder, Dust3rForStereo

    sys.path.insert(0, str(HERE.parent / "golden"))
    import synth

    case = synth.load_case(HERE.parent / "golden" / "dust3r_linear")
    folder = synth.write_hub(case, w.path / "published")
    w.hub.add("org/published", folder, prefix="inner/")
    repo = w.hub.repos["org/published"]
    repo.commit("main", {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"})
    repo.branches["v1"] = repo.branches["main"]
    repo.commit("main", {"inner/config.json": b"{}", "inner/model.safetensors": b""})
    options = {"subfolder": "inner", "revision": "v1"}
    model = Dust3rForStereo.from_pretrained("org/published", **options)
    w.equal(AutoEncoder.from_pretrained("org/published", **options), model.encoder)
    assert model.name_or_path == "org/published"
    assert model.config.license == "cc-by-nc-4.0"
    repo.private = True
    options |= {"token": False, "cache_dir": w.path / "nothing-yet"}
    w.fails(OSError, "private or gated", Dust3rForStereo, "org/published", **options)


@step
def private_repository(w):
    from croco3d import AutoCroco3D

    w.model.push_to_hub("org/secret", private=True, token=w.token)
    assert w.hub.repos["org/secret"].private
    w.equal(AutoCroco3D.from_pretrained("org/secret", token=w.token), w.model)
    for token in (False, "hf_" + "b" * 34):
        w.fails(
            OSError, r"refuses access to 'org/secret' \(401\).*hf auth login",
            AutoCroco3D, "org/secret", token=token, cache_dir=w.path / "elsewhere",
        )  # fmt: skip
    w.hub.repos["org/secret"].gated = True
    elsewhere = {"token": w.token, "cache_dir": w.path / "elsewhere"}
    w.fails(OSError, r"refuses .*\(403\).*gated", AutoCroco3D, "org/secret", **elsewhere)
    w.fails_to_push(OSError, r"refuses to write to 'org/x' \(401\)", w.model, "org/x", token=False)
    assert "org/x" not in w.hub.repos


@step
def missing_repository_or_revision(w):
    from croco3d import AutoCroco3D

    missing = "Cannot find the model 'org/nothing'.*no such repository"
    w.fails(OSError, missing, AutoCroco3D, "org/nothing")
    w.fails(OSError, "no revision 'v9' on the Hub", AutoCroco3D, "org/room", revision="v9")
    w.fails(OSError, "no name of a repository", AutoCroco3D, "not/a/repository")


@step
def broken_downloads_leave_nothing(w):
    from croco3d import AutoCroco3D

    reasons = {
        "drop": "download of 'org/room' failed",
        "short": "failed .*size",
        "corrupt": "SHA-256",
    }
    for fault, reason in reasons.items():
        cache = w.path / f"cache-{fault}"
        w.hub.faults = {"model.safetensors": fault}
        w.fails(OSError, reason, AutoCroco3D, "org/room", cache_dir=cache)
        assert not list(cache.rglob("model.safetensors")), fault
        w.hub.faults = {}
        w.equal(AutoCroco3D.from_pretrained("org/room", cache_dir=cache), w.model)
        assert not list(cache.rglob("*.incomplete")), fault


@step
def pipeline_of_pairs(w):
    import numpy as np
    import torch
    from transformers import pipeline

    from croco3d import reconstruct

    images = [np.random.default_rng(i).integers(0, 255, (60, 80, 3), np.uint8) for i in range(3)]
    estimate = pipeline("stereo-reconstruction", model="org/room", device="cpu")
    result = estimate((images[0], images[1]))
    scene = reconstruct(images[:2], model="org/room")
    for got, expected in zip(result["pointmaps"], scene.pointmaps, strict=True):
        torch.testing.assert_close(got, expected)
    assert len(result["cameras"]) == len(result["confidences"]) == 2
    assert result["cameras"][0].width == 80
    for camera, expected in zip(result["cameras"], scene.cameras, strict=True):
        torch.testing.assert_close(camera.cam2world, expected.cam2world)
        torch.testing.assert_close(camera.intrinsics, expected.intrinsics)
    batch = estimate([(images[0], images[1]), (images[0], images[2])])
    torch.testing.assert_close(batch[0]["pointmaps"][1], result["pointmaps"][1])
    assert not torch.equal(batch[1]["pointmaps"][1], result["pointmaps"][1])
    for wrong in (images[0], [images[0], images[1]], (images[0],)):
        try:
            estimate(wrong)
        except ValueError as error:
            assert "tuple of two photographs" in str(error)
        else:
            raise AssertionError("accepted no pair")


class Workplace:
    """What the steps share."""

    def __init__(self, path, hub, token) -> None:
        self.path, self.hub, self.token = path, hub, token

    def make_model(self, seed: int = 0):
        import torch

        from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo

        torch.manual_seed(seed)
        encoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        decoder = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = Dust3rConfig(
            encoder_config={"model_type": "croco3d_croco_encoder", **encoder},
            decoder_config={"model_type": "croco3d_pair_decoder", **decoder},
            head_config={"model_type": "croco3d_linear_head"},
            image_size=64,
            license="cc-by-nc-sa-4.0",
        )
        return Dust3rForStereo(config).eval()

    def folder(self, name: str, files: dict[str, bytes]) -> Path:
        folder = self.path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder

    def equal(self, got, expected) -> None:
        import torch

        got, expected = got.state_dict(), expected.state_dict()
        assert set(got) == set(expected)
        assert all(torch.equal(got[key], value) for key, value in expected.items())

    def fails(self, kind, pattern: str, loader, source: str, **options) -> None:
        self._fails(kind, pattern, lambda: loader.from_pretrained(source, **options))

    def fails_to_push(self, kind, pattern: str, model, name: str, **options) -> None:
        self._fails(kind, pattern, lambda: model.push_to_hub(name, **options))

    def _fails(self, kind, pattern, action) -> None:
        import re

        try:
            action()
        except kind as error:
            message = str(error)
            assert re.search(pattern, message), message
            assert "\n" not in message, message
        else:
            raise AssertionError(f"nothing was raised; expected {pattern!r}")


@step
def unreachable_hub(w):
    """The last step, after the server has gone."""
    from huggingface_hub import close_session

    from croco3d import AutoCroco3D

    close_session()
    w.equal(AutoCroco3D.from_pretrained("org/room"), w.model)
    fetched = "the Hub cannot be reached.*hf download org/new"
    w.fails(OSError, fetched, AutoCroco3D, "org/new")


def attempt(function, work) -> str:
    """Returns what went wrong, with its traceback."""
    try:
        function(work)
    except Exception:
        return traceback.format_exc()
    return ""


def main(path: Path) -> None:
    sys.path.insert(0, str(HERE))
    import hub_stub

    with hub_stub.serve() as (hub, address):
        # The stub stands in for the network, which test runs otherwise keep away from.
        os.environ |= {"HF_ENDPOINT": address, "HF_HOME": str(path / "hf"), "HF_HUB_OFFLINE": "0"}
        os.environ |= {"HF_TOKEN": hub_stub.TOKEN, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        work = Workplace(path, hub, hub_stub.TOKEN)
        results = {}
        for name, function in STEPS.items():
            if function is unreachable_hub:
                break
            results[name] = attempt(function, work)
            if name == "bare_import_is_light_and_registers":
                quicken_retries()
    results["unreachable_hub"] = attempt(unreachable_hub, work)
    (path / "results.json").write_text(json.dumps(results))


def quicken_retries() -> None:
    """Requests are retried after seconds of waiting; nothing here gets better by it."""
    import time

    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    impatient: Any = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    file_download.time = _http.time = impatient


if __name__ == "__main__":
    main(Path(sys.argv[1]))
