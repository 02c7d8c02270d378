"""What goes over a slow link in fewer bytes: sums in 8 or 4 bits, screens and KV blocks as differences, weight updates as
products of two thin matrices; and when any of it pays."""
