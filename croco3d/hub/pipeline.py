"""`pipeline("stereo-reconstruction", model=...)` of transformers."""

from collections.abc import Sequence
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from ..modeling.dust3r import Dust3rForStereo
from ..modeling.mast3r import Mast3rForStereo
from .processors import load_processor

TASK = "stereo-reconstruction"


class StereoReconstructionPipeline(Pipeline):
    """Reconstructs scenes of two photographs.

    ```python
    from transformers import pipeline

    reconstruct_pair = pipeline("stereo-reconstruction", model="org/name")
    result = reconstruct_pair(("left.jpg", "right.jpg"))
    ```

    A tuple of two photographs (files, PIL images, arrays, tensors) is a pair, a list of such
    tuples a batch. Of each pair comes a dictionary of

    - `pointmaps`: of each view, `(H, W, 3)` at the network's size, in the first view's camera;
    - `confidences`: of each view, `(H, W)`;
    - `cameras`: of each view, with `intrinsics` `(3, 3)` in original pixels and `cam2world`;
    - `scene`: the `Scene` of all this, which saves and shows itself.

    Repositories in the published layouts have no `model_type`, which `pipeline` needs: give
    `model=AutoCroco3D.from_pretrained("naver/...")` instead of their name.
    """

    _load_processor = False
    _load_tokenizer = False
    _load_feature_extractor = False
    # Where none was saved with the model, its config says what is needed.
    _load_image_processor = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.image_processor is None:
            self.image_processor = load_processor(self.model.name_or_path or "", self.model.config)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Reconstructs a pair, or a list of pairs one after the other; see the class.

        Raises:
            ValueError: if the input is no pair of photographs, or a batch size is asked for.
        """
        if kwargs.pop("batch_size", None) not in (None, 1):
            raise ValueError(
                "Pairs may differ in size and are predicted one at a time; leave batch_size out."
            )
        for pair in inputs if isinstance(inputs, list) else [inputs]:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(
                    f"Give a tuple of two photographs, or a list of such tuples, not {_form(pair)}."
                )
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        if kwargs:
            raise ValueError(f"{TASK} has no option {next(iter(kwargs))!r}.")
        return {}, {}, {}

    def preprocess(self, input_: Sequence[Any], **_: Any) -> Any:
        """Prepares both photographs for the network."""
        assert self.image_processor is not None
        return self.image_processor(list(input_))

    def _forward(self, input_tensors: Any, **_: Any) -> Any:
        # Scenes are built on models; only this pipeline, on top of both, needs them here.
        from ..scene.predict import predict_pairs

        processor: Any = self.image_processor
        return predict_pairs(
            self.model,
            input_tensors,
            [(0, 1), (1, 0)],
            images=processor.to_images(input_tensors),
            progress=False,
        )

    def postprocess(self, model_outputs: Any, **_: Any) -> dict[str, Any]:
        """Puts both views into one world, which is the first view's camera."""
        from ..scene import align

        scene = align(model_outputs, method="pair")
        return {
            "pointmaps": scene.pointmaps,
            "confidences": scene.confidences,
            "cameras": scene.cameras,
            "scene": scene,
        }


def _form(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{size}"


_MODELS: Any = (Dust3rForStereo, Mast3rForStereo)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=StereoReconstructionPipeline,
    pt_model=_MODELS,
    type="image",
)
