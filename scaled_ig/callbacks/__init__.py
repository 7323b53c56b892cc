"""What happens beside training: evaluation, costs, logs."""

from scaled_ig.callbacks.clock import TrainingClock
from scaled_ig.callbacks.dashboard import Dashboard
from scaled_ig.callbacks.evaluation import Evaluation
from scaled_ig.callbacks.metrics_log import MetricsLog
from scaled_ig.callbacks.plateau import Plateau, PlateauStop
from scaled_ig.callbacks.progress import PhaseProgress
from scaled_ig.callbacks.run_log import Beginning, RunLog
from scaled_ig.callbacks.run_logger import RunLogger

__all__ = [
    "Beginning",
    "Dashboard",
    "Evaluation",
    "MetricsLog",
    "PhaseProgress",
    "Plateau",
    "PlateauStop",
    "RunLog",
    "RunLogger",
    "TrainingClock",
]
