"""What goes over a slow link in fewer bytes, and when it pays.

Sums in 8 or 4 bits, screens and KV blocks as differences, weight updates as products of two thin matrices.
"""
