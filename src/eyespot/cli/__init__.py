"""The command `eyespot`: one file for each verb, each a few lines of glue over the library. No logic of its own."""
