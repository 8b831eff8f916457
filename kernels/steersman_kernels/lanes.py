"""Threads of a warp: what a kernel's program has of them decides how wide its loads are."""

import torch

LANES = 64 if torch.version.hip else 32
"""AMD's accelerators (CDNA) run 64 threads at a time, NVIDIA's GPUs 32."""
