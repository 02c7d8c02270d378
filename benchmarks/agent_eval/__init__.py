"""How well a model operates the simulated phone, measured as its users meet it: over HTTP, through the agent loop."""
