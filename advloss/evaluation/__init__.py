"""What attacks leave of a network: over arrays (`front`) or over a trained run (`run`).

`examples` attacks any number of examples; `results` finds and summarises what a run's
work directory holds.
"""
