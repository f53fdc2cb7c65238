"""Noise2Inverse: patches, network, training and denoising."""

from tango_jit.learn.denoiser import Denoiser, Result
from tango_jit.learn.pair_buffer import PairBuffer
from tango_jit.learn.patches import PatchSampler
from tango_jit.learn.settings import PAPER, PRODUCT, RELEASED, SETTINGS, TrainerSettings
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import NetworkConfig, UNet, build
from tango_jit.learn.weights import Weights

__all__ = [
    "PAPER",
    "PRODUCT",
    "RELEASED",
    "SETTINGS",
    "Denoiser",
    "NetworkConfig",
    "PairBuffer",
    "PatchSampler",
    "Result",
    "Trainer",
    "TrainerSettings",
    "UNet",
    "Weights",
    "build",
]
