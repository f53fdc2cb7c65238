"""Noise2Inverse: patches, network, training and denoising."""
