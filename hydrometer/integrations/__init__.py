"""Hydrometer's objectives, weights and metrics in other people's trainers, one file each; imported by name only."""
