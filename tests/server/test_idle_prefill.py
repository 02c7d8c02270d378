"""A dialogue over HTTP: while the client acts, the server gets ahead of it; and it stops at once when told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.harness import LiveServer, data_url, engine_command, image_message, png, wait_until

SYSTEM = {"role": "system", "content": "You operate a phone, one action at a time. " * 20}


def dialogue(server: LiveServer, steps: int) -> list[tuple[str, int, int]]:
    """Text, cached and prompt tokens of each answer; between them, the server is given time until it wants no more."""
    messages: list[dict[str, Any]] = [SYSTEM]
    found: list[tuple[str, int, int]] = []
    for step in range(steps):
        messages += image_message(data_url(png(seed=step)), f"** Screen Info **\n\nstep {step} " + "of a task " * 10)
        answer = server.chat(messages=messages, max_tokens=12, ignore_eos=True).json()
        text = answer["choices"][0]["message"]["content"]
        usage = answer["usage"]
        found.append((text, usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]))
        messages[-1]["content"] = [part for part in messages[-1]["content"] if part["type"] == "text"]
        messages.append({"role": "assistant", "content": f"<think></think><answer>{text}</answer>"})
        seen = [-1.0, -2.0]

        def settled(seen: list[float] = seen) -> bool:
            seen.append(server.engine("idle_computed_tokens"))
            return seen[-1] == seen[-2] == seen[-3]

        wait_until(settled, what="an engine that has nothing left to guess")
    return found


def test_a_served_dialogue_is_the_same_with_and_without(checkpoint: Path, tmp_path: Path) -> None:
    answers = {}
    for on in (True, False):
        server = LiveServer(tmp_path / f"{on}.log", engine_command(checkpoint, idle_prefill=on, idle_step_ms=5))
        try:
            server.wait_ready()
            answers[on] = dialogue(server, 3)
            if on:
                assert server.engine("idle_hits") == 2
                assert server.engine("idle_saved_tokens") > 0
            else:
                assert server.engine("idle_computed_tokens") == 0
            assert server.engine("dropped_images") == 2
            server.wait_idle()
            assert server.stop() == 0
            assert "Traceback" not in (tmp_path / f"{on}.log").read_text()
        finally:
            server.close()
    assert [text for text, _, _ in answers[True]] == [text for text, _, _ in answers[False]]
    assert all(a[1] > b[1] for a, b in zip(answers[True][1:], answers[False][1:], strict=True))


def test_sigterm_while_it_guesses(checkpoint: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = LiveServer(log, engine_command(checkpoint, idle_step_ms=1))
    try:
        server.wait_ready()
        messages = [SYSTEM, *image_message(data_url(png()), "a long way to go " * 300)]
        server.chat(messages=messages, max_tokens=4, ignore_eos=True)
        wait_until(lambda: server.engine("idle_computed_tokens") > 0, what="a guess")
        assert server.stop() == 0
        assert "Traceback" not in log.read_text()
    finally:
        server.close()
