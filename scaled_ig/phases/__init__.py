"""The training phases, in the one order in which they run."""

from scaled_ig.phases.autoencoder import AutoencoderTraining
from scaled_ig.phases.base import AdamSettings, LearningRates, Phase, RunSettings
from scaled_ig.phases.distillation import Distillation, DistillationWeights
from scaled_ig.phases.joint import Joint, JointWeights
from scaled_ig.phases.latent_supervision import LatentSupervision
from scaled_ig.phases.rgb_alignment import RgbAlignment
from scaled_ig.phases.warm_up import WarmUp

__all__ = [
    "AdamSettings",
    "AutoencoderTraining",
    "Distillation",
    "DistillationWeights",
    "Joint",
    "JointWeights",
    "LatentSupervision",
    "LearningRates",
    "Phase",
    "RgbAlignment",
    "RunSettings",
    "WarmUp",
]
