"""Generation: what `eyespot.load` gives, and the loops behind it."""
