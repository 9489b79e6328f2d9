"""The commands: what a terminal gives becomes flags and configs, errors become lines.

`main` starts every command, as `advloss COMMAND` or `python -m experiments.COMMAND`;
each command's work is in the module of its name. To add one: write such a module, and
enter it in `main.COMMANDS`.
"""
