"""Rollouts that are there already: those of a finished run, or of a file of the user's own."""
