"""A vision tower over two ranks by head, by image and by patch, against one rank with two threads, in turns.

    python -m benchmarks.vision_parallel                        small; one large screen, four smaller ones; two minutes
    python -m benchmarks.vision_parallel --size tiny --repetitions 1 --side 16     whether it works
    python -m benchmarks.vision_parallel --table docs/parallel.md    only writes the table of the result into that page

Times are of the tower alone, on the published layout with random weights. The ranks share memory, a thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from autoglm.engine import EngineConfig
from autoglm.engine.ranks.fast import quickened
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.loading import load_checkpoint
from autoglm.model.patches import VisionParallel
from autoglm.model.sharding import shard
from autoglm.model.vision import Grid
from autoglm.parallel.launch import loopback_only, open_store
from autoglm.parallel.mesh import Mesh, Place, join_mesh
from autoglm.synthetic import make_checkpoint
from benchmarks import results
from benchmarks.checkpoints import kept
from benchmarks.namespaces import outputs
from benchmarks.rows import RESULTS, ROOT, add_table_option, finished, row, table, wrote_table

RESULT = RESULTS / "vision_parallel.json"
RANKS = 2
ONE = "1 rank, 2 threads"
_LIMIT = 300.0
Times = dict[str, dict[str, list[float]]]
"""Seconds by case and subject."""


def main() -> int:
    """Measure and write the result, or be one of the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", help="tiny, small, mid (default: small)")
    parser.add_argument("--side", type=int, default=56, help="patches of the large screen along its short side")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="checkpoints")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if wrote_table(options, "vision"):
        return 0
    checkpoint = options.cache / "checkpoints" / options.size
    if options.rank is not None:
        found = _on_rank(options, checkpoint)
        if options.rank == 0:
            print(json.dumps(found))
        return 0
    kept(checkpoint, lambda path: make_checkpoint(path, options.size))
    load = os.getloadavg()[0]
    rows = []
    for case, subjects in _from_ranks().items():
        base = [s * 1e3 for s in subjects[ONE]]
        for subject, seconds in subjects.items():
            values = [s * 1e3 for s in seconds]
            beside: dict[str, Any] = {} if subject == ONE else {"baseline": ONE, "against": base}
            rows.append(row(case, subject, "time", values, "ms", size=options.size, **beside))
    settings = {"repetitions": str(options.repetitions), "patches": f"{options.side} x {2 * options.side}"}
    result = finished("vision_parallel", rows, settings, load)
    results.write(result, options.out)
    print(table(result))
    return 0


def _from_ranks() -> Times:
    """Start both ranks with this command's own arguments; what rank 0 found. Raises :class:`RuntimeError`."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*sys.argv[1:], "--store", f"file:{folder}/store"]
        command = [sys.executable, "-m", "benchmarks.vision_parallel", *arguments]
        ranks = [
            subprocess.Popen(
                [*command, "--rank", str(rank)],
                env=os.environ | loopback_only(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(RANKS)
        ]
        said = outputs(ranks, command, _LIMIT)
    found: Times = json.loads(said[0].strip().splitlines()[-1])
    return found


@torch.inference_mode()
def _on_rank(options: argparse.Namespace, checkpoint: Path) -> Times:
    torch.set_num_threads(1)
    place, device = Place(options.rank, RANKS, 1), torch.device("cpu")
    mesh = join_mesh(open_store(options.store, RANKS, _LIMIT), place, device, _LIMIT)
    mesh = quickened(mesh, device, EngineConfig(tensor_parallel_size=RANKS), _LIMIT)
    ways: tuple[VisionParallel, ...] = get_args(VisionParallel)
    models = {f"{RANKS} ranks, {way}": _model(checkpoint, mesh, way) for way in ways}
    whole = _model(checkpoint, mesh, None) if options.rank == 0 else None
    found: Times = {}
    for case, grids in _cases(options.side).items():
        draw = torch.Generator().manual_seed(0)
        values = next(iter(models.values())).config.vision.patch_values
        pixels = [torch.randn(h * w, values, generator=draw) for _, h, w in grids]
        subjects: dict[str, list[float]] = {ONE: [], **{name: [] for name in models}}
        for _ in range(options.repetitions + 1):  # the first warms up
            if whole is not None:
                torch.set_num_threads(2)
                subjects[ONE].append(_timed(whole, pixels, grids))
                torch.set_num_threads(1)
            for name, model in models.items():
                mesh.tensor.barrier()
                subjects[name].append(_timed(model, pixels, grids))
            mesh.tensor.barrier()
        found[case] = {name: seconds[1:] for name, seconds in subjects.items()}
    mesh.close()
    return found


def _cases(side: int) -> dict[str, list[Grid]]:
    """Grids of patches: as many in the one large screen as in the four others together."""
    return {"one large screen": [(1, 2 * side, side)], "four smaller screens": [(1, side, side // 2)] * 4}


def _model(checkpoint: Path, mesh: Mesh, way: VisionParallel | None) -> Glm4vModel:
    """Cut for this rank in one way, or whole."""

    def prepare(model: Any) -> None:
        if way is not None:
            shard(model, mesh.tensor, way)

    model = load_checkpoint(checkpoint, dtype=torch.float32, prepare=prepare)
    assert isinstance(model, Glm4vModel)
    return model


def _timed(model: Glm4vModel, pixels: list[Tensor], grids: list[Grid]) -> float:
    start = time.perf_counter()
    model.encode_visual(pixels, grids)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
