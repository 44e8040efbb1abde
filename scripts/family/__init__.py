"""How the bundled family is made: corpus, tokenizer, training, measurement (see `make_family.py`)."""
