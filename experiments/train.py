"""`advloss train`, as python -m experiments.train."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("train")
