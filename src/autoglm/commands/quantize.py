"""``autoglm quantize``: pack a checkpoint's decoder, keep the result, and show what it costs on real prompts."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from autoglm import env
from autoglm.errors import InvalidInputError
from autoglm.messages import ChatMessage
from autoglm.model.loading import load_checkpoint
from autoglm.model.quantized import ALL_SCHEMES, SCHEMES, load_quantized
from autoglm.model.quantized.quality import Quality, compare
from autoglm.model.registry import Model
from autoglm.model.resolve import resolve_checkpoint
from autoglm.prompt import PromptBuilder

MAX_DIVERGENCE = 0.1
"""Nats. Where packing moves answers further than this on average, the command fails."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    parser = commands.add_parser("quantize", help="pack the decoder's weights and measure what it costs")
    parser.add_argument("model", help="checkpoint folder, name under AUTOGLM_MODEL_DIR, or hub id")
    parser.add_argument("--scheme", choices=ALL_SCHEMES, nargs="+", default=list(SCHEMES))
    parser.add_argument("--prompts", type=Path, nargs="+", required=True, help="text files, each a user's message")
    parser.add_argument(
        "--max-divergence", type=float, default=MAX_DIVERGENCE, help=f"mean, in nats (default: {MAX_DIVERGENCE})"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; status 1 if a scheme moves the answers too far."""
    path = resolve_checkpoint(options.model)
    exact = load_checkpoint(path, dtype=torch.float32)
    builder = PromptBuilder.from_checkpoint(path, exact.layout)
    prompts = [builder.build([ChatMessage("user", _text(file))]).token_ids for file in options.prompts]
    table = Table("weights", "MB", "mean divergence", "99 %", "same token", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    table.add_row("float32", f"{_decoder_bytes(exact) / 1e6:.0f}", "", "", "", "")
    good = True
    for scheme in options.scheme:
        packed = load_quantized(path, scheme, dtype=torch.float32, store=env.cache_dir() / "packed")
        quality = compare(exact, packed, prompts)
        passed = quality.mean_divergence <= options.max_divergence
        good &= passed
        table.add_row(scheme, f"{_decoder_bytes(packed) / 1e6:.0f}", *_cells(quality), "passed" if passed else "missed")
    console = Console()
    console.print(f"[bold]{path}[/bold]: {sum(map(len, prompts))} positions of {len(prompts)} prompts")
    console.print(table)
    return 0 if good else 1


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--prompts: {file}: {error}", field="prompts", value=str(file)) from error


def _cells(quality: Quality) -> tuple[str, str, str]:
    return f"{quality.mean_divergence:.5f}", f"{quality.high_divergence:.5f}", f"{quality.agreement:.1%}"


def _decoder_bytes(model: Model) -> int:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return sum(t.nbytes for name, t in tensors if ".visual." not in name)
