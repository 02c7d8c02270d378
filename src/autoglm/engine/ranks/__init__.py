"""A replica of several ranks: rank 0 schedules and samples, every rank computes the same steps on its own weights."""
