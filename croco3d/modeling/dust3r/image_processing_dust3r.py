"""From photographs to the network's input, and from its output back to the photographs' pixels."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils.import_utils import is_torchvision_greater_or_equal

from ...images import ImageError, ImageSource, load_image
from ..outputs import StereoOutput

# From this many pixels on, Pillow's Lanczos takes longer than decoding the JPEG did.
LARGE_PHOTOGRAPH = 4_000_000


class Dust3rImageProcessorKwargs(ImagesKwargs, total=False):
    r"""Options beyond those of every image processor.

    patch_size (`int`, *optional*, defaults to 16):
        The network's input is cropped to a multiple of it.
    square_ok (`bool`, *optional*, defaults to `False`):
        Whether a square photograph stays square; otherwise it is cropped to 4:3.
    """

    patch_size: int
    square_ok: bool


class Dust3rImageProcessor(PilBackend):
    """Resizes, crops and normalises photographs for a stereo model.

    With `size={"longest_edge": 512}` the long side is resized to 512 pixels and the centre is
    cropped to multiples of the patch; a square result is cropped to 4:3 unless `square_ok`. With
    `size={"shortest_edge": 224}` the short side is resized and the centre square is kept, to a
    multiple of the patch. A plain number is the long side, and 224 the short side, as in the
    published models. Photographs are reduced by Lanczos and enlarged by bicubic resampling.

    Calling it with one image or a list (files, PIL images, arrays, tensors) returns a
    `BatchFeature` of

    - `pixel_values`: `(N, 3, H, W)` float32, or a list of `(1, 3, H, W)` where sizes differ;
    - `true_shape`: (height, width) of each network input, `(N, 2)`, long;
    - `original_sizes`: (height, width) of each upright photograph, `(N, 2)`, long;
    - `pixel_to_original`: `(N, 3, 3)` float64, takes a pixel (column, row, 1) of the network's
      input to the photograph's, integer coordinates being pixel centres. A NumPy array, so that
      moving the batch to half precision cannot round it.
    """

    valid_kwargs = Dust3rImageProcessorKwargs
    default_to_square = False
    size = {"longest_edge": 512}
    resample = PILImageResampling.LANCZOS
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    patch_size = 16
    square_ok = False
    model_input_names = ["pixel_values"]

    def __init__(self, **kwargs: Unpack[Dust3rImageProcessorKwargs]):
        super().__init__(**kwargs)

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        *args: Any,
        **kwargs: Unpack[Dust3rImageProcessorKwargs],
    ) -> BatchFeature:
        """Prepare one image or several; see the class."""
        return super().__call__(images, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_model_config(cls, config: Any, **kwargs: Any) -> "Dust3rImageProcessor":
        """Build the processor a model needs from its config, for checkpoints that carry none.

        Args:
            config: A whole model's config, whose `encoder_config` says patch size, image size and
                normalisation, or an encoder's own config.
            **kwargs: What to set differently, as in the constructor.
        """
        encoder = getattr(config, "encoder_config", config)
        image_size = getattr(config, "image_size", None) or encoder.image_size
        settings: dict[str, Any] = {
            "size": image_size if isinstance(image_size, int) else max(image_size),
            "patch_size": encoder.patch_size or _patch_size_of_timm(encoder),
        }
        for name in ("image_mean", "image_std"):
            if getattr(encoder, name, None) is not None:
                settings[name] = tuple(getattr(encoder, name))
        return cls(**(settings | kwargs))

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads the options of a saved processor, by the name of a bundled model too."""
        # The hub builds on the models; it is looked up here only when something is loaded.
        from ...hub.sources import locate

        where = locate(os.fspath(pretrained_model_name_or_path))
        return super().get_image_processor_dict(where, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Uploads the processor alone; a card that is there stays.

        Args:
            repo_id: the repository, such as "org/name".
            **options: as of a model's `push_to_hub`.
        """
        from ...hub.publishing import push_processor

        return push_processor(self, repo_id, **options)

    def _standardize_kwargs(self, size: Any = None, **kwargs: Any) -> dict[str, Any]:
        if isinstance(size, int):
            size = SizeDict(shortest_edge=size) if size == 224 else SizeDict(longest_edge=size)
        size = SizeDict(**size) if isinstance(size, dict) else size
        if size is not None and (size.longest_edge is None) == (size.shortest_edge is None):
            raise ValueError(
                f"size={size} is not understood; give a number of pixels, or one of "
                "{'longest_edge': pixels} and {'shortest_edge': pixels}."
            )
        return super()._standardize_kwargs(size=size, **kwargs)

    def _preprocess_image_like_inputs(
        self, images: Any, return_tensors: Any = None, **kwargs: Any
    ) -> BatchFeature:
        sources = list(images) if _is_batch(images) else [images]
        if not sources:
            raise ValueError("No image was given.")

        # Pillow and torch release the interpreter while they decode and resize.
        with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
            ready = list(pool.map(lambda item: self._prepare(*item, **kwargs), enumerate(sources)))
        pixels = [pixel_values for pixel_values, _, _ in ready]
        same_size = len({tuple(p.shape) for p in pixels}) == 1
        data = {
            "pixel_values": torch.cat(pixels) if same_size else pixels,
            "true_shape": torch.tensor([list(p.shape[-2:]) for p in pixels]),
            "original_sizes": torch.tensor([size for _, size, _ in ready]),
            "pixel_to_original": np.stack([transform for _, _, transform in ready]),
        }
        if return_tensors == "np":
            data["pixel_values"] = (
                data["pixel_values"].numpy() if same_size else [p.numpy() for p in pixels]
            )
        return BatchFeature(data)

    def _prepare(
        self,
        index: int,
        source: ImageSource,
        size: SizeDict,
        resample: int,
        patch_size: int,
        square_ok: bool,
        do_resize: bool,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Any,
        image_std: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, tuple[int, int], np.ndarray]:
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"Image {index}"
        image = load_image(source, name)
        height, width = image.shape[:2]
        resized = _resized_shape(height, width, size) if do_resize else (height, width)
        crop = _crop_shape(resized, size, patch_size, square_ok)
        if min(crop) < patch_size or min(height, width) < patch_size:
            raise ImageError(
                f"{name} is {width}x{height} pixels, {resized[1]}x{resized[0]} at the network's "
                f"size: less than one patch of {patch_size}; give an image with more pixels or a "
                "less extreme format."
            )
        top, left = (resized[0] - crop[0]) // 2, (resized[1] - crop[1]) // 2
        reduced = _resize(image, resized, resample)
        pixels = torch.from_numpy(reduced[top : top + crop[0], left : left + crop[1]].copy())
        values = pixels.permute(2, 0, 1)[None].float().contiguous()
        if do_rescale:
            values = values * rescale_factor
        if do_normalize:
            mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (image_mean, image_std))
            values = (values - mean) / std
        return values, (height, width), _transform((height, width), resized, (top, left))

    def to_images(self, inputs: BatchFeature) -> list[torch.Tensor]:
        """What the network sees, as uint8 RGB `(H, W, 3)` an image."""
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.image_mean, self.image_std))
        if not self.do_normalize:
            mean, std = 0 * mean, 0 * std + 1
        factor = self.rescale_factor if self.do_rescale else 1
        return [
            ((pixels.reshape(3, *pixels.shape[-2:]).cpu() * std + mean) / factor)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .permute(1, 2, 0)
            .contiguous()
            for pixels in inputs["pixel_values"]
        ]

    def to_original(
        self, values: torch.Tensor, inputs: BatchFeature, index: int, mode: str = "bilinear"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Resample a map of the network's size to the pixels of the photograph.

        Args:
            values: A pointmap, depth, confidence or other map `(h, w)` or `(h, w, C)` of image
                `index`.
            inputs: What this processor returned.
            index: Which of its images.
            mode: `"bilinear"`, or `"nearest"`, which invents no values at depth edges.

        Returns:
            The map `(H, W)` or `(H, W, C)`, and a bool mask `(H, W)`, false where the photograph
            was cropped away (the map repeats its border there).
        """
        shape = tuple(int(n) for n in inputs["true_shape"][index])
        if tuple(values.shape[:2]) != shape:
            raise ValueError(
                f"Image {index} entered the network with {shape} pixels (height, width), but the "
                f"map has {tuple(values.shape[:2])}."
            )
        height, width = (int(n) for n in inputs["original_sizes"][index])
        inverse = np.linalg.inv(inputs["pixel_to_original"][index])
        columns = torch.arange(width, dtype=torch.float64) * inverse[0, 0] + inverse[0, 2]
        rows = torch.arange(height, dtype=torch.float64) * inverse[1, 1] + inverse[1, 2]
        inside = _within(rows, shape[0])[:, None] & _within(columns, shape[1])[None]
        grid = torch.stack(
            torch.meshgrid(
                2 * (rows + 0.5) / shape[0] - 1, 2 * (columns + 0.5) / shape[1] - 1, indexing="ij"
            )[::-1],
            dim=-1,
        )
        planes = values.reshape(1, *shape, -1).permute(0, 3, 1, 2).float()
        sampled = F.grid_sample(
            planes,
            grid[None].to(planes),
            mode=mode,
            padding_mode="border",
            align_corners=False,
        )
        full = sampled[0].permute(1, 2, 0).reshape(height, width, *values.shape[2:])
        return full, inside.to(values.device)

    def intrinsics_to_original(
        self, intrinsics: torch.Tensor, inputs: BatchFeature, index: int
    ) -> torch.Tensor:
        """Turn intrinsics `(3, 3)` of the network's input into those of the photograph."""
        return torch.as_tensor(inputs["pixel_to_original"][index]).to(intrinsics) @ intrinsics

    def matches_to_original(
        self, pixels: torch.Tensor, inputs: BatchFeature, index: int
    ) -> torch.Tensor:
        """Turn pixels (column, row) `(M, 2)` of the network's input into the photograph's."""
        transform = torch.as_tensor(inputs["pixel_to_original"][index])
        mapped = pixels.to("cpu", torch.float64) @ transform[:2, :2].T + transform[:2, 2]
        return mapped.to(pixels.device, torch.float32)

    def post_process(
        self,
        outputs: StereoOutput,
        inputs: BatchFeature,
        pairs: list[tuple[int, int]] | None = None,
        mode: str = "bilinear",
    ) -> list[dict[str, torch.Tensor]]:
        """Bring a model's output to the pixels of the photographs.

        Args:
            outputs: What the model returned for one or more pairs.
            inputs: What this processor returned for the photographs.
            pairs: The images of each pair, as indices into `inputs`; one pair (0, 1) by default.
            mode: `"bilinear"` or `"nearest"`, see `to_original`.

        Returns:
            For each pair `pointmap1`, `pointmap2` `(H, W, 3)` in camera 1, `depth1` `(H, W)`, the
            masks `inside1`, `inside2` `(H, W)` of what the network saw, and `confidence1`,
            `confidence2` `(H, W)` where the model has them.
        """
        assert outputs.pointmap1 is not None
        pairs = [(0, 1)] if pairs is None else pairs
        if len(pairs) != len(outputs.pointmap1):
            raise ValueError(
                f"The outputs hold {len(outputs.pointmap1)} pairs, but `pairs` names {len(pairs)}."
            )
        results = []
        for row, pair in enumerate(pairs):
            result: dict[str, torch.Tensor] = {}
            for view, index in enumerate(pair, start=1):
                pointmap, inside = self.to_original(
                    outputs[f"pointmap{view}"][row], inputs, index, mode
                )
                result |= {f"pointmap{view}": pointmap, f"inside{view}": inside}
                confidence = outputs.get(f"confidence{view}")
                if confidence is not None:
                    full = self.to_original(confidence[row], inputs, index, mode)[0]
                    result[f"confidence{view}"] = full
            result["depth1"] = result["pointmap1"][..., 2]
            results.append(result)
        return results


def _patch_size_of_timm(config: Any) -> int:
    """The patch size of a timm backbone whose config leaves it to the architecture."""
    from ..encoders.timm import create_backbone

    with torch.device("meta"):
        backbone: Any = create_backbone(config, pretrained=False)
    return int(backbone.feature_info[-1]["reduction"])


def _is_batch(images: Any) -> bool:
    if isinstance(images, (np.ndarray, torch.Tensor)):
        return images.ndim == 4
    return not isinstance(images, (str, os.PathLike, Image.Image))


def _resized_shape(height: int, width: int, size: SizeDict) -> tuple[int, int]:
    """Size (height, width) after the long or short side has been brought to its length."""
    if size.shortest_edge is not None:
        longest = round(size.shortest_edge * max(width / height, height / width))
    else:
        longest = size.longest_edge or 0
    current = max(height, width)
    return round(height * longest / current), round(width * longest / current)


def _crop_shape(
    resized: tuple[int, int], size: SizeDict, patch: int, square_ok: bool
) -> tuple[int, int]:
    """Size (height, width) of the centre crop, a multiple of the patch."""
    height, width = (side // patch * patch for side in resized)
    if size.shortest_edge is not None:
        height = width = min(height, width)
    elif resized[0] == resized[1] and not square_ok:
        height = width * 3 // 4 // patch * patch
    return height, width


def _resize(image: np.ndarray, shape: tuple[int, int], resample: int) -> np.ndarray:
    if image.shape[:2] == shape:
        return image
    enlarges = shape[0] > image.shape[0] or shape[1] > image.shape[1]
    if (
        not enlarges
        and resample == PILImageResampling.LANCZOS
        and image.shape[0] * image.shape[1] >= LARGE_PHOTOGRAPH
        and is_torchvision_greater_or_equal("0.27")
    ):
        # torch's 8-bit Lanczos, which came with that torchvision, stays within one grey level of
        # Pillow's and takes a tenth of the time.
        planes = torch.from_numpy(image).permute(2, 0, 1)[None]
        small = F.interpolate(planes, size=shape, mode="lanczos", antialias=True)
        return small[0].permute(1, 2, 0).numpy()
    kernel = Image.Resampling.BICUBIC if enlarges else Image.Resampling(resample)
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), kernel))


def _transform(
    original: tuple[int, int], resized: tuple[int, int], offset: tuple[int, int]
) -> np.ndarray:
    """The `(3, 3)` map from pixels of the crop to pixels of the original."""
    matrix = np.eye(3)
    for axis, (full, small, start) in enumerate(
        zip(original[::-1], resized[::-1], offset[::-1], strict=True)
    ):
        # A resize keeps the borders: u' + 0.5 = (u + 0.5) * small / full.
        matrix[axis, axis] = full / small
        matrix[axis, 2] = (start + 0.5) * full / small - 0.5
    return matrix


def _within(coordinates: torch.Tensor, count: int) -> torch.Tensor:
    return (coordinates >= -0.5) & (coordinates <= count - 0.5)
