"""`advloss report`, as python -m experiments.report."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("report")
