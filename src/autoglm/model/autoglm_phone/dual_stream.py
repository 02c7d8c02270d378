"""Two jobs side by side: the image stream and the text stream before they meet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

A = TypeVar("A")
B = TypeVar("B")

_image_thread = ThreadPoolExecutor(1, "image-stream")
# One thread for the life of the process: a new thread would build its own pool of compute threads each time.


def side_by_side(image: Callable[[], A], text: Callable[[], B], device: torch.device, *, parallel: bool) -> tuple[A, B]:
    """Run both jobs and return both results, the same ones with ``parallel`` on and off.

    CPU: the image job runs on a second thread (torch releases the interpreter lock inside its operations).
    CUDA: the image job is queued on a second stream, and the current stream waits for it at the end.
    """
    if not parallel:
        return image(), text()
    if device.type == "cuda":
        return _on_two_streams(image, text, device)
    pending = on_image_thread(image)
    try:
        second = text()
    finally:
        pending.exception()  # wait, even if the text job failed: its caller may free what the image job reads
    return pending.result(), second


def on_image_thread(image: Callable[[], A]) -> Future[A]:
    """Run a job of the image stream on its thread, behind those given before."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def with_modes() -> A:  # gradient and inference mode belong to a thread, not to the process
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return image()

    return _image_thread.submit(with_modes)


def _on_two_streams(image: Callable[[], A], text: Callable[[], B], device: torch.device) -> tuple[A, B]:
    main, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(main)
    with torch.cuda.stream(side):
        first = image()
    try:
        second = text()
    finally:
        main.wait_stream(side)
    return first, second


def used_on_current_stream(tensor: Tensor) -> Tensor:
    """Keep the allocator from reusing ``tensor``, made on another stream, before the current stream is done."""
    if tensor.is_cuda:
        tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return tensor
