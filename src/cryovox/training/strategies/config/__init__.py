"""Settings of the strategies, one module each; they import no torch, so that help and refusals are quick."""
