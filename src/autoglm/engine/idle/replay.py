"""The text of an answer, made again from its tokens when somebody wants it: most never do."""

from __future__ import annotations

from collections.abc import Sequence

from autoglm.engine.output import OutputStream
from autoglm.messages import SamplingParams
from autoglm.prompt import Tokenizer


class Answer:
    """What the client got, as one string."""

    def __init__(
        self, tokenizer: Tokenizer, sampling: SamplingParams, stop_ids: Sequence[int], token_ids: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._stop_ids = stop_ids
        self._token_ids = token_ids
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The pieces that were sent, joined."""
        if self._text is None:
            stream = OutputStream(self._tokenizer, self._sampling, self._stop_ids, len(self._token_ids))
            self._text = "".join(stream.push(token).text for token in self._token_ids)
        return self._text
