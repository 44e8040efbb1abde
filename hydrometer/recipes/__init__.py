"""Recipes that rescue a failing run: compositions of the commands, and the parts that only they need."""
