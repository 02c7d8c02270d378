"""Pipeline parallelism: who holds which layers, micro-batches of equal time, the bubble, messages between stages."""
