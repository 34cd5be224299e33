"""Training: stages in a `RunConfig`, one loop that yields events. No trainer class, no callbacks, no engine."""
