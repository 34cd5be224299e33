"""Weights on disk: reversible key maps, safetensors in and out, checksums, the hub. No model, no family."""
