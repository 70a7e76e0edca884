"""What a training run is made of, as typed options."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from . import options
from .datasets import DataOptions
from .models import ModelOptions
from .tasks import Task


@dataclass(kw_only=True)
class OptimizerOptions:
    """The optimizer and its learning rate: linear warm-up, then a cosine.

    Attributes:
        name: "adamw", or "muon" for Muon on the matrices of blocks and AdamW on the rest, which
            learns from scratch in about half of the steps at three to five times the rate.
        learning_rate: the highest rate.
        least: the rate at the end.
        warmup: share of the steps over which the rate rises.
        betas: decay of the running moments.
        weight_decay: not applied to norms, biases and tokens.
        layer_decay: factor of the rate from one encoder layer to the one before; `None` for none.
        clip: largest norm of the gradient; `None` for no limit.
    """

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-4
    least: float = 1e-6
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    layer_decay: float | None = None
    clip: float | None = 1.0


@dataclass(kw_only=True)
class RuntimeOptions:
    """How steps are computed.

    Attributes:
        precision: "bf16" and "fp16" are autocast; "bf16_weights" holds the weights themselves in
            bfloat16 beside float32 masters, which is the fastest on CPUs with bfloat16 products.
        accumulate: forward passes to a step.
        activation_checkpointing: compute activations twice instead of keeping them.
        compile: run the model through `torch.compile`.
        cpu: stay on the CPU even where there is a GPU.
        threads: CPU threads of a process; `None` leaves torch's choice.
        find_unused_parameters: what DDP needs where some weights get no gradient.
    """

    precision: Literal["no", "bf16", "fp16", "bf16_weights"] = "no"
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False
    cpu: bool = False
    threads: int | None = None
    find_unused_parameters: bool = False


@dataclass(kw_only=True)
class SavingOptions:
    """What is written when. All intervals are in steps.

    Attributes:
        every: between checkpoints, from which a run goes on.
        keep: how many checkpoints stay.
        milestones: between models that stay for good, in `models/step-*`; 0 for none.
        push_to_hub: repository to upload the final model to; `None` for none.
        private: whether that repository is created private.
    """

    every: int = 1000
    keep: int = 2
    milestones: int = 0
    push_to_hub: str | None = None
    private: bool = False


@dataclass(kw_only=True)
class MonitoringOptions:
    """What is measured and reported. All intervals are in steps.

    Attributes:
        log_every: between lines of training figures.
        evaluate_every: between validations; 0 for one at the end only.
        batches: validation batches a process, at most; 0 for all.
        pictures: how many validation pairs to draw.
        trackers: of accelerate, such as "tensorboard" or "wandb", beside `metrics.jsonl`.
        max_skipped: so many steps in a row with a non-finite loss or gradient stop the run.
        progress: whether to show a progress bar where standard error is a terminal.
    """

    log_every: int = 20
    evaluate_every: int = 1000
    batches: int = 0
    pictures: int = 4
    trackers: list[str] = field(default_factory=list)
    max_skipped: int = 5
    progress: bool = True


@dataclass(kw_only=True)
class TrainConfig:
    """A whole run.

    Attributes:
        output: folder of the run; one that holds checkpoints is gone on with.
        task: what is learned.
        model: what learns it.
        data: from what.
        steps: optimizer steps of the whole run.
        optimizer: how weights are updated.
        runtime: how steps are computed.
        saving: what is kept.
        monitoring: what is reported.
        ema: share of the old value kept at each step by the moving average of the weights, which
            is then what is validated and saved as the model; `None` for none.
        seed: decides initial weights, order of data, masks, dropout.
    """

    output: str
    task: Task
    model: ModelOptions
    data: DataOptions
    steps: int
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    saving: SavingOptions = field(default_factory=SavingOptions)
    monitoring: MonitoringOptions = field(default_factory=MonitoringOptions)
    ema: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what types cannot say.

        Raises:
            ValueError: naming the value and the bound.
        """
        counts = {
            "steps": self.steps,
            "runtime.accumulate": self.runtime.accumulate,
            "saving.every": self.saving.every,
            "saving.keep": self.saving.keep,
            "monitoring.log_every": self.monitoring.log_every,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), not {self.ema}")


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
    """Read a run from a YAML file and dotted overrides (`optimizer.learning_rate=3e-4`).

    Raises:
        ValueError: an unknown or missing key, or a value of a wrong type or out of range.
    """
    return options.parse(TrainConfig, options.load(path, overrides))
