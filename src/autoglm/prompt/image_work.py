"""The images of one prompt, decoded by whoever is free, and handed on one by one while the text is still to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from autoglm.errors import ImageError
from autoglm.prompt.types import ProcessedImage

ImageJob = tuple[str, bytes]
"""One image as (place for error messages, encoded bytes)."""
Outcome = ProcessedImage | ImageError
OnImage = Callable[[ProcessedImage], None]
Process = Callable[[bytes], ProcessedImage]


class ImageWork:
    """Decodes in the calling thread, and in free threads of ``pool`` beside it.

    Two calls, so that the text can be tokenised between them: :meth:`begin` returns when nothing is left that no thread
    has taken up, :meth:`finish` when all of it is done. The caller takes back what no other thread has begun, so it
    waits for running work only, and may be a thread of ``pool`` itself.

    Args:
        process: encoded bytes to an image; raises :class:`ImageError`. Called from any thread of ``pool``.
        pool: threads, not processes; ``None``: the calling thread does everything.
        on_image: told of each image as soon as it is there, from the thread that made it.
    """

    def __init__(
        self,
        process: Process,
        jobs: Sequence[ImageJob],
        pool: Executor | None,
        on_image: OnImage | None,
    ) -> None:
        self._process = process
        self._jobs = jobs
        self._on_image = on_image
        self._pool = pool
        self._outcomes: dict[int, Outcome] = {}
        self._shared: dict[int, Future[Outcome]] = {}

    def begin(self) -> None:
        """Decode what no other thread takes up; nothing more behind an image that is none."""
        if self._pool is not None:
            self._shared = {i: self._pool.submit(self._one, job) for i, job in enumerate(self._jobs) if i}
        failed = False
        for index, job in enumerate(self._jobs):
            future = self._shared.get(index)
            if future is not None and not future.cancel():
                continue
            self._shared.pop(index, None)
            if not failed:
                outcome = self._outcomes[index] = self._one(job)
                failed = isinstance(outcome, ImageError)

    def finish(self) -> list[ProcessedImage]:
        """All images in order. Raises the :class:`ImageError` of the first that is none."""
        for index, future in self._shared.items():
            self._outcomes[index] = future.result()
        images: list[ProcessedImage] = []
        for index in range(len(self._jobs)):
            outcome = self._outcomes[index]
            if isinstance(outcome, ImageError):
                raise outcome
            images.append(outcome)
        return images

    def _one(self, job: ImageJob) -> Outcome:
        place, data = job
        try:
            image = self._process(data)
        except ImageError as error:
            named = ImageError(f"{place}: {error.message}", field=place, limit=error.limit, value=error.value)
            named.__cause__ = error
            return named
        if self._on_image is not None:
            self._on_image(image)
        return image
