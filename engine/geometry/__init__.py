"""The geometry of activations and features: spectra, fits, similarity."""
