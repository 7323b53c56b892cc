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

from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import cuda
from scaled_ig.representations import MicroMacro

triton = pytest.importorskip("triton", reason="Triton is not installed: it comes with PyTorch's CUDA build")

INTERPRETED = Path(__file__).with_name("interpreted_cuda.py")
# What a program may have of a multiprocessor's memory (CUDA's programming guide, technical specifications).
SHARED_BYTES = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
EVERYTHING = {"BUFFERS": 32, "LOSS": True, "OPACITY": 1.0, "D_PLANES": True, "D_HEAD": True}
# Kernel, P, precision of planes and of products, cells along a side of hulls.
BUILDS = [
    ("sweep", 24, "fp32", "high", 0),
    ("sweep", 48, "fp32", "high", 64),
    ("sweep", 96, "fp32", "high", 0),
    ("sweep", 24, "fp32", "highest", 0),
    ("render", 24, "fp32", "high", 64),
    ("densities", 48, "bf16", "high", 0),
]
# How many registers spill is the compiler's choice, another one in each of its versions (Triton 3.6 to 3.9: none to 19%
# of them). What it costs is not: bytes that go to the first cache and back. A quarter of the 128 to 255 registers are
# 256 to 510 bytes, fewer than the 576 to 768 of texels that a thread of a sweep reads and of gradients that it adds.
SPILLED = 0.25


@pytest.mark.slow("Triton's interpreter")
def test_values_and_gradients_by_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INTERPRETED)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def launched(kernel, samples, precision, cells=0):
    """What the host code would launch a kernel with, for the papers' planes and head."""
    planes = torch.empty(32, 3, 64, 64, 32, device="meta")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    options = cuda.options(planes, samples, 64, 4, MicroMacro.AXES["xy-xz-yz"], cells)
    torch.set_float32_matmul_precision(before)
    return options | (EVERYTHING if kernel == "sweep" else {})


def build(capability, kernel, planes, options):
    """Bytes of local memory over those of registers, of a thread; bytes of shared memory of a program."""
    from scaled_ig.rendering.kernels import triton_march

    function = getattr(triton_march, kernel)
    sizes = {name: value for name, value in options.items() if name in function.arg_names}
    others = {name: value for name, value in options.items() if name not in sizes}
    types = dict.fromkeys(function.arg_names, "*fp32") | dict.fromkeys(sizes, "constexpr")
    types |= {"planes": f"*{planes}", "slot": "*i64", "hulls": "*u8", "num_rays": "i32", "num_samples": "i32"}
    aligned = {(n,): [["tt.divisibility", 16]] for n, of in enumerate(types.values()) if of.startswith("*")}
    source = triton.compiler.ASTSource(function, types, sizes, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options=others)
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return (used["STACK"] + used["LOCAL"]) / (4 * used["REG"]), built.metadata.shared


@pytest.mark.slow("kernels are compiled for every generation of GPUs")
def test_builds_fit_every_generation_of_gpus(tmp_path, monkeypatch):
    """Compiled for A100, L4 and H100: programs find their shared memory, and little spills."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    too_few = launched("sweep", 24, "high") | {"maxnreg": 64}
    with ThreadPoolExecutor(2) as pool:
        cramped = pool.submit(build, 80, "sweep", "fp32", too_few)
        builds = [
            (
                f"{kernel} of {samples} samples, {precision}, {cells} cells, sm_{capability}",
                capability,
                pool.submit(build, capability, kernel, planes, launched(kernel, samples, precision, cells)),
            )
            for capability in SHARED_BYTES
            for kernel, samples, planes, precision, cells in BUILDS
        ]
    for what, capability, done in builds:
        spilled, shared = done.result()
        assert spilled <= SPILLED, f"{what}: {spilled:.0%} of the registers' bytes spill"
        assert shared <= SHARED_BYTES[capability], f"{what}: {shared} bytes of shared memory"
    assert cramped.result()[0] > SPILLED, "half of the registers are too few, and that must be seen"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_machines_and_planes_are_not_served(dtype):
    """Planes on the CPU are another kernel's, and no GPU is looked for."""
    assert not cuda.serves(torch.zeros(1, 3, 4, 4, 10, dtype=dtype), FieldHead(10, 4, 16))
