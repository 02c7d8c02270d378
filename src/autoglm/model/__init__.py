"""What is computed: layers, vision towers, the two layouts, loading. Pure torch; knows nothing of requests."""
