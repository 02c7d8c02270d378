"""llama.cpp: its server inside this process (the `xllamacpp` wheel), asked over loopback HTTP.

One server with one slot answers requests one by one; a second one with a slot per request answers many at once,
made when first needed. Both map the same weights file.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xllamacpp
from tokenizers import Tokenizer

from benchmarks import gguf
from benchmarks.clock import Clock
from benchmarks.subjects.base import Answer, Subject
from benchmarks.workload import IMAGE, Request

_CONTEXT = 2048
_TIMEOUT_SECONDS = 1800


class LlamaCpp(Subject):
    """f32 weights and llama.cpp's defaults otherwise: 16-bit KV cache and flash attention, its fastest form.

    Its prefix cache is used except for the first request after :meth:`forget`.
    """

    exact = False
    precision = "f32"

    def load(self, checkpoint: Path, threads: int, cache: Path) -> dict[str, str]:
        self._threads = threads
        self._files = gguf.ensure(checkpoint, cache, self.precision)
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self._servers: dict[int, tuple[Any, str]] = {}
        self._cold = True
        self._server(1)
        return {"xllamacpp": xllamacpp.__version__}

    def forget(self) -> None:
        self._cold = True

    def run(self, requests: Sequence[Request], clock: Clock) -> list[Answer]:
        server, marker = self._server(len(requests))
        reuse, self._cold = not self._cold, False
        answers = [Answer() for _ in requests]
        failures: list[Exception] = []

        def ask(index: int) -> None:
            try:
                body = self._body(requests[index], marker, reuse)
                _stream(server.listening_address, body, clock, answers[index])
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return answers

    def _server(self, slots: int) -> tuple[Any, str]:
        if slots not in self._servers:
            server = xllamacpp.Server(self._parameters(slots))
            # The mark that stands for an image in the prompt is random for each server.
            properties = json.loads(_get(server.listening_address, "/props"))
            self._servers[slots] = (server, properties["media_marker"])
        return self._servers[slots]

    def _parameters(self, slots: int) -> Any:
        p = xllamacpp.CommonParams()
        p.model.path, p.mmproj.path = str(self._files.text), str(self._files.vision)
        p.n_ctx, p.n_parallel = _CONTEXT * slots, slots
        p.n_batch, p.n_ubatch = 2048, 512
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = self._threads
        p.n_gpu_layers = 0
        p.warmup = True
        p.use_jinja = False
        p.kv_unified = False
        p.cache_ram_mib = 0
        if self.exact:
            p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return p

    def _body(self, request: Request, marker: str, reuse: bool) -> dict[str, Any]:
        prompt: Any
        if request.images:
            prompt = {
                "prompt_string": request.text.replace(IMAGE, marker),
                "multimodal_data": [base64.b64encode(data).decode() for data in request.images],
            }
        else:
            prompt = self._tokenizer.encode(request.text, add_special_tokens=False).ids
        return {
            "prompt": prompt,
            "n_predict": request.new_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "return_tokens": True,
            "stream": True,
            "cache_prompt": reuse,
        }


class LlamaCppExact(LlamaCpp):
    """f32 in the KV cache and in attention too: slower, and its greedy tokens are those of the baseline."""

    exact = True


class LlamaCppQ8(LlamaCpp):
    """8-bit weights in blocks of 32."""

    precision = "q8_0"


class LlamaCppQ4(LlamaCpp):
    """4-bit weights in blocks of 32, 8-bit head."""

    precision = "q4_0"


def _connect(address: str) -> http.client.HTTPConnection:
    url = urllib.parse.urlparse(address)
    if url.hostname is None:
        raise ValueError(f"the server gave no host in its address {address!r}")
    return http.client.HTTPConnection(url.hostname, url.port, timeout=_TIMEOUT_SECONDS)


def _get(address: str, path: str) -> bytes:
    connection = _connect(address)
    connection.request("GET", path)
    data = connection.getresponse().read()
    connection.close()
    return data


def _stream(address: str, body: dict[str, Any], clock: Clock, answer: Answer) -> None:
    connection = _connect(address)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise RuntimeError(f"llama.cpp answered {response.status}: {response.read(300)!r}")
    for line in response:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(f"llama.cpp: {event['error']}")
        if not event["stop"]:
            answer.tokens += event["tokens"]
            answer.marks += [clock()] * len(event["tokens"])
        # A held-back token would have no arrival time of its own: refused, not guessed (see convert_gguf.py).
        if event["tokens_predicted"] != len(answer.tokens):
            raise RuntimeError(
                f"llama.cpp generated {event['tokens_predicted']} tokens, but told of {len(answer.tokens)} so far"
            )
        if event["stop"]:
            answer.prompt_tokens = event["tokens_evaluated"]
            answer.cached_tokens = event["tokens_evaluated"] - event["timings"]["prompt_n"]
    connection.close()
