"""Functions that return a `RunConfig`; `eyespot train NAME` calls the function NAME of the file NAME."""
