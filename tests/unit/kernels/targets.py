"""The kernels as compilers for GPUs make them, on a machine without one.

Triton compiles for a target that is named, and its wheel carries NVIDIA's assembler. What a kernel
is compiled with is found by the names of its arguments: a new kernel needs a line in `VARIANTS`, a
new argument one in `TYPES`.
"""

import importlib
import itertools
import multiprocessing
import os
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import steersman_kernels
from steersman_kernels.layout import FINGERPRINT, SEGMENT_ENDS

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

_ROW = ("stride", "size", "columns", "width")
"""How numbers are called that are multiples of 16 where rows are."""

MODEL = ("bf16", "fp16", "fp32")
"""What the numbers of a model can be."""

TYPES: dict[str, tuple[str, ...]] = {
    # Of the model's type, all of one call alike.
    **dict.fromkeys(("hidden_ptr", "bank_ptr", "output_ptr", "input_ptr"), ("*model",)),
    "logits_ptr": ("*model",),
    # The drawn tokens: of the sampler's type.
    "sampled_ptr": ("*i32", "*i64"),
    **dict.fromkeys(("positions_ptr", "rows_ptr", "logit_rows_ptr"), ("*i64",)),
    **dict.fromkeys(("bank_rows_ptr", "slots_ptr", "query_start_ptr", "token_ids_ptr"), ("*i32",)),
    **dict.fromkeys(("requests_ptr", "ints_ptr", "recent_ptr", "runs_ptr"), ("*i32",)),
    **dict.fromkeys(("nudge_ptr", "ends_ptr", "start_ptr", "end_ptr", "implicit_ptr"), ("*i32",)),
    **dict.fromkeys(("closing_ptr", "stops_ptr"), ("*i32",)),
    **dict.fromkeys(("coef_ptr", "read_ptr", "write_ptr", "parts_ptr", "out_ptr"), ("*fp32",)),
    **dict.fromkeys(("floats_ptr", "window_ptr", "strengths_ptr"), ("*fp32",)),
    **dict.fromkeys(("statistics_ptr", "track_ptr"), ("*fp32",)),
    "boundary_ptr": ("*i1",),
    # Whatever else is a number of the host's: strides, sizes, lengths, tokens.
    "": ("i32",),
}


class Variant(NamedTuple):
    """Compile-time arguments with which a kernel is launched.

    Attributes:
        constants: By name.
        warps: Warps of a program.
        threads: Threads of a program, where the number of warps follows from them.
        streams: Whether it reads whole rows, 16 bytes at a time.

    """

    constants: Mapping[str, Any]
    warps: int = 4
    threads: int | None = None
    streams: bool = False


_LAYOUT = {"LAYOUT": FINGERPRINT}

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "_steer_kernel": (
        Variant({"BLOCK": 256}, warps=1),
        Variant({"BLOCK": 4096}, warps=8, streams=True),
    ),
    "_project_kernel": (Variant({"BLOCK": 1024}, threads=128, streams=True),),
    "_parts_kernel": (Variant({"BLOCK": 1024}, threads=128, streams=True),),
    # Of powers of two up to 256: the ends and the middle.
    "_whole_kernel": tuple(Variant({"BLOCK": 2**power, **_LAYOUT}, warps=1) for power in (0, 4, 8)),
    "_gate_kernel": (Variant({"BLOCK": 512, **_LAYOUT}, warps=8),),
    "_govern_kernel": (Variant(_LAYOUT, warps=1),),
    "_forbid_stops_kernel": (Variant({"BLOCK": 1024, **_LAYOUT}, threads=128, streams=True),),
    "_coefficients_kernel": (
        Variant({"BLOCK": 128, "BITS": SEGMENT_ENDS.bit_length(), **_LAYOUT}, warps=1),
    ),
}


