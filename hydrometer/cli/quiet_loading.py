"""Keeps the progress bars of checkpoint loading off the screen."""


def silence_loading_bars() -> None:
    """A bar per checkpoint says nothing at the sizes this is made for, and breaks the plain lines."""
    from transformers.utils import logging

    logging.disable_progress_bar()
