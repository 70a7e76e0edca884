"""Code blocks of the Markdown pages, and what stands in for photographs and published weights."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from safetensors.torch import load_file

from croco3d.demo import DEPTH_STRIDE, ROOM
from croco3d.geometry import invert_pose, transform_points

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DUST3R = "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt"
CROCO = "CroCo_V2_ViTLarge_BaseDecoder.pth"
SIDE = 64

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\s*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, code without indentation, title if any, and first line."""

    language: str
    code: str
    title: str | None
    line: int


def markdown_pages() -> list[Path]:
    """README and every page of the documentation."""
    pages = [path for path in DOCS.rglob("*.md") if "viewer" not in path.parts]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(pages)]


def blocks_of(page: Path) -> list[Block]:
    """The page's fenced blocks in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        code = "\n".join(line[indent:] for line in match["code"].splitlines())
        title = _TITLE.search(match["options"])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], code, title and title[1], line))
    return found


def run_python(blocks: list[Block], page: Path) -> None:
    """Run the page's Python blocks in order, as one program.

    A block whose title is a file of the package becomes that module, and one titled by a file of
    the tests sees that file's names.
    """
    scope: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        # The code of a block stands at its line of the page, so that tracebacks point into it.
        source = "\n" * (block.line - 1) + block.code
        code = compile(source, str(page), "exec")
        if block.title is None or not block.title.endswith(".py"):
            exec(code, scope)
        elif block.title.endswith("__init__.py"):
            exec(code, {"__package__": _module_name(block.title)})
        elif block.title.startswith("tests/"):
            tiny = _load_file(ROOT / block.title)
            exec(code, tiny.__dict__)
            scope["tiny"] = tiny
        else:
            name = _module_name(block.title)
            module = ModuleType(name)
            module.__package__ = name.rpartition(".")[0]
            sys.modules[name] = module
            exec(code, module.__dict__)


def _module_name(title: str) -> str:
    return title.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _load_file(path: Path) -> ModuleType:
    module = ModuleType(path.stem)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def tiny_dust3r():
    """A DUSt3R of the published kind, a few thousand times smaller."""
    from croco3d.modeling.dust3r import Dust3rConfig, Dust3rForStereo

    small = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = Dust3rConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", **small, "image_size": SIDE},
        decoder_config={"model_type": "croco3d_pair_decoder", **small, "image_size": SIDE},
        head_config={"model_type": "croco3d_linear_head"},
        image_size=SIDE,
    )
    torch.manual_seed(0)
    return Dust3rForStereo(config)


def tiny_croco():
    """A CroCo that fits `tiny_dust3r`."""
    from croco3d.modeling.croco import CrocoConfig, CrocoForPreTraining

    small = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = CrocoConfig(
        encoder_config={"model_type": "croco3d_croco_encoder", **small, "image_size": SIDE},
        decoder_config={"model_type": "croco3d_single_decoder", **small, "image_size": SIDE},
        image_size=SIDE,
    )
    torch.manual_seed(0)
    return CrocoForPreTraining(config)


def furnish(folder: Path) -> None:
    """Put photographs and stand-ins for published weights, under their own names, into a folder."""
    from croco3d.hub.convert import save_original

    (folder / "photos").mkdir()
    for source in sorted(ROOM.glob("view_*.jpg")):
        shutil.copy(source, folder / "photos" / source.name.replace("view", "kitchen"))
    for target in (folder / DUST3R, folder / "dust3r.pth"):
        target.parent.mkdir(parents=True, exist_ok=True)
        save_original(tiny_dust3r(), target)
    save_original(tiny_croco(), folder / CROCO)


class LocalHub:
    """Stands in for `HfApi`: repositories are folders of the working directory."""

    def __init__(self, token=None) -> None:
        self.token = token

    def create_repo(self, repo_id, private=None, exist_ok=False):
        """Name the repository in full."""
        return SimpleNamespace(repo_id=repo_id)

    def file_exists(self, repo_id, filename, revision=None):
        """Tell whether a repository holds a file."""
        return Path(repo_id, filename).is_file()

    def upload_folder(self, repo_id, folder_path, **_):
        """Copy a folder into the repository."""
        shutil.copytree(folder_path, repo_id, dirs_exist_ok=True)
        return repo_id


class RoomOracle:
    """Lets a stereo model say the truth about the bundled room's pictures.

    Alignment needs predictions that agree, which untrained weights do not give.
    """

    def __init__(self, model_class: type) -> None:
        self.model_class, self.decode = model_class, model_class.decode
        truth = load_file(ROOM / "truth.safetensors")
        self.depth, self.poses = truth["depth"].float(), truth["cam2world"]
        self.intrinsics = truth["intrinsics"]

    def __call__(self, model, features1, features2, *args, **options):
        """Decode, and replace what is said of known pictures."""
        out = self.decode(model, features1, features2, *args, **options)
        if torch.compiler.is_compiling():
            return out
        known = self._known(model)
        for row, tokens in enumerate(
            zip(features1.last_hidden_state, features2.last_hidden_state, strict=True)
        ):
            first, second = (self._recognise(known, one) for one in tokens)
            if first is None or second is None:
                continue
            for name, view in (("1", first), ("2", second)):
                points = getattr(out, f"pointmap{name}")
                confidence = getattr(out, f"confidence{name}")
                with torch.no_grad():
                    points[row] = self._truth(view, first, points.shape[1:3])
                    confidence[row] = 3.0
        return out

    def _known(self, model) -> torch.Tensor:
        from croco3d.modeling.dust3r import Dust3rImageProcessor

        if not hasattr(model, "_room_features"):
            processor = Dust3rImageProcessor.from_model_config(model.config)
            inputs = processor([ROOM / f"view_{i}.jpg" for i in range(len(self.depth))])
            with torch.no_grad():
                encoded = model.encode(inputs["pixel_values"])
            model._room_features = encoded.last_hidden_state
        return model._room_features

    @staticmethod
    def _recognise(known: torch.Tensor, tokens: torch.Tensor) -> int | None:
        if known.shape[1:] != tokens.shape:
            return None
        distance = (known - tokens).abs().amax(dim=(1, 2))
        return int(distance.argmin()) if distance.min() < 1e-3 else None

    def _truth(self, view: int, camera: int, size) -> torch.Tensor:
        stride = self.depth.shape[2] / size[1]
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
        # Centres of the network's pixels among the rows and columns of the stored depth.
        row, column = (((x + 0.5) * stride - 0.5).round().long() for x in (rows, columns))
        depth = self.depth[view, row, column]
        pixels = torch.stack((column, row), dim=-1) * DEPTH_STRIDE
        rays = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1).float()
        points = rays @ torch.linalg.inv(self.intrinsics[view]).mT * depth[..., None]
        return transform_points(invert_pose(self.poses[camera]) @ self.poses[view], points)
