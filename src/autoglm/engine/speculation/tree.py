"""What followed what in earlier answers: a tree of all short runs of tokens, with counts (a suffix tree of few levels).

Published as suffix decoding: Oliaro et al., arXiv 2411.04975.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

DEPTH = 8
"""Tokens of a run: what is known of the context, and the one token that follows."""


class TreeNode:
    """A run of tokens. ``best``: its most frequent continuation."""

    __slots__ = ("best", "children", "count", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.count = 0
        self.children: dict[int, TreeNode] | None = None
        self.best: TreeNode | None = None


Place = list[TreeNode]
"""The runs that an answer ends with, the longest first; the last is the tree's root, the empty run."""


class TokenTree:
    """Runs of up to :data:`DEPTH` tokens of the sequences it was given.

    Attributes:
        size: nodes, without the root, and tokens of the sequences, which are kept to be forgotten one by one.
    """

    def __init__(self) -> None:
        self.root = TreeNode(-1)
        self.size = 0
        self._sequences: deque[tuple[int, ...]] = deque()

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, tokens: Sequence[int]) -> None:
        """One more sequence."""
        sequence = tuple(tokens)
        self._sequences.append(sequence)
        self.size += len(sequence)
        for start in range(len(sequence)):
            node = self.root
            node.count += 1
            for token in sequence[start : start + DEPTH]:
                node = self._child(node, token)
                node.count += 1

    def forget_oldest(self) -> None:
        """Undo the first :meth:`add` that is not undone yet."""
        sequence = self._sequences.popleft()
        self.size -= len(sequence)
        for start in range(len(sequence)):
            node = self.root
            node.count -= 1
            for token in sequence[start : start + DEPTH]:
                assert node.children is not None  # add() made it
                child = node.children[token]
                child.count -= 1
                if child.count == 0:
                    self._cut(node, child)
                    break  # all below has gone with it
                if child is node.best:
                    node.best = max(node.children.values(), key=lambda c: c.count)
                node = child

    def advance(self, place: Place, token: int) -> Place:
        """The place after one more token. Nodes that were forgotten meanwhile do no harm: they lead nowhere."""
        found = [child for node in place if node.children and (child := node.children.get(token)) is not None]
        found.append(self.root)
        return found

    def _child(self, node: TreeNode, token: int) -> TreeNode:
        children = node.children
        if children is None:
            children = node.children = {}
        child = children.get(token)
        if child is None:
            child = children[token] = TreeNode(token)
            self.size += 1
        if node.best is None or child.count >= node.best.count:
            node.best = child
        return child

    def _cut(self, node: TreeNode, child: TreeNode) -> None:
        assert node.children is not None
        del node.children[child.token]
        if node.best is child:
            node.best = max(node.children.values(), key=lambda c: c.count, default=None)
        below = [child]
        while below:
            self.size -= 1
            last = below.pop()
            below += (last.children or {}).values()


class TreeForest:
    """One tree per salt, so that no tenant's answers are guessed from another's; bounded over all of them.

    Args:
        max_size: of all trees. The tree used longest ago goes first, then the oldest answers of the last one.

    Attributes:
        size: of all trees.
    """

    def __init__(self, max_size: int) -> None:
        self.size = 0
        self._max_size = max_size
        self._trees: OrderedDict[str, TokenTree] = OrderedDict()

    def __len__(self) -> int:
        return len(self._trees)

    def of(self, salt: str) -> TokenTree | None:
        """The salt's tree, if it has answers."""
        tree = self._trees.get(salt)
        if tree is not None:
            self._trees.move_to_end(salt)
        return tree

    def add(self, salt: str, tokens: Sequence[int]) -> None:
        """Remember an answer."""
        tree = self._trees.setdefault(salt, TokenTree())
        self._trees.move_to_end(salt)
        self.size -= tree.size
        tree.add(tokens)
        self.size += tree.size
        while self.size > self._max_size and len(self._trees) > 1:
            self.size -= self._trees.popitem(last=False)[1].size
        while tree.size > self._max_size and len(tree):
            self.size -= tree.size
            tree.forget_oldest()
            self.size += tree.size
