"""``autoglm inspect``: what a checkpoint is and what it would need, without loading its weights."""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from rich.console import Console
from rich.table import Table

from autoglm.errors import InvalidInputError
from autoglm.model.loading import empty_model
from autoglm.model.registry import Model
from autoglm.model.resolve import resolve_checkpoint

_DTYPES = ("float32", "bfloat16", "float16")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    parser = commands.add_parser("inspect", help="layout, parameters and memory of a checkpoint")
    parser.add_argument("model", help="checkpoint folder, name under AUTOGLM_MODEL_DIR, or hub id")
    parser.add_argument("--context", type=int, help="tokens of prompt and answer (default: the model's)")
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the tables."""
    path = resolve_checkpoint(options.model)
    model = empty_model(path)
    context = options.context or model.context_length
    for name, value, high in (("context", context, model.context_length), ("batch", options.batch, 2**20)):
        if not 1 <= value <= high:
            raise InvalidInputError(f"--{name} must be between 1 and {high}", field=name, limit=high, value=value)
    model = model.to(getattr(torch, options.dtype))
    console = Console()
    console.print(f"[bold]{path}[/bold]: layout {model.layout}, context {model.context_length}")
    console.print(_parameters(model))
    console.print(_memory(model, context, options.batch))
    return 0


def _parameters(model: Model) -> Table:
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[_part(name)] += parameter.numel()
    table = Table("part", "parameters", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    total = counts.total()
    for part, count in counts.items():
        table.add_row(part, f"{count:,}", f"{count / total:.1%}")
    table.add_row("[bold]all[/bold]", f"{total:,}", "")
    return table


def _part(name: str) -> str:
    for key, part in (
        ("visual.merger", "vision: merger"),
        ("visual.downsample", "vision: downsample"),
        ("visual.projector", "vision: projector"),
        ("model.visual", "vision: tower"),
        ("cross", "decoder: cross-attention"),
        ("time_gate", "decoder: time gate"),
        ("embed_tokens", "decoder: embeddings"),
        ("lm_head", "decoder: head"),
    ):
        if key in name:
            return part
    return "decoder: layers"


def _memory(model: Model, context: int, batch: int) -> Table:
    size = model.dtype.itemsize
    weights = sum(p.numel() for p in model.parameters()) * size
    kv = model.kv_spec.bytes_per_token * context * batch
    logits = batch * model.vocab_size * 4
    table = Table("memory", str(model.dtype).removeprefix("torch."))
    table.columns[1].justify = "right"
    for name, value in (
        ("weights", weights),
        (f"KV of {batch} x {context} tokens ({model.kv_spec.bytes_per_token:,} B each)", kv),
        ("logits of a step", logits),
        ("[bold]together[/bold]", weights + kv + logits),
    ):
        table.add_row(name, f"{value / 2**30:.3f} GiB")
    return table
