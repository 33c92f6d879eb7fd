"""`python -m lgutils`, and `torchrun --nproc_per_node 2 -m lgutils accumulate ...`: the command."""

from lgutils.cli import main

if __name__ == "__main__":
    main()
