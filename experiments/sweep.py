"""`advloss sweep`, as python -m experiments.sweep."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("sweep")
