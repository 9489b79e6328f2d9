"""`advloss study`, as python -m experiments.study."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("study")
