"""What the model does otherwise on a CUDA device: paged attention by kernel, recorded steps, packed products."""
