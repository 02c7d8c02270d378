"""What a person may ask of the simulated phone, how to tell that it was done, and how an expert does it."""
