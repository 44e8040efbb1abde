"""Hydrometer: which teacher, context, objective and tokens help, before paying for on-policy distillation."""

__version__ = "0.1.0"
