"""``python -m vaebench``, which launchers of several processes start."""

from vaebench.cli import main

main()
