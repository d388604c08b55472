"""Training workflows: data, network, run and model selection."""
