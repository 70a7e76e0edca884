"""What encoders, decoders and heads have in common, and what they tell their neighbours."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .inference import FastInference
from .layers import AbsolutePositions, grid_positions
from .layers.positions import LEARNED_POSITIONS_STD
from .orientation import apply_oriented, stored_transposed
from .outputs import EncoderOutput, HeadOutput, PairDecoderOutput


class Croco3DModel(FastInference, PreTrainedModel):
    """Base of components and whole models: initialisation and what they support."""

    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            init.xavier_uniform_(module.weight, gain=getattr(module, "init_gain", 1.0))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, AbsolutePositions) and module.kind == "learned":
            init.trunc_normal_(module.table, std=LEARNED_POSITIONS_STD)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        mask_token = getattr(module, "mask_token", None)
        if isinstance(mask_token, nn.Parameter):
            init.normal_(mask_token, std=0.02)

    def post_init(self) -> None:
        """Initialises the weights; the last step of every constructor."""
        super().post_init()
        # A child's patterns are for loading it alone: in the whole model nothing is unexpected, and
        # "proj", which a head keeps in float32, names products everywhere.
        own = type(self)
        self._keys_to_ignore_on_load_unexpected = set(own._keys_to_ignore_on_load_unexpected or ())
        self._keep_in_fp32_modules_strict = set(own._keep_in_fp32_modules_strict or ())

    def get_input_embeddings(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Says that no table of embeddings is read; sharding by accelerate asks."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads the model from our own layout, an original repository or an original `.pth` file.

        Args:
            pretrained_model_name_or_path: a folder, a `.pth` file, a repository on the Hub, or
                the name of a bundled model.
            *args: as in transformers.
            **kwargs: as in transformers (`dtype`, `device_map`, `attn_implementation`,
                `revision`, `token`, ...).

        Raises:
            OSError: if there is no such model, or the Hub cannot be reached.
            ValueError: if it is of another kind, damaged, or its weights do not fit.
        """
        load = super().from_pretrained
        if pretrained_model_name_or_path is None:
            return load(pretrained_model_name_or_path, *args, **kwargs)
        # The hub builds on the models; it is looked up here only when something is loaded.
        from ..hub.loading import load_pretrained

        return load_pretrained(cls, load, pretrained_model_name_or_path, *args, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Uploads the model to the Hub, a whole model with its image processor, and a card.

        Args:
            repo_id: the repository, such as "org/name".
            **options: `private`, `token`, `revision`, `subfolder`, `max_shard_size`, `tags` and
                what else `croco3d.hub.push_model` takes.

        Returns:
            address of the commit.

        Raises:
            OSError: if the Hub refuses.
        """
        from ..hub.publishing import push_model

        return push_model(self, repo_id, **options)

    def freeze(self, *names: str) -> None:
        """Stops the training of parts of the model; all others are trained.

        Args:
            *names: "none"; "mask" (the mask token); "encoder" (all of the encoder, and the mask
                token); or any submodule or parameter by its dotted name, such as "decoder",
                "head1" or "encoder.blocks.0".

        Raises:
            ValueError: if a name is unknown.
        """
        parameters = dict(self.named_parameters())
        frozen: set[str] = set()
        for name in names:
            masks = {key for key in parameters if key.split(".")[-1] == "mask_token"}
            chosen = {key for key in parameters if key == name or key.startswith(f"{name}.")}
            if name in ("mask", "encoder"):
                chosen |= masks
            if not chosen and name not in ("none", "mask"):
                children = ", ".join(child for child, _ in self.named_children())
                raise ValueError(
                    f"Cannot freeze {name!r}: choose 'none', 'mask', or a submodule or parameter "
                    f"of {type(self).__name__} (children: {children})."
                )
            frozen |= chosen
        for key, parameter in parameters.items():
            parameter.requires_grad_(key not in frozen and not _never_used(key))


def _never_used(name: str) -> bool:
    return ".unused_unit." in name


class Encoder(Croco3DModel):
    """Images to tokens. Subclasses define `encode_upright`.

    Attributes:
        hidden_size: channels of a token.
        patch_size: side in pixels of the square of a token.
    """

    hidden_size: int
    patch_size: int

    # Present in whole-model checkpoints, out of which an encoder can be loaded alone.
    base_model_prefix = "encoder"
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^head", r"^predictor\."]

    @abstractmethod
    def encode_upright(
        self, pixel_values: Tensor, mask: Tensor | None, output_hidden_states: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encodes images in their true orientation.

        Args:
            pixel_values: `(B, 3, H, W)`.
            mask: `(B, N)` bool, true where a patch is hidden, or `None`.
            output_hidden_states: whether to keep every block's output.

        Returns:
            normalised tokens of the visible patches `(B, N_visible, C)`, and the hidden states or
            `None`.
        """

    def forward(
        self,
        pixel_values: Tensor,
        true_shape: Tensor | None = None,
        mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> EncoderOutput:
        """Encodes images.

        Args:
            pixel_values: `(B, 3, H, W)`, height and width multiples of the patch size.
            true_shape: `(B, 2)` true (height, width); an image whose true shape is the transpose
                of the stored one is turned before it is cut into patches.
            mask: `(B, N)` bool, true = hidden, the same number in each row; hidden patches are
                not encoded.
            output_hidden_states: whether to return every block's output.

        Raises:
            ValueError: if a size does not fit.
        """
        self._check(pixel_values, true_shape)
        height, width = pixel_values.shape[-2:]
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        flags = stored_transposed((height, width), true_shape)
        if mask is not None:
            mask = self._check_mask(mask, pixel_values)

        def encode(turned: bool, images: Tensor, *masks: Tensor) -> dict[str, Any]:
            images = images.transpose(-1, -2) if turned else images
            hidden = masks[0] if masks else None
            tokens, states = self.encode_upright(images, hidden, bool(output_hidden_states))
            positions = self.positions(images)
            if hidden is not None:
                positions = keep_visible(positions, hidden)
            return {"last_hidden_state": tokens, "positions": positions, "hidden_states": states}

        masks = () if mask is None else (mask,)
        parts = apply_oriented(flags, encode, pixel_values, *masks)
        return EncoderOutput(**parts, true_shape=true_shape, image_size=(height, width))

    def positions(self, pixel_values: Tensor) -> Tensor:
        """Returns (row, column) of all patches of upright images, `(B, N, 2)`, long."""
        batch, _, height, width = pixel_values.shape
        grid = grid_positions(
            height // self.patch_size, width // self.patch_size, pixel_values.device
        )
        return grid.expand(batch, -1, -1)

    def _check(self, pixel_values: Tensor, true_shape: Tensor | None) -> None:
        if pixel_values.dim() != 4 or pixel_values.shape[1] != 3:
            raise ValueError(f"pixel_values must be (B, 3, H, W), not {tuple(pixel_values.shape)}.")
        height, width = pixel_values.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            raise ValueError(
                f"Images of {height}x{width} pixels cannot be cut into {patch}x{patch} patches; "
                f"resize or crop them to multiples of {patch}, such as "
                f"{max(height // patch, 1) * patch}x{max(width // patch, 1) * patch}."
            )
        if true_shape is not None and tuple(true_shape.shape) != (pixel_values.shape[0], 2):
            raise ValueError(
                f"true_shape must be ({pixel_values.shape[0]}, 2), (height, width) for each "
                f"image, not {tuple(true_shape.shape)}."
            )

    def _check_mask(self, mask: Tensor, pixel_values: Tensor) -> Tensor:
        batch, _, height, width = pixel_values.shape
        expected = (batch, (height // self.patch_size) * (width // self.patch_size))
        if tuple(mask.shape) != expected:
            raise ValueError(f"mask must be {expected}, one flag a patch, not {tuple(mask.shape)}.")
        return mask.to(device=pixel_values.device, dtype=torch.bool)


def keep_visible(tokens: Tensor, mask: Tensor) -> Tensor:
    """Drops the hidden tokens of `(B, N, C)`: returns `(B, N_visible, C)` in raster order.

    Raises:
        ValueError: if rows of the mask hide different numbers of patches.
    """
    counts = (~mask).sum(dim=1)
    if not torch.compiler.is_compiling() and counts.unique().numel() > 1:
        raise ValueError(
            f"mask must show the same number of patches in each image, not {counts.tolist()}."
        )
    return tokens[~mask].unflatten(0, (mask.shape[0], -1))


class Decoder(Croco3DModel):
    """Base of decoders.

    Attributes:
        hidden_size: channels of a decoded token.
        depth: number of blocks, one level each.
    """

    hidden_size: int
    depth: int


class PairDecoderBase(Decoder):
    """Decodes the tokens of two views together."""

    @abstractmethod
    def forward(
        self,
        hidden1: Tensor,
        positions1: Tensor,
        hidden2: Tensor,
        positions2: Tensor,
        output_attentions: bool = False,
    ) -> PairDecoderOutput:
        """Decodes encoder tokens.

        Args:
            hidden1: encoder tokens of view 1, `(B, N1, C)`.
            positions1: their (row, column), `(B, N1, 2)`.
            hidden2: encoder tokens of view 2, `(B, N2, C)`.
            positions2: their (row, column), `(B, N2, 2)`.
            output_attentions: whether to return the cross-attentions.
        """


class Head(Croco3DModel):
    """Token levels of one view to a prediction for each pixel, always in float32.

    Attributes:
        level_indices: which of [encoder tokens, decoder levels 1..D] the head reads.
        extra_outputs: names of the outputs beside pointmap and confidence.
    """

    level_indices: tuple[int, ...]
    extra_outputs: tuple[str, ...] = ()

    @abstractmethod
    def predict(self, levels: list[Tensor], grid: tuple[int, int]) -> HeadOutput:
        """Maps float32 levels (those of `level_indices`) on a (rows, columns) grid to pixels."""

    def forward(
        self, levels: tuple[Tensor, ...] | list[Tensor], grid: tuple[int, int]
    ) -> HeadOutput:
        """Predicts pixels.

        Args:
            levels: the levels of `level_indices`, in their order, each `(B, N, C)`.
            grid: (rows, columns) of the tokens.
        """
        device = levels[0].device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            return self.predict([level.float() for level in levels], grid)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            halved = moved.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(device=moved.device) if halved else moved

        return super()._apply(keep_precision, recurse)


def settle_fact(config: Any, name: str, value: Any, neighbour: str) -> Any:
    """Writes a fact about a neighbour into a component's config, so that it loads by itself.

    Args:
        config: the component's config.
        name: the config's field.
        value: what the neighbour says, or `None` where the component is built alone.
        neighbour: who says it, for the message.

    Raises:
        ValueError: if config and neighbour disagree, or neither says.
    """
    written = getattr(config, name)
    if written is not None and isinstance(value, tuple):
        written = tuple(written)
    if value is None and written is None:
        raise ValueError(
            f"{type(config).__name__}.{name} is not set; set it, or build the component as part "
            "of a whole model, which knows it."
        )
    if value is not None and written is not None and written != value:
        raise ValueError(
            f"{type(config).__name__}.{name} is {written}, but the {neighbour} has {value}: "
            f"set {name}={value!r}, or leave it out."
        )
    settled = written if value is None else value
    setattr(config, name, settled)
    return settled
