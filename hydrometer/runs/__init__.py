"""What every kind of run shares: its options, models loaded once, how it is told, and what it says when memory ends."""
