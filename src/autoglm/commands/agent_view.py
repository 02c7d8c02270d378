"""A run in the terminal: in colour and as it streams, or as plain lines where the output is no terminal."""

from __future__ import annotations

from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from autoglm.agent.actions import format_action
from autoglm.agent.events import (
    Acted,
    Answered,
    ConfirmationNeeded,
    Decided,
    Ended,
    Event,
    Outcome,
    OutputRejected,
    StepStarted,
    StepTimed,
    TakeOverNeeded,
    ThoughtDelta,
    Waterfall,
)

_BAR = 40
_PARTS = (("capture", "cyan"), ("encode", "blue"), ("prefill", "magenta"), ("decode", "green"), ("act", "yellow"))


class View(Protocol):
    """Shows a run."""

    def begin(self, instruction: str, device: str) -> None:
        """What is about to be done, and where."""

    def show(self, event: Event) -> None:
        """The next event."""

    def ask(self, question: str) -> None:
        """A question, left open for the answer."""


def make_view(out: TextIO) -> View:
    """The view that suits ``out``."""
    console = Console(file=out, highlight=False, soft_wrap=True)
    return LiveView(console) if console.is_terminal else PlainView(out)


def describe(event: Event) -> str:
    """One line of plain text; empty for what only a live view shows."""
    text = ""
    match event:
        case StepStarted(step, screenshot):
            text = f"step {step}: {screenshot.current_app} ({screenshot.width}x{screenshot.height})"
        case OutputRejected(_, output, reason, retrying):
            text = f"no action: {reason}: {output[:200]!r}" + (" (asking again)" if retrying else "")
        case Decided(_, think, action):
            text = f"thought: {' '.join(think.split())}\n" if think else ""
            text += f"action: {format_action(action)}"
        case ConfirmationNeeded(_, _, message, _):
            text = f"to be confirmed: {message}"
        case TakeOverNeeded(_, _, message, _):
            text = f"over to you: {message}"
        case Answered(_, granted):
            text = {True: "answer: yes", False: "answer: no", None: "answer: none in time"}[granted]
        case Acted(_, _, changed, note) if note or not changed:
            text = f"not done: {note}" if note else "nothing changed"
        case StepTimed(_, waterfall, usage):
            text = f"time: {figures(waterfall)}"
            if usage.cached_tokens is not None:
                text += f"; {usage.cached_tokens} of {usage.prompt_tokens} prompt tokens cached"
        case Ended(outcome, message, steps):
            text = f"{outcome.value.replace('_', ' ')} after {steps} step{'s' if steps != 1 else ''}: {message}"
    return text


def figures(waterfall: Waterfall) -> str:
    """The parts of a step in milliseconds."""
    parts = [f"{name} {getattr(waterfall, name):.0f}" for name, _ in _PARTS]
    return f"{' + '.join(parts)} ms" + (f" ({waterfall.tries} tries)" if waterfall.tries > 1 else "")


class PlainView:
    """A line per event, for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, instruction: str, device: str) -> None:
        """The task."""
        self._line(f"task: {instruction} (on {device})")

    def show(self, event: Event) -> None:
        """The next event."""
        if line := describe(event):
            self._line(line)

    def ask(self, question: str) -> None:
        """A question."""
        self._line(question)

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class LiveView:
    """Colours, the thought as it streams, and a bar per step. The longest step so far is a full bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._longest = 1.0
        self._in_line = False

    def begin(self, instruction: str, device: str) -> None:
        """The task."""
        self._console.print(Text.assemble((instruction, "bold"), (f"  on {device}", "dim")))

    def show(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, ThoughtDelta):
            self._console.print(Text(event.text.replace("\n", " "), style="italic"), end="")
            self._console.file.flush()
            self._in_line = True
            return
        if self._in_line:
            self._console.print()
            self._in_line = False
        match event:
            case Decided(_, _, action):
                self._console.print(Text(format_action(action), style="bold green"))
            case StepTimed(_, waterfall, _):
                self._console.print(self._bar(waterfall), Text(describe(event).removeprefix("time: "), style="dim"))
            case Ended(outcome):
                style = "bold green" if outcome is Outcome.FINISHED else "bold red"
                self._console.print(Text(describe(event), style=style))
            case StepStarted():
                self._console.print(Text(f"\n{describe(event)}", style="bold"))
            case _ if line := describe(event):
                self._console.print(Text(line, style="yellow"))

    def ask(self, question: str) -> None:
        """A question; the cursor stays behind it."""
        self._console.print(Text(question, style="bold yellow"), end="")
        self._console.file.flush()

    def _bar(self, waterfall: Waterfall) -> Text:
        """The step's parts, one behind the other; a person's time is not drawn."""
        self._longest = max(self._longest, waterfall.total - waterfall.waited)
        bar, done, cells = Text(), 0.0, 0
        for name, colour in _PARTS:
            done += getattr(waterfall, name)
            end = round(_BAR * done / self._longest)
            bar.append("█" * (end - cells), style=colour)
            cells = end
        return bar.append("·" * (_BAR - cells), style="dim")
