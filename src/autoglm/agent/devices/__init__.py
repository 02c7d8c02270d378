"""What an agent can operate: one small interface, several devices."""
