"""Training: a typed configuration, one page of loop, and tasks for CroCo and DUSt3R."""

from .completion import CompletionTask as CompletionTask
from .config import TrainConfig as TrainConfig
from .config import load_config as load_config
from .loop import Run as Run
from .loop import evaluate as evaluate
from .loop import save as save
from .loop import setup as setup
from .loop import step as step
from .loop import train as train
from .options import Choice as Choice
from .skipping import TooManySkippedError as TooManySkippedError
from .stereo import StereoTask as StereoTask
from .tasks import Task as Task
from .terms import LossTerm as LossTerm
from .tracking import JsonLinesTracker as JsonLinesTracker
