"""`advloss diagnose`, as python -m experiments.diagnose."""

from advloss.cli.main import launch

if __name__ == "__main__":
    launch("diagnose")
