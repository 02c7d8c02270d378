"""Who may be a rank, what a rank reads of a checkpoint, and what it holds."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from autoglm.engine import EngineConfig
from autoglm.engine.ranks.group import accept_ranks
from autoglm.engine.ranks.identity import hello, mismatch
from autoglm.engine.ranks.loading import place_of
from autoglm.engine.ranks.worker import work
from autoglm.errors import InvalidInputError, RankLostError, RankMismatchError
from autoglm.model.identity import checkpoint_digest
from autoglm.model.loading import load_checkpoint
from autoglm.model.sharding import shard
from autoglm.parallel.collectives import Alone
from autoglm.parallel.launch import Children, connect, listen
from autoglm.parallel.mesh import Place
from autoglm.parallel.world import World, interface_of
from autoglm.synthetic import make_checkpoint

TWO = EngineConfig(tensor_parallel_size=2, threads=1)


def test_a_rank_must_be_made_as_rank_0(checkpoint: Path) -> None:
    own = hello(checkpoint, TWO, place_of(TWO, 0))
    twin = hello(checkpoint, msgspec.structs.replace(TWO, threads=7), place_of(TWO, 1))
    assert mismatch(own, twin) is None  # threads are a host's own affair
    others: list[tuple[str, Any, str]] = [
        ("protocol", 99, "protocol 99, rank 0 has"),
        ("world_size", 4, "world size 4, rank 0 has 2"),
        ("version", "0.0.0", "autoglm version 0.0.0"),
        ("torch", "1.0", "torch version 1.0"),
        ("rank", 2, "rank 2 is none of 1 to 1"),
        ("checkpoint", b"x" * 32, "another checkpoint: digest 787878787878"),
        ("config", b"{}", "other engine options"),
    ]
    for field, value, message in others:
        found = mismatch(own, msgspec.structs.replace(twin, **{field: value}))
        assert found is not None, field
        assert message in str(found)
        assert found.field == field


def test_both_sides_learn_of_a_mismatch(checkpoint: Path, tmp_path: Path) -> None:
    """A rank with other weights is refused before it loads any; a caller that is no rank is turned away."""
    changed = tmp_path / "changed"
    shutil.copytree(checkpoint, changed)
    weights = load_file(changed / "model.safetensors")
    save_file({name: value + 0.01 for name, value in weights.items()}, changed / "model.safetensors", {"format": "pt"})
    assert checkpoint_digest(changed) != checkpoint_digest(checkpoint)
    address = f"unix:{tmp_path / 'channel'}"
    refused: list[Exception] = []

    def rank_1() -> None:
        try:
            work(changed, TWO, place_of(TWO, 1), lambda: address, child=False)
        except RankMismatchError as error:
            refused.append(error)

    with listen(address) as listener:
        stranger = connect(lambda: address, 10)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.close()
        thread = threading.Thread(target=rank_1)
        thread.start()
        with pytest.raises(RankMismatchError, match="rank 1 has another checkpoint"):
            accept_ranks(listener, hello(checkpoint, TWO, place_of(TWO, 0)), "file:/nowhere", Children())
        thread.join(30)
    assert "rank 0 refuses this rank: rank 1 has another checkpoint" in str(refused[0])


def test_the_digest_is_of_content_not_of_place(checkpoint: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(checkpoint, same)
    assert checkpoint_digest(same) == checkpoint_digest(checkpoint)
    config = json.loads((same / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 2e-5
    (same / "config.json").write_text(json.dumps(config))
    assert checkpoint_digest(same) != checkpoint_digest(checkpoint)


def test_the_environment_of_torchrun() -> None:
    assert World.of({}) is None
    given = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2950"}
    world = World.of(given)
    assert world == World(1, 2, "10.0.0.1", 2950, agent_store=False)
    assert world.channel() == world.listen_address() == "tcp:10.0.0.1:2950"
    assert World(0, 2, "h", 1, agent_store=True).listen_address() == "tcp:h:0"
    with pytest.raises(RankMismatchError, match="WORLD_SIZE is 2, but the options make 4 ranks"):
        world.check(4)
    with pytest.raises(RankMismatchError, match="MASTER_PORT"):
        World.of({k: v for k, v in given.items() if k != "MASTER_PORT"})


def test_rank_0_that_never_comes() -> None:
    with pytest.raises(RankLostError, match=r"rank 0 does not answer at unix:/nowhere/channel"):
        connect(lambda: "unix:/nowhere/channel", 0.01)


def test_the_interface_of_a_connection() -> None:
    with listen("tcp:127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()) as connection:
        assert interface_of(connection) == "lo"


def test_places() -> None:
    place = Place(5, tensor_size=2, pipeline_size=3)
    assert (place.stage, place.tensor_rank) == (2, 1)
    assert place.tensor_groups() == [[0, 1], [2, 3], [4, 5]]
    assert place.pipeline_groups() == [[0, 2, 4], [1, 3, 5]]
    for rank, tensor_size in ((6, 2), (-1, 2), (0, 0)):
        with pytest.raises(InvalidInputError):
            Place(rank, tensor_size, 3)


class Half(Alone):
    """Rank 1 of 2, as far as loading asks."""

    rank = 1
    size = 2


def test_a_rank_reads_and_holds_its_part_only(tmp_path: Path) -> None:
    """Anonymous memory never grows to the whole, and each part is the right one."""
    path = make_checkpoint(tmp_path / "many", max_shard_bytes=2**20)
    whole = load_checkpoint(path, dtype=torch.float32)
    size = sum(p.nbytes for p in whole.parameters())
    # A fresh process: in this one the loader would take memory that other tests have given back to malloc.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        peak = pool.submit(peak_of_half, path).result(timeout=120)
    part = load_checkpoint(path, dtype=torch.float32, prepare=lambda model: shard(model, Half()))
    held = sum(p.nbytes for p in part.parameters())
    assert held < 0.55 * size
    assert 0.5 * held < peak < 0.75 * size
    q, k = whole.decoder.layers[0].self_attn.qkv.weight[:256], whole.decoder.layers[0].self_attn.qkv.weight[256:384]
    mine = part.decoder.layers[0].self_attn.qkv.weight
    assert torch.equal(mine[:128], q[128:])
    assert torch.equal(mine[128:192], k[64:])
    down = whole.decoder.layers[0].mlp.down_proj.weight
    assert torch.equal(part.decoder.layers[0].mlp.down_proj.weight, down[:, down.shape[1] // 2 :])


def peak_of_half(path: Path) -> int:
    """By how much loading a half lets this process grow, at most; once more after what any first load needs."""
    first = load_checkpoint(path, dtype=torch.float32, prepare=lambda model: shard(model, Half()))
    start, peak = anonymous_bytes(), 0

    def watch(_done: int, _total: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_bytes() - start)

    load_checkpoint(path, dtype=torch.float32, progress=watch, prepare=lambda model: shard(model, Half()))
    del first  # kept until now, so that its memory is not used again
    return peak


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon in /proc/self/status")
