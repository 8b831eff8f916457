"""Endurance: sound requests with every control for half an hour, from clients that come and go.

`make soak SECONDS=1800` starts a server, keeps it busy, and says whether each criterion of
`verdict.py` holds. The fuzzer's rules (`tests.fuzz.invariants`) judge every answer.
"""
