"""What every other folder agrees on: shapes, messages, media, encoded samples, batches. No model, no I/O."""
