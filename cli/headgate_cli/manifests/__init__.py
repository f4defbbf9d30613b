"""Manifests in files, judged and compiled as a cluster would.

`files` reads YAML and knows on which line everything stands; `schema` and `rules` check one object
as the API server does; `plans` asks the controllers about all of them together.
"""
