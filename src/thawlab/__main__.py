"""`python -m thawlab`: the same as `thawlab`."""

import sys
from pathlib import Path

# Python looks for modules in the working folder first when it is started so. It may come from somebody else, and what
# is imported from here on is not to come from there, unless thawlab itself does.
_HERE = Path.cwd()
if not sys.flags.safe_path and sys.path[:1] == [str(_HERE)] and not Path(__file__).resolve().is_relative_to(_HERE):
    del sys.path[0]

from thawlab.cli.main import main  # noqa: E402

main()
