"""Where it is computed: communication between ranks, the mesh of ranks, plans of what each holds, launch and watch."""
