"""The operational shell: files, locks, signals, checkpoints, metrics, devices, hosts.

Nothing here knows of losses, attacks or configs. It is the only room that imports
orbax, and `devices` the only file that names `jax.pmap`.
"""
