"""How often a model is right: avg@k and pass@k with intervals over questions, and paired comparisons.

config -> setup -> run -> evaluate (draw and grade) -> summary (statistics, comparison)
"""
