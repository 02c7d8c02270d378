"""The perceive-decide-act loop: actions, devices, tasks, the loop itself. How the model is served is not known here."""
