"""A process that forks, as `thawlab.launch.warm_process` does, for jobs that are programs in their folders."""

import runpy
import socket
import sys
from pathlib import Path

from thawlab.launch.warm_process import serve

folder = serve(socket.socket(fileno=int(sys.argv[1])))
if folder is not None:
    runpy.run_path(str(Path(folder, "job.py")), {"folder": Path(folder)})
