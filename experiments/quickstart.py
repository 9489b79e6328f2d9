"""`advloss quickstart`, as python -m experiments.quickstart."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("quickstart")
