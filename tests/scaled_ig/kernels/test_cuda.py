"""The CUDA kernels without a GPU: their values by Triton's interpreter, and builds for GPUs ahead of time."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
import torch

from scaled_ig.field_head import FieldHead
from scaled_ig.kernels import cuda
from scaled_ig.representations import MicroMacro

triton = pytest.importorskip("triton", reason="Triton is not installed: it comes with PyTorch's CUDA build")

INTERPRETED = Path(__file__).with_name("interpreted_cuda.py")
# What a program may have of a multiprocessor's memory (CUDA's programming guide, technical specifications).
SHARED_BYTES = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
EVERYTHING = {"BUFFERS": 32, "LOSS": True, "D_PLANES": True, "D_HEAD": True}
# Kernel, P, precision of planes and of products, and the bytes that a thread may spill: none, but where 16 warps share
# a multiprocessor's registers some.
BUILDS = [
    ("sweep", 24, "fp32", "high", 32),
    ("sweep", 96, "fp32", "high", 96),
    ("sweep", 24, "fp32", "highest", 0),
    ("render", 24, "fp32", "high", 0),
    ("densities", 48, "bf16", "high", 0),
]


def test_values_and_gradients_by_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INTERPRETED)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def launched(kernel, samples, precision):
    """What the host code would launch a kernel with, for the papers' planes and head."""
    planes = torch.empty(32, 3, 64, 64, 32, device="meta")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    options = cuda.options(planes, samples, 64, 4, MicroMacro.AXES["xy-xz-yz"])
    torch.set_float32_matmul_precision(before)
    return options | (EVERYTHING if kernel == "sweep" else {})


def build(capability, kernel, planes, options):
    """Bytes of local memory of a thread, and of shared memory of a program."""
    from scaled_ig.kernels import triton_march

    function = getattr(triton_march, kernel)
    sizes = {name: value for name, value in options.items() if name in function.arg_names}
    others = {name: value for name, value in options.items() if name not in sizes}
    types = dict.fromkeys(function.arg_names, "*fp32") | dict.fromkeys(sizes, "constexpr")
    types |= {"planes": f"*{planes}", "slot": "*i64", "num_rays": "i32", "num_samples": "i32"}
    aligned = {(n,): [["tt.divisibility", 16]] for n, of in enumerate(types.values()) if of.startswith("*")}
    source = triton.compiler.ASTSource(function, types, sizes, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options=others)
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    stack, local = (int(value) for value in re.search(r"STACK:(\d+) .*LOCAL:(\d+)", usage).groups())
    return stack + local, built.metadata.shared


def test_builds_fit_every_generation_of_gpus(tmp_path, monkeypatch):
    """Compiled for A100, L4 and H100: programs find their shared memory, and hardly anything spills."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        builds = [
            (
                f"{kernel} of {samples} samples, {precision}, sm_{capability}",
                capability,
                budget,
                pool.submit(build, capability, kernel, planes, launched(kernel, samples, precision)),
            )
            for capability in SHARED_BYTES
            for kernel, samples, planes, precision, budget in BUILDS
        ]
    for what, capability, budget, done in builds:
        local, shared = done.result()
        assert local <= budget, f"{what}: {local} bytes of local memory"
        assert shared <= SHARED_BYTES[capability], f"{what}: {shared} bytes of shared memory"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_machines_and_planes_are_not_served(dtype):
    """Planes on the CPU are another kernel's, and no GPU is looked for."""
    assert not cuda.serves(torch.zeros(1, 3, 4, 4, 10, dtype=dtype), FieldHead(10, 4, 16))
