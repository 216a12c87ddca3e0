"""Parameters of every published size, by part, against the counts of Meta's code.

    python benchmarks/parameters.py

The wanted counts were taken from Meta's modules (SAM 2.1 configurations). Models are built without numbers.
The temporal adapters (width 32), which SAM-2 does not have, are listed on their own and are not in the total.
"""

from __future__ import annotations

import json

import torch
from rich.console import Console
from rich.table import Table

from samed2.nn import SAMed2Model
from samed2.nn.builders import SAM2_SIZES, sam2_config

COMMON = {
    "memory attention": 5_922_304,
    "memory encoder": 1_384_608,
    "prompt encoder": 6_220,
    "mask decoder": 4_215_109,
    "pointer projection": 197_376,
    "mask downsample": 17,
    "pointer time": 16_448,
}
WANTED = {
    "tiny": {"trunk": 26_849_472, "neck": 369_664, **COMMON},
    "small": {"trunk": 33_947_328, "neck": 369_664, **COMMON},
    "base_plus": {"trunk": 68_675_712, "neck": 431_104, **COMMON},
    "large": {"trunk": 212_149_296, "neck": 553_984, **COMMON},
}
TOTAL_MILLIONS = {"tiny": 38.96, "small": 46.06, "base_plus": 80.85, "large": 224.45}
PARTS = {
    "trunk": "vision_encoder.backbone.",
    "neck": "vision_encoder.neck.",
    "memory attention": "memory_attention.",
    "memory encoder": "memory_encoder.",
    "prompt encoder": "prompt_encoder.",
    "mask decoder": "mask_decoder.",
    "pointer projection": "object_pointer_proj.",
    "mask downsample": "mask_downsample.",
    "pointer time": "temporal_positional_encoding_projection_layer.",
}


def count(size: str, version: str = "2.1") -> dict[str, int]:
    """Parameters by part; "adapters" apart, "total" of all that SAM-2 has."""
    with torch.device("meta"):
        model = SAMed2Model(sam2_config(size, version, adapter_dim=32))
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    adapters = sum(n for name, n in sizes.items() if ".adapter." in name)
    plain = {name: n for name, n in sizes.items() if ".adapter." not in name}
    found = {part: sum(n for name, n in plain.items() if name.startswith(start)) for part, start in PARTS.items()}
    return {**found, "adapters": adapters, "total": sum(plain.values())}


def main() -> None:
    table = Table("part", *(f"{size}: {what}" for size in SAM2_SIZES for what in ("ours", "wanted")))
    found = {size: count(size) for size in SAM2_SIZES}
    for part in PARTS:
        cells = (f"{n:,}" for size in SAM2_SIZES for n in (found[size][part], WANTED[size][part]))
        table.add_row(part, *cells)
    totals = ((f"{found[s]['total'] / 1e6:.2f} M", f"{TOTAL_MILLIONS[s]:.2f} M") for s in SAM2_SIZES)
    table.add_row("total", *(cell for pair in totals for cell in pair))
    table.add_row("adapters (not in total)", *(c for s in SAM2_SIZES for c in (f"{found[s]['adapters']:,}", "")))
    Console(width=160).print(table)
    equal = all(found[size][part] == n for size, parts in WANTED.items() for part, n in parts.items())
    print(json.dumps({"equal": equal, "parameters": found}))


if __name__ == "__main__":
    main()
