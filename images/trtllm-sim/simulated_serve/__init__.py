"""The simulated LLM behind an OpenAI server like TensorRT-LLM's `trtllm-serve`.

`questions` reads what clients ask, `schema` and `parts` are what guided decoding and the parsers of
tools and reasoning do, `writing` is the dialect. These are pure. `server` is the HTTP side, and
`calls` brings tokens from the engine's thread to it. Names, defaults and oddities are those of
tensorrt_llm/serve in TensorRT-LLM.
"""
