"""A simulated LLM for a real Triton server: no GPU, no weights, the real backends' wire formats.

`prose` writes the text, `script` reads what a test asks for, `answer` joins the two, `scheduler`
decides who gets a slot and when tokens are due. These are pure: no clock, no thread, no Triton.
`engine` runs a scheduler on a thread; `served` and `metrics` are the side that Triton sees.
"""
