"""`advloss evaluate`, as python -m experiments.evaluate."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("evaluate")
