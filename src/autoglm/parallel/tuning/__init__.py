"""How many workers, and of which kind: measured on the machine at hand, kept as a profile that the server loads."""
