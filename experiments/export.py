"""`advloss export`, as python -m experiments.export."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("export")
