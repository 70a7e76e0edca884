"""Models as files that run without this library: ONNX, torch.export and AOTInductor packages."""

from .exporting import FORMATS as FORMATS
from .exporting import StereoGraph as StereoGraph
from .exporting import capture as capture
from .exporting import compare as compare
from .exporting import export_model as export_model
from .exporting import output_names as output_names
from .running import run_exported as run_exported
