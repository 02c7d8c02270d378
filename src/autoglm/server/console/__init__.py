"""Simulated phones behind the server, operated by people and by the model, and the page that shows them."""
