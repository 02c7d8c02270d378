"""Loading, shown as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from autoglm.model.loading import LoadProgress


@contextmanager
def loading_bar(console: Console) -> Iterator[LoadProgress]:
    """A progress bar in bytes, on stderr-like ``console``."""
    columns = (TextColumn("loading weights"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show
