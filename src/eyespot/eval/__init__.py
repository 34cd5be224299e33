"""Evaluation: a task times a generator gives answers; answers give figures with intervals, beside blank and chance."""
