"""The composable core: encoders, connectors, the decoder, heads, and the two ways to join them."""
