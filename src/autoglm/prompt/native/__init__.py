"""Compiled parts of image processing; without a compiler numpy does the same."""
