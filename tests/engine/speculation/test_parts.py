"""The parts drafts are made from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.engine.speculation.adapt import MARGIN, Rates, StepCosts, worth
from autoglm.engine.speculation.guesses import KINDS
from autoglm.engine.speculation.history import GRAM, History
from autoglm.engine.speculation.speculator import Outlook, Speculator
from autoglm.engine.speculation.tree import DEPTH, TokenTree, TreeForest, TreeNode

few = st.integers(0, 3)
sequences = st.lists(st.lists(few, max_size=14), max_size=6)


def counts(node: TreeNode, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], int]:
    found = {path: node.count} if path else {}
    for token, child in (node.children or {}).items():
        assert child.token == token
        found |= counts(child, (*path, token))
    if node.children:
        assert node.best is not None
        assert node.best.count == max(child.count for child in node.children.values())
        assert node.children[node.best.token] is node.best
    else:
        assert node.best is None
    return found


def runs(all_sequences: list[list[int]]) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    for tokens in all_sequences:
        for start in range(len(tokens)):
            for end in range(start + 1, min(start + DEPTH, len(tokens)) + 1):
                run = tuple(tokens[start:end])
                found[run] = found.get(run, 0) + 1
    return found


@settings(deadline=None)
@given(sequences, st.integers(0, 6))
def test_a_tree_counts_runs_and_forgets_them(given_sequences: list[list[int]], forgotten: int) -> None:
    tree = TokenTree()
    for tokens in given_sequences:
        tree.add(tokens)
    for _ in range(min(forgotten, len(given_sequences))):
        tree.forget_oldest()
    kept = given_sequences[forgotten:]
    assert counts(tree.root) == runs(kept)
    assert tree.size == len(runs(kept)) + sum(map(len, kept))
    assert len(tree) == len(kept)


@settings(deadline=None)
@given(sequences, st.lists(few, max_size=20))
def test_a_place_is_every_known_end_of_the_text(given_sequences: list[list[int]], text: list[int]) -> None:
    tree = TokenTree()
    for tokens in given_sequences:
        tree.add(tokens)
    known = runs(given_sequences)
    place = [tree.root]
    for token in text:
        place = tree.advance(place, token)
    ends = [tuple(text[-n:]) for n in range(min(DEPTH, len(text)), 0, -1)]
    assert [node.count for node in place[:-1]] == [known[end] for end in ends if end in known]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=20)), max_size=12))
def test_a_forest_stays_small(answers: list[tuple[str, list[int]]]) -> None:
    forest = TreeForest(60)
    for salt, tokens in answers:
        forest.add(salt, tokens)
        assert forest.size <= 60
        assert forest.size == sum(tree.size for tree in forest._trees.values())
        tree = forest.of(salt)
        assert tree is not None
        assert tree.size <= 60
        counts(tree.root)
    for salt in "abc":
        tree = forest.of(salt)
        if tree is not None:
            given_here = runs([tokens for s, tokens in answers if s == salt])
            assert all(given_here[run] >= count for run, count in counts(tree.root).items())


@settings(deadline=None)
@given(st.lists(few, max_size=12), st.lists(few, max_size=12))
def test_history_finds_the_last_place(prompt: list[int], more: list[int]) -> None:
    history = History(prompt)
    for token in more:
        history.add(token)
    text = prompt + more
    places = [at for at in range(GRAM, len(text)) if text[at - GRAM : at] == text[-GRAM:]]
    found = history.find()
    if not places or len(text) < GRAM:
        assert found is None
    else:
        assert found is not None
        at, same = found
        assert at == places[-1]
        assert text[at - same : at] == text[len(text) - same :]
        assert history.follow(at, 2) == text[at : at + 2]


def test_rates_follow_what_happens() -> None:
    rates = Rates(2)
    for _ in range(400):
        rates.observe(0, hit=True)
        rates.observe(1, hit=False)
    assert rates[0] > 0.99
    assert rates[1] < 0.01


def test_a_step_that_was_held_up_rules_nothing_out_for_long() -> None:
    costs = StepCosts(16)
    for _ in range(50):
        costs.observe(1, 1.0)
    costs.observe(2, 40.0)
    assert costs[2] / costs[1] <= 3.5
    for _ in range(20):
        costs.observe(2, 1.1)
        costs.observe(1, 1.0)
    assert 1.0 < costs[2] / costs[1] < 1.3
    costs.observe(4, 1.5)
    assert costs[2] < costs[3] < costs[4] < costs[5]


def test_what_is_too_dear_looks_cheaper_after_a_while() -> None:
    costs = StepCosts(4)
    costs.observe(1, 1.0)
    costs.observe(2, 9.0)
    before = costs[2]
    for _ in range(4000):
        costs.observe(1, 1.0)
    assert costs[2] < before / 2


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), max_size=5), min_size=1, max_size=4),
    st.floats(0.0, 1.0),
)
def test_worth_takes_prefixes_and_only_where_they_pay(owners: list[list[float]], price: float) -> None:
    falling = [sorted(chances, reverse=True) for chances in owners]
    offers = [(p, owner) for owner, chances in enumerate(falling) for p in chances]
    base = len(owners)

    def cost(rows: int) -> float:
        return 1 + price * (rows - base)

    chosen = worth(offers, base, cost)
    expected = base + sum(sum(chances[: chosen.count(owner)]) for owner, chances in enumerate(falling))
    assert all(chosen.count(owner) <= len(chances) for owner, chances in enumerate(falling))
    if chosen:
        assert expected / cost(base + len(chosen)) >= MARGIN * base / cost(base) - 1e-9
    if price == 0 and sum(map(sum, falling)) > base * (MARGIN - 1):
        assert chosen


def planned(speculator: Speculator, sequence: Any, tokens: list[int]) -> list[tuple[int, ...]]:
    """What is drafted before each of these tokens comes."""
    drafts = []
    for token in tokens:
        speculator.plan([cast(Any, sequence)], room=64)
        drafts.append(sequence.outlook.draft)
        sequence.token_ids.append(token)
        sequence.generated += 1
    return drafts


def sequence_of(prompt: list[int], salt: str = "", max_tokens: int = 10_000) -> Any:
    """Only what drafting reads."""
    return SimpleNamespace(
        token_ids=list(prompt), prompt_len=len(prompt), generated=0, outlook=None, salt=salt, max_tokens=max_tokens
    )


def test_a_sequence_that_repeats_itself_is_drafted_and_one_that_does_not_is_left_alone() -> None:
    speculator = Speculator(3, 64)
    period = [3, 1, 4, 1, 5, 9]
    drafts = planned(speculator, sequence_of([7, 8]), period * 8)
    assert drafts[-1] == (9, 3, 1)
    assert not any(planned(speculator, sequence_of([7, 8]), list(range(100, 160))))


def test_trust_that_was_lost_comes_back() -> None:
    speculator = Speculator(3, 64)
    noise = [n * 7919 % 50 for n in range(300)]
    sequence = sequence_of(noise[:100] * 2)
    planned(speculator, sequence, [(n * 31 + 5) % 50 for n in noise])
    for kind in range(KINDS):
        for _ in range(200):
            speculator.rates.observe(kind, hit=True)
    sequence.outlook.trust = 0.01
    drafts = planned(speculator, sequence, [1, 2, 3, 4, 5] * 30)
    assert drafts[-1]
    assert isinstance(sequence.outlook, Outlook)
    assert sequence.outlook.trust > 0.5


def test_drafts_keep_to_their_limits() -> None:
    period = [3, 1, 4, 1, 5, 9]
    speculator = Speculator(5, max_rows=64, rows_alike=4, stop_ids=(9,))
    drafts = planned(speculator, sequence_of(period * 3, max_tokens=40), period * 6)
    assert max(map(len, drafts)) == 3  # with the row before them four
    assert not any(9 in draft[:-1] for draft in drafts)  # nothing follows a stop
    left = [40 - done - 1 for done in range(len(drafts))]
    assert all(len(draft) <= most for draft, most in zip(drafts, left, strict=True))
    several = [sequence_of(period * 3) for _ in range(4)]
    for sequence in several:
        planned(speculator, sequence, period)
    speculator.plan(several, room=64)
    assert not any(sequence.outlook.draft for sequence in several)  # four rows already
