"""Choosing tokens: penalties, temperature, top-k/top-p/min-p, seeds, log-probabilities.

The order is that of vLLM and transformers: bias and minimum length, penalties, temperature, top-k, top-p, min-p.
Rows never influence each other, so a request's answer does not depend on its batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoglm.engine.penalties import CountPenalties, best_token
from autoglm.messages import SamplingParams


@dataclass(frozen=True, slots=True)
class Choice:
    """A sampled token; ``logprobs``: (chosen, [(id, logprob)] best first) if asked for."""

    token: int
    logprobs: tuple[float, list[tuple[int, float]]] | None = None


class SamplerState:
    """What sampling must remember of one choice.

    Args:
        stop_ids: forbidden until ``min_tokens`` are generated.
    """

    def __init__(
        self,
        sampling: SamplingParams,
        index: int,
        prompt_ids: Sequence[int],
        vocab_size: int,
        stop_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        p = self.params = sampling
        self.greedy = p.temperature == 0.0
        self.generated = 0
        self._penalties: CountPenalties | None = None
        if p.frequency_penalty or p.presence_penalty:
            self._penalties = CountPenalties(p.frequency_penalty, p.presence_penalty)
        self._seen: Tensor | None = None
        if p.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt_ids, device=device)] = True
        self._bias: tuple[Tensor, Tensor] | None = None
        if p.logit_bias:
            ids = torch.tensor(list(p.logit_bias), device=device)
            self._bias = ids, torch.tensor(list(p.logit_bias.values()), device=device)
        self._forbidden = torch.tensor([*stop_ids, *p.stop_token_ids], device=device) if p.min_tokens else None
        self._generator: torch.Generator | None = None
        if not self.greedy:
            # Choices of one seeded request differ, and each is the same in every run.
            seed = int.from_bytes(os.urandom(8), "little") if p.seed is None else p.seed + index
            self._generator = torch.Generator(device).manual_seed(seed % 2**63)

    @property
    def greedy_by_counts(self) -> bool:
        """Whether the answer is the arg-max of the raw logits, but for penalties on tokens generated before."""
        return (
            self.greedy
            and self.params.logprobs is None
            and self._seen is None
            and self._bias is None
            and (self._forbidden is None or self.generated >= self.params.min_tokens)
        )

    def count_amounts(self) -> tuple[list[int], list[float]]:
        """Where :attr:`greedy_by_counts`: token ids, and what is taken off the logits of each before the arg-max."""
        return ([], []) if self._penalties is None else self._penalties.amounts()

    def amounts_after(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """As :meth:`count_amounts`, had ``tokens`` been generated, too."""
        return ([], []) if self._penalties is None else self._penalties.amounts_after(tokens)

    def record(self, token: int) -> None:
        """Account for a generated token."""
        self.generated += 1
        if self._penalties is not None:
            self._penalties.record(token)
        if self._seen is not None:
            self._seen[token] = True

    def best(self, logits: Tensor, row: int) -> Choice:
        """For fp32 ``logits [rows, vocab]`` (may be overwritten), where :attr:`greedy_by_counts`."""
        return Choice(best_token(logits, row, self._penalties))

    @torch.inference_mode()
    def choose(self, logits: Tensor) -> Choice:
        """Sample from fp32 ``logits [vocab]`` (may be overwritten)."""
        top = self._top_logprobs(logits)
        self._adjust(logits)
        if self.greedy:
            token = int(logits.argmax())
        else:
            token = int(torch.multinomial(self._distribution(logits), 1, generator=self._generator))
        if top is None:
            return Choice(token)
        logprobs, alternatives = top
        return Choice(token, (float(logprobs[token]), alternatives))

    def _top_logprobs(self, logits: Tensor) -> tuple[Tensor, list[tuple[int, float]]] | None:
        if self.params.logprobs is None:
            return None
        logprobs = torch.log_softmax(logits, dim=-1)
        values, ids = logprobs.topk(min(self.params.logprobs, logits.shape[-1]))
        return logprobs, list(zip(ids.tolist(), values.tolist(), strict=True))

    def _adjust(self, logits: Tensor) -> None:
        p = self.params
        if self._bias is not None:
            logits.index_add_(0, *self._bias)
        if self._forbidden is not None and self.generated < p.min_tokens:
            logits[self._forbidden] = -torch.inf
        if self._seen is not None:
            penalised = torch.where(logits > 0, logits / p.repetition_penalty, logits * p.repetition_penalty)
            torch.where(self._seen, penalised, logits, out=logits)
        if self._penalties is not None:
            self._penalties.apply(logits)

    def _distribution(self, logits: Tensor) -> Tensor:
        p = self.params
        # A tiny temperature must not overflow to inf - inf; shifting by the maximum keeps every value finite.
        logits = (logits - logits.max()) / max(p.temperature, 1e-5)
        if 0 < p.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(p.top_k).values[-1], -torch.inf)
        probs = torch.softmax(logits, dim=-1)
        if p.top_p < 1.0:
            ordered, ids = probs.sort(descending=True)
            cut = ordered.cumsum(0) - ordered > p.top_p
            cut[0] = False
            probs = probs.index_fill(0, ids[cut], 0.0)
        if p.min_p > 0.0:
            probs = probs.masked_fill(probs < p.min_p * probs.max(), 0.0)
        return probs


def sample(logits: Tensor, states: Sequence[SamplerState]) -> list[Choice]:
    """One token per row of fp32 ``logits [rows, vocab]``."""
    return [sample_row(logits, row, state) for row, state in enumerate(states)]


def sample_row(logits: Tensor, row: int, state: SamplerState) -> Choice:
    """A token from a row of fp32 ``logits [rows, vocab]`` (which may be overwritten)."""
    return state.best(logits, row) if state.greedy_by_counts else state.choose(logits[row])


@torch.inference_mode()
def best_at_once(logits: Tensor, runs: Sequence[tuple[SamplerState, Sequence[int]]]) -> list[list[int] | None]:
    """Arg-max tokens of all runs in one exchange with the device, which one row at a time would wait for each time.

    Args:
        logits: fp32 ``[rows, vocab]`` (may be overwritten), the runs' rows in order.
        runs: of each sequence its state and the tokens drafted for it: it has a row more than drafts, and a row's
            penalties have seen the drafts before it. So a token is the right one where those were.

    Returns:
        tokens of each run; ``None`` where they are not the arg-max of raw logits less :meth:`~.count_amounts`.
    """
    if not any(state.greedy_by_counts for state, _ in runs):
        return [None] * len(runs)
    places: list[tuple[int, int]] = []
    amounts: list[float] = []
    row = 0
    for state, drafted in runs:
        if state.greedy_by_counts:
            for count in range(len(drafted) + 1):
                ids, less = state.amounts_after(drafted[:count])
                places += [(row + count, token) for token in ids]
                amounts += less
        row += len(drafted) + 1
    if places:
        index = torch.tensor(places, device=logits.device)
        logits[index[:, 0], index[:, 1]] -= torch.tensor(amounts, device=logits.device)
    best: list[int] = logits[:row].argmax(dim=-1).tolist()
    found: list[list[int] | None] = []
    row = 0
    for state, drafted in runs:
        end = row + len(drafted) + 1
        found.append(best[row:end] if state.greedy_by_counts else None)
        row = end
    return found
