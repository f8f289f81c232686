"""``python -m tasks.describe``; see `tasks.describe.command`."""

import sys

from tasks.describe.command import main

if __name__ == "__main__":
    sys.exit(main())
