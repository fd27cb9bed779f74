"""The limit of the machine: heavy ball as a C loop in place, one pass over memory on all cores."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCE = r"""
#include <pthread.h>

typedef struct { const float *g; float *v, *x; long n; float rate, beta; } part;

static void *step(void *given) {
    const part *p = given;
    const float *restrict g = p->g;
    float *restrict v = p->v, *restrict x = p->x;
    const float rate = p->rate, beta = p->beta;
    for (long i = 0; i < p->n; i++) {
        v[i] = beta * v[i] + g[i];
        x[i] -= rate * v[i];
    }
    return 0;
}

void heavy_ball(const float *g, float *v, float *x, long n, float rate, float beta, int threads) {
    pthread_t others[64];
    part parts[64];
    if (threads > 64) threads = 64;
    for (int k = 0; k < threads; k++) {
        long from = n * k / threads, to = n * (k + 1) / threads;
        parts[k] = (part){g + from, v + from, x + from, to - from, rate, beta};
        if (k) pthread_create(&others[k], 0, step, &parts[k]);
    }
    step(&parts[0]);
    for (int k = 1; k < threads; k++) pthread_join(others[k], 0);
}
"""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Loop:
    """Arrays g, v and θ of one size, and the step that reads or writes each of them once."""

    def __init__(self, size: int):
        compiler = shutil.which("cc")
        if compiler is None:
            raise ImportError("there is no C compiler called cc, so nothing is compared to C")
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "limit.c"), Path(folder, "limit.so")
            source.write_text(SOURCE, encoding="utf-8")
            options = ["-O3", "-march=native", "-shared", "-fPIC", "-pthread"]
            command = [compiler, *options, str(source), "-o", str(library)]
            subprocess.run(command, check=True, capture_output=True)
            self._step = ctypes.CDLL(str(library)).heavy_ball
        self.g = np.full(size, 0.01, np.float32)
        self.v = np.zeros(size, np.float32)
        self.x = np.ones(size, np.float32)
        self._given = (
            *(array.ctypes.data_as(ctypes.c_void_p) for array in (self.g, self.v, self.x)),
            ctypes.c_long(size),
            ctypes.c_float(1e-4),
            ctypes.c_float(0.9),
            ctypes.c_int(cores()),
        )
        self.v += 0  # So that both are in memory before the first step.
        self.x += 0

    def step(self) -> None:
        """v ← β v + g, θ ← θ − α v."""
        self._step(*self._given)