class Case(NamedTuple):
    """One thing to compile.

    Attributes:
        module: The module of the kernel.
        kernel: Its name.
        variant: Its place in `VARIANTS`.
        types: Of its arguments, in Triton's notation, in their order; `constexpr` for constants.
        aligned: Whether rows, strides and sizes are multiples of 16.
        target: One of `TARGETS`.

    """

    module: str
    kernel: str
    variant: int
    types: tuple[str, ...]
    aligned: bool
    target: str

    @property
    def streams(self) -> bool:
        return self.aligned and VARIANTS[self.kernel][self.variant].streams


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a compiled kernel.

    Attributes:
        registers: Of a thread; on AMD the vector ones.
        spills: Registers that found no place.
        stack: Bytes of memory of its own that a thread needs.
        loads: Bytes that a thread loads from the GPU's memory at a time, where these are several
            numbers.

    """

    registers: int
    spills: int
    stack: int
    loads: frozenset[int]


def kernels() -> Iterator[tuple[str, str]]:
    """The module and the name of every kernel that is launched."""
    for found in pkgutil.iter_modules(steersman_kernels.__path__, "steersman_kernels."):
        for name, value in vars(importlib.import_module(found.name)).items():
            own = getattr(value, "__module__", None) == found.name
            if own and isinstance(value, triton.JITFunction) and name.endswith("_kernel"):
                yield found.name, name


def cases() -> list[Case]:
    """Every kernel with every type that each argument can have, for every target.

    Combinations of two arguments' types, and rows that are not aligned, need not each be compiled
    for all targets: those of one are divided among them.
    """
    return [
        Case(module, kernel, number, types, aligned, target)
        for module, kernel in kernels()
        for number, variant in enumerate(VARIANTS[kernel])
        for types, aligned, target in _divided(
            list(_types(getattr(importlib.import_module(module), kernel), variant)), variant
        )
    ]


def _divided(
    types: list[list[tuple[str, ...]]], variant: Variant
) -> Iterator[tuple[tuple[str, ...], bool, str]]:
    """Types, whether rows are aligned, and the target."""
    for number, target in enumerate(TARGETS):
        for place, choices in enumerate(types):
            yield choices[(number + place) % len(choices)], True, target
        if variant.streams:
            yield types[number % len(types)][0], False, target


def _types(kernel: Any, variant: Variant) -> Iterator[list[tuple[str, ...]]]:
    """For each type of a model, the types of the arguments in every combination."""
    names = [name for name in kernel.arg_names if name not in variant.constants]
    for name in names:
        if name.endswith("_ptr") and name not in TYPES:
            raise KeyError(f"TYPES has no line for {name} of {kernel.__name__}")
    choices = [TYPES.get(name, TYPES[""]) for name in names]
    models = MODEL if any("*model" in choice for choice in choices) else ("none",)
    for model in models:
        combinations = [
            dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*choices)
        ]
        yield [
            tuple(own.get(name, "constexpr").replace("model", model) for name in kernel.arg_names)
            for own in combinations
        ]


def compiled(case: Case, **options: int) -> Usage:
    """Compile for a target, with options of Triton's, and read what the result needs."""
    kernel = getattr(importlib.import_module(case.module), case.kernel)
    variant = VARIANTS[case.kernel][case.variant]
    signature = dict(zip(kernel.arg_names, case.types, strict=True))
    wide = [
        place
        for place, (name, type_) in enumerate(signature.items())
        if type_ != "constexpr"
        and not kernel.params[place].do_not_specialize
        and (type_.startswith("*") or (case.aligned and name.endswith(_ROW)))
    ]
    attributes = {(place,): [["tt.divisibility", 16]] for place in wide}
    source = ASTSource(kernel, signature, dict(variant.constants), attributes)
    target = TARGETS[case.target]
    warps = variant.threads // target.warp_size if variant.threads else variant.warps
    asm = triton.compile(source, target=target, options={"num_warps": warps, **options}).asm
    return _of_amd(asm["amdgcn"]) if target.backend == "hip" else _of_nvidia(asm)


def all_compiled(chosen: Sequence[Case], cache: Path, workers: int = 2) -> dict[Case, Usage]:
    """Compile many, in processes of their own, in which no kernel is interpreted.

    Args:
        chosen: What to compile.
        cache: Where Triton may keep what it compiled.
        workers: Processes at a time.

    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(cache,)) as pool:
        return dict(zip(chosen, pool.map(compiled, chosen, chunksize=8), strict=True))


def _prepare(cache: Path) -> None:
    os.environ["TRITON_CACHE_DIR"] = str(cache)
    os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"  # as now without it, but then it warns
    assert "TRITON_INTERPRET" not in os.environ, "the kernels would be interpreted"


def _of_nvidia(asm: Mapping[str, Any]) -> Usage:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        command = [tool, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}
    loads = re.findall(r"ld\.global[\w:.]*\.v(\d)\.[bfsu](\d+)\b", asm["ptx"])
    widths = frozenset(int(count) * int(bits) // 8 for count, bits in loads)
    # Spilled registers go into memory of the thread's own, as the stack does.
    return Usage(usage["REG"], usage["LOCAL"], usage["STACK"], widths)


def _of_amd(assembly: str) -> Usage:
    def said(name: str) -> int:
        return int(re.search(rf"\.{name}:\s*(\d+)", assembly)[1])  # type: ignore[index]

    loads = re.findall(r"(?:global|buffer)_load_dwordx(\d)", assembly)
    return Usage(
        said("vgpr_count"),
        said("vgpr_spill_count") + said("sgpr_spill_count"),
        said("private_segment_fixed_size"),
        frozenset(4 * int(words) for words in loads),
    )
