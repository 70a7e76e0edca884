"""The training loop: `setup`, `step`, `evaluate` and `save`, and `train`, which calls them.

A step is a function of the run's state and the step's number: chance is seeded anew by (seed,
step, rank), batches are numbered, the learning rate is computed. So a run that was killed and goes
on from its last checkpoint ends with bitwise the weights it would have had.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from . import checkpoints, export, records
from .config import TrainConfig
from .datasets import train_loader, validation_loader
from .distributed import (
    all_finite,
    make_accelerator,
    mean_over_processes,
    seed_step,
    steps_in_backward,
)
from .optimizers import (
    MovingAverage,
    learning_rate,
    make_optimizer,
    masters_of,
    set_learning_rate,
)
from .progress import Progress
from .skipping import SkippedSteps
from .tasks import Batch, to_device


@dataclass
class Run:
    """All of a run's state.

    Attributes:
        config: what was asked for.
        accelerator: runs the model on one or more processes.
        model: as accelerate prepared it.
        optimizer: as accelerate prepared it.
        average: moving average of the weights, `None` without.
        skipped: watches over non-finite losses and gradients.
        validation: batches to measure on, `None` without.
        baselines: metrics of trivial predictions, once measured.
        step: how many steps have been made.
        best: lowest value of the task's monitored metric so far.
    """

    config: TrainConfig
    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    average: MovingAverage | None
    skipped: SkippedSteps
    validation: DataLoader | None
    baselines: dict[str, float]
    step: int = 0
    best: float = float("inf")

    @property
    def output(self) -> Path:
        """The folder of the run."""
        return Path(self.config.output)


def setup(config: TrainConfig) -> Run:
    """Build everything; go on from the last checkpoint in the output folder if there is one."""
    accelerator = make_accelerator(config)
    newest = checkpoints.latest(Path(config.output) / "checkpoints")
    torch.manual_seed(config.seed)
    model = config.model.build(weights=newest is None).to(accelerator.device)
    if config.runtime.activation_checkpointing:
        model.activation_checkpointing_enable()  # pyright: ignore[reportCallIssue]
    if config.runtime.precision == "bf16_weights":
        model.to(torch.bfloat16)
    if config.runtime.compile:
        model.compile()
    optimizer = make_optimizer(model, config.optimizer, config.runtime.precision)
    model, optimizer = accelerator.prepare(model, optimizer)
    trained = [p for p in model.parameters() if p.requires_grad]
    average = None if config.ema is None else MovingAverage(trained, config.ema)
    skipped = SkippedSteps(Path(config.output) / "skipped", config.monitoring.max_skipped)
    validation = validation_loader(config.data, accelerator, config.monitoring.batches)
    run = Run(config, accelerator, model, optimizer, average, skipped, validation, {})
    if newest is not None:
        state = checkpoints.read(accelerator, newest)
        run.step, run.best = state["step"], state["best"]
        skipped.in_a_row = state["skipped"]
        if average is not None:
            average.load_state_dict(state["average"])
    records.begin(run)
    return run


def train(config: TrainConfig) -> Run:
    """Train from the beginning, or from the last checkpoint, to the end."""
    run = setup(config)
    monitoring, saving = config.monitoring, config.saving
    start, stop = (n * config.runtime.accumulate for n in (run.step, config.steps))
    batches = iter(train_loader(config.data, run.accelerator, start, stop, config.seed))
    progress = Progress(run.accelerator, run.step, config.steps, monitoring.progress)
    while run.step < config.steps:
        taken = [next(batches) for _ in range(config.runtime.accumulate)]
        progress.add(step(run, taken), config.task.pairs(taken))
        last = run.step == config.steps
        if last or run.step % monitoring.log_every == 0:
            records.log(run, progress.flush())
        with progress.paused():
            if last or due(run.step, monitoring.evaluate_every):
                records.report(run, evaluate(run))
            if due(run.step, saving.milestones):
                export.save_model(run, run.output / "models" / f"step-{run.step:08d}")
            if last or due(run.step, saving.every):
                save(run)
    progress.close()
    export.finish(run)
    return run


def step(run: Run, batches: list[Batch]) -> dict[str, Tensor]:
    """Make one optimizer step from as many batches as forward passes are accumulated.

    Returns:
        Figures to log: the loss and its parts, the norm of the gradient and the learning rate. A
        step is skipped on all processes if a loss or the gradient is not finite on any; its
        gradient's norm is NaN or infinite then.
    """
    config, accelerator, task = run.config, run.accelerator, run.config.task
    seed_step(config.seed, run.step, accelerator.process_index)
    rate = learning_rate(run.step, config.steps, config.optimizer)
    set_learning_rate(run.optimizer, rate)
    run.model.train()
    figures: dict[str, Tensor] = {}
    sound = True
    for batch in batches:
        # Entered even after a broken loss, since it counts the passes up to a full step.
        with accelerator.accumulate(run.model):
            if not sound and not steps_in_backward(accelerator):
                continue
            arranged = task.prepare(to_device(batch, accelerator.device))
            loss = task.loss(run.model, arranged, run.step / config.steps)
            if all_finite(accelerator, loss.total):
                add_figures(figures, {"loss": loss.total, **loss.parts}, len(batches))
            else:
                sound = False
                run.skipped.report(run, batch, loss.total)
            propagate(accelerator, loss.total, sound)
    norm = clip_gradient(run) if sound else torch.tensor(float("nan"))
    sound = sound and run.skipped.accepts(run, norm, batches)
    update(run, sound)
    run.step += 1
    run.skipped.count(sound)
    return {**figures, "gradient_norm": norm, "learning_rate": torch.tensor(rate)}


def propagate(accelerator: Accelerator, loss: Tensor, sound: bool) -> None:
    """Add the gradient of a pass, unless the step is given up."""
    if sound:
        accelerator.backward(loss)
    elif steps_in_backward(accelerator):
        # Which also drops the gradients of the passes before.
        accelerator.backward(loss * float("nan"))


def clip_gradient(run: Run) -> Tensor:
    """Clip the gradient of the whole model and give its norm before."""
    limit = run.config.optimizer.clip
    trained = [p for p in run.model.parameters() if p.requires_grad]
    norm = run.accelerator.clip_grad_norm_(trained, float("inf") if limit is None else limit)
    return torch.tensor(float("nan")) if norm is None else torch.as_tensor(norm).detach()


def update(run: Run, sound: bool) -> None:
    """Move the weights and their average, unless the gradient is not sound."""
    if sound:
        run.optimizer.step()
    run.optimizer.zero_grad()
    if sound and run.average is not None:
        run.average.update(masters_of(run.optimizer.optimizer))


@torch.no_grad()
def evaluate(run: Run) -> dict[str, float]:
    """Measure the model, or its moving average, on the validation data of all processes.

    A model better than all before is saved as `best`.
    """
    if run.validation is None:
        return {}
    task, accelerator = run.config.task, run.accelerator
    run.model.eval()
    # Random masks are the same at each validation; the next step seeds anew.
    seed_step(run.config.seed, 0, accelerator.process_index)
    values: dict[str, list[Tensor]] = {}
    # Compiling anew for evaluation costs minutes and saves seconds.
    eager = torch.compiler.set_stance("force_eager")
    with eager, run.average.applied() if run.average else nullcontext():
        for number, batch in enumerate(prepared(run, run.validation)):
            for name, value in task.metrics(run.model, batch).items():
                values.setdefault(name, []).append(value)
            if number == 0:
                records.draw(run, batch)
    if not run.baselines:
        found = task.baselines(lambda: prepared(run, run.validation or []))
        run.baselines = mean_over_processes(accelerator, found)
    metrics = mean_over_processes(accelerator, {k: torch.cat(v) for k, v in values.items()})
    if metrics[task.monitor] < run.best:
        run.best = metrics[task.monitor]
        export.save_model(run, run.output / "best")
    return metrics


def save(run: Run) -> None:
    """Write a checkpoint to go on from, and drop old ones."""
    average = None if run.average is None else run.average.state_dict()
    state = {
        "step": run.step,
        "best": run.best,
        "skipped": run.skipped.in_a_row,
        "average": average,
    }
    root = run.output / "checkpoints"
    checkpoints.write(run.accelerator, root, run.step, state, run.config.saving.keep)


def prepared(run: Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Bring batches to the device, arranged for the task."""
    for batch in batches:
        yield run.config.task.prepare(to_device(batch, run.accelerator.device))


def due(number: int, every: int) -> bool:
    """Whether something done every so many steps is due; never if `every` is 0."""
    return every > 0 and number % every == 0


def add_figures(figures: dict[str, Tensor], values: dict[str, Tensor], passes: int) -> None:
    """Average figures over the accumulated passes of a step."""
    for name, value in values.items():
        share = value.detach().float() / passes
        figures[name] = figures[name] + share if name in figures else share
