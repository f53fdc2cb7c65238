"""Counter-based random numbers, and counts of photons made from them (numba).

Philox4x32-10 (Salmon et al., SC 2011) turns a key (seed) and a counter (pixel, frame, purpose, attempt) into four
random words. So every pixel of every frame has its own numbers, whatever order or thread they are made in, and any
frame can be made again by itself.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, uint32, uint64

EXACT_BELOW = 1000.0  # photons; above, the normal distribution with its first correction for skewness
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn", "nnan", "ninf"}
_TO_UNIT = 2.0**-32
QUANTA, READOUT, FLICKER = range(3)  # purposes: numbers of different ones are independent


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def philox(c0, c1, c2, c3, key):
    """Four random uint32 from a counter of four and a key of 64 bits."""
    k0, k1 = uint64(key & uint64(0xFFFFFFFF)), uint64(key >> uint64(32))
    x0, x1, x2, x3 = uint64(c0), uint64(c1), uint64(c2), uint64(c3)
    low = uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = uint64(0xD2511F53) * x0, uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (p1 >> uint64(32)) ^ x1 ^ k0, p1 & low, (p0 >> uint64(32)) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + uint64(0x9E3779B9)) & low, (k1 + uint64(0xBB67AE85)) & low
    return uint32(x0), uint32(x1), uint32(x2), uint32(x3)


@njit(error_model="numpy", nogil=True, cache=True, inline="always")
def _unit(word):
    """A random word as a number between 0 and 1, never either."""
    return (np.float64(word) + 0.5) * _TO_UNIT


@njit(error_model="numpy", nogil=True, cache=True)
def normal(pixel, frame, purpose, key):
    """A standard normal number (Box and Muller)."""
    w0, w1, _, _ = philox(pixel, frame, purpose, 0, key)
    return math.sqrt(-2 * math.log(_unit(w0))) * math.cos(2 * math.pi * _unit(w1))


@njit(error_model="numpy", nogil=True, cache=True)
def _normals(row, cols, frame, purpose, key, out):
    """Standard normal numbers (cols,) for a row of pixels: four from each counter."""
    for first in range(0, cols, 4):
        words = philox(row * cols + first, frame, purpose, 0, key)
        for half in range(2):
            w0, w1 = (words[0], words[1]) if half == 0 else (words[2], words[3])
            length, turn = math.sqrt(-2 * math.log(_unit(w0))), 2 * math.pi * _unit(w1)
            place = first + 2 * half
            if place < cols:
                out[place] = length * math.cos(turn)
            if place + 1 < cols:
                out[place + 1] = length * math.sin(turn)


@njit(error_model="numpy", nogil=True, cache=True)
def poisson(mean, pixel, frame, key):
    """A Poisson count: exact below EXACT_BELOW, above it the Cornish-Fisher expansion to first order.

    Inversion below 10, else transformed rejection (Hörmann 1993, PTRS). At 1,000 the expansion has the right mean and
    variance, and its distribution function is within 2e-4 of the exact one.
    """
    if mean <= 0:
        return 0.0
    if mean >= EXACT_BELOW:
        z = normal(pixel, frame, QUANTA, key)
        return math.floor(mean + math.sqrt(mean) * z + (z * z - 1) / 6 + 0.5)
    if mean < 10:
        w0, w1, _, _ = philox(pixel, frame, QUANTA, 0, key)
        left = (np.float64(w0) + (np.float64(w1) + 0.5) * _TO_UNIT) * _TO_UNIT
        chance, count = math.exp(-mean), 0.0
        while left > chance and count < 200:
            left -= chance
            count += 1
            chance *= mean / count
        return count
    log_mean = math.log(mean)
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    attempt = 0
    while True:
        words = philox(pixel, frame, QUANTA, attempt, key)
        attempt += 1
        for half in range(2):
            u, v = (_unit(words[0]), _unit(words[1])) if half == 0 else (_unit(words[2]), _unit(words[3]))
            u -= 0.5
            s = 0.5 - abs(u)
            k = math.floor((2 * a / s + b) * u + mean + 0.43)
            if s >= 0.07 and v <= v_r:
                return k
            if k < 0 or (s < 0.013 and v > s):
                continue
            if math.log(v * inverse_alpha / (a / (s * s) + b)) <= k * log_mean - mean - math.lgamma(k + 1):
                return k


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def count(workers, mean, frame, key, out):
    """Fill `out` (rows, cols) float32 with Poisson counts of `mean` (rows, cols)."""
    rows, cols = mean.shape
    for worker in prange(workers):
        for row in range(worker, rows, workers):
            for col in range(cols):
                out[row, col] = poisson(mean[row, col], row * cols + col, frame, key)


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _rough_normals(row, cols, frame, purpose, key, out):
    """Standard normal numbers (cols,), roughly: the sum of eight 16-bit uniform ones (kurtosis -0.15, |z| < 4.9)."""
    for col in range(cols):
        w0, w1, w2, w3 = philox(row * cols + col, frame, purpose, 0, key)
        total = np.int32(0)
        total += np.int32(w0 & 0xFFFF) + np.int32(w0 >> 16) + np.int32(w1 & 0xFFFF) + np.int32(w1 >> 16)
        total += np.int32(w2 & 0xFFFF) + np.int32(w2 >> 16) + np.int32(w3 & 0xFFFF) + np.int32(w3 >> 16)
        out[col] = (np.float32(total) - np.float32(4 * 65535)) * np.float32(math.sqrt(12 / 8) / 65536)


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _rough_counts(mean, z, out):
    for col in range(len(out)):
        m = mean[col]
        out[col] = max(m + np.sqrt(m) * z[col] + (z[col] * z[col] - np.float32(1)) * np.float32(1 / 6), np.float32(0))


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def count_roughly(workers, mean, frame, key, out):
    """As `count`, several times faster: `mean` plus roughly normal noise of the same variance, not below 0."""
    rows, cols = mean.shape
    for worker in prange(workers):
        z = np.empty(cols, np.float32)
        for row in range(worker, rows, workers):
            _rough_normals(row, cols, frame, QUANTA, key, z)
            _rough_counts(mean[row], z, out[row])


@njit(error_model="numpy", nogil=True, cache=True, parallel=True)
def read_out(workers, light, gain, wander, drift, offset, readout, spread, frame, key, rough, out):
    """Turn quanta into what a camera stores: `out` (rows, cols) uint16.

    `light` (rows, cols): quanta; each gives `spread` of its light to either neighbour along rows, and along columns.
    `gain + drift wander` (rows, cols): counts for one quantum's light; `offset` (rows, cols): counts without any.
    `readout`: standard deviation of the electronic noise, in counts.
    """
    rows, cols = light.shape
    for worker in prange(workers):
        tall, blurred = np.empty(cols + 2, np.float32), np.empty(cols, np.float32)
        z = np.empty(cols, np.float32)
        for row in range(worker, rows, workers):
            _blur_row(light[max(row - 1, 0)], light[row], light[min(row + 1, rows - 1)], spread, tall, blurred)
            if rough:
                _rough_normals(row, cols, frame, READOUT, key, z)
            else:
                _normals(row, cols, frame, READOUT, key, z)
            _quantise(blurred, gain[row], wander[row], drift, offset[row], readout, z, out[row])


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _blur_row(below, here, above, spread, tall, out):
    cols, stays = len(out), np.float32(1) - np.float32(2) * spread
    for col in range(cols):
        tall[col + 1] = stays * here[col] + spread * (below[col] + above[col])
    tall[0], tall[cols + 1] = tall[1], tall[cols]  # what the last pixels lose is given by neighbours beyond the edge
    for col in range(cols):
        out[col] = stays * tall[col + 1] + spread * (tall[col] + tall[col + 2])


@njit(error_model="numpy", fastmath=_FAST, nogil=True, cache=True)
def _quantise(light, gain, wander, drift, offset, readout, z, out):
    for col in range(len(out)):
        value = light[col] * (gain[col] + drift * wander[col]) + offset[col] + readout * z[col]
        out[col] = np.uint16(min(max(value + np.float32(0.5), np.float32(0)), np.float32(65535)))
