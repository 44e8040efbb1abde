"""Models that vLLM runs: on a server, or in this process. One model class, two engines.

model (`load_vllm`, a `CausalModel`) -> abilities -> engine (protocol) -> server | offline
"""
