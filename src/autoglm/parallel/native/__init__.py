"""The part of this room that is written in C: shared memory among ranks, codes for the wire."""
