"""The model checker: random scenarios over the whole Session API, held against what design says.

``python -m model --seconds 60 --store memory`` looks for findings; README.md tells more.
"""
