"""Opening models, their hook points, capturing activations, memory estimates."""
