"""How good the best network is that a search has, from moment to moment.

``search_vtune`` and ``search_optuna`` are scripts, each for a process of its own that imports no more than its side
needs. They are given what is asked as JSON, and print what came out as JSON.
"""
