"""The channel between ranks: what counts as a loss, and who hears of it."""

from __future__ import annotations

import socket
import struct
from queue import SimpleQueue

import pytest

from autoglm.errors import RankLostError
from autoglm.parallel.channel import Follower, Kind, Leader, Line

LONG, SHORT = 60.0, 0.4
BUSY = 1.5
"""A timeout that signs of life keep also where threads wait long for a core."""


def lines() -> tuple[Line, Line]:
    ours, theirs = socket.socketpair()
    return Line(ours), Line(theirs)


def test_messages_go_both_ways_in_order() -> None:
    ours, theirs = lines()
    leader = Leader({1: ours}, LONG, lambda reason: None)
    follower = Follower(theirs, LONG, lambda reason: None)
    big = bytes(range(256)) * 4096
    for payload in (b"one", b"", big):
        leader.broadcast(payload)
    assert [follower.receive() for _ in range(3)] == [b"one", b"", big]
    follower.send(b"answer")
    assert leader.receive(1) == b"answer"
    with pytest.raises(RankLostError, match=r"rank 1 sent nothing in 0\.01 s"):
        leader.receive(1, timeout=0.01)
    follower.close()
    leader.close()


def test_both_live_through_timeouts_while_neither_says_anything() -> None:
    ours, theirs = lines()
    lost: SimpleQueue[str | None] = SimpleQueue()
    leader = Leader({1: ours}, BUSY, lost.put)
    follower = Follower(theirs, BUSY, lost.put)
    with pytest.raises(RankLostError, match="sent nothing"):
        leader.receive(1, timeout=2.5 * BUSY)
    assert lost.empty()
    leader.end()
    with pytest.raises(RankLostError, match="rank 0 has ended"):
        follower.receive()
    leader.close()
    follower.close()
    assert lost.empty()  # an end that was announced is no loss


def test_a_silent_rank_is_lost() -> None:
    ours, theirs = lines()
    lost: SimpleQueue[str] = SimpleQueue()
    leader = Leader({3: ours}, SHORT, lost.put)
    assert lost.get(timeout=LONG) == "rank 3 gave no sign of life for 0.4 s"
    with pytest.raises(RankLostError, match="no sign of life"):
        leader.receive(3)
    leader.close()
    theirs.close()


def test_a_rank_that_ends_or_fails_is_lost_at_once() -> None:
    for say, expected in ((None, "rank 1 has ended"), ("no memory", "rank 1 failed: no memory")):
        ours, theirs = lines()
        lost: SimpleQueue[str] = SimpleQueue()
        leader = Leader({1: ours}, LONG, lost.put)
        follower = Follower(theirs, LONG, lambda reason: None)
        if say is not None:
            follower.fail(say)
        follower.close()
        assert lost.get(timeout=LONG) == expected
        with pytest.raises(RankLostError):
            leader.receive(1)
        leader.close()


def test_a_silent_rank_0_is_lost_and_one_that_hangs_up_needs_no_reason() -> None:
    for hang_up, expected in ((False, "rank 0 gave no sign of life for 0.4 s"), (True, None)):
        ours, theirs = lines()
        lost: SimpleQueue[str | None] = SimpleQueue()
        follower = Follower(theirs, LONG if hang_up else SHORT, lost.put)
        if hang_up:
            ours.close()
        assert lost.get(timeout=LONG) == expected
        with pytest.raises(RankLostError):
            follower.receive()
        follower.close()
        ours.close()


def test_a_peer_that_stops_in_the_middle_of_a_message_is_lost() -> None:
    ours, theirs = lines()
    lost: SimpleQueue[str] = SimpleQueue()
    leader = Leader({1: ours}, SHORT, lost.put)
    theirs.connection.sendall(struct.pack("!IB", 100, Kind.DATA) + b"only a part")
    assert "connection to rank 1 broke" in lost.get(timeout=LONG)
    leader.close()
    theirs.close()
