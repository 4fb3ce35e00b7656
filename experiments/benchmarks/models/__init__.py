"""The suite "models": whole networks, forward and one training step, against torch's own."""
