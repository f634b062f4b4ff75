"""Steering: directions and other interventions, generation under them, and how reliably they work."""
