#!/usr/bin/env python3
"""Stands in for Ray: opens its folder to everybody, writes an address, and stays until SIGTERM."""

import os
import sys
import time
from pathlib import Path

folder = next(word.partition("=")[2] for word in sys.argv if word.startswith("--temp-dir="))
if os.environ.get("STANDIN_RAY") == "fails":
    sys.exit("no Ray today")
Path(folder).mkdir(exist_ok=True)
Path(folder).chmod(0o777)
Path(folder, "ray_current_cluster").write_text("127.0.0.1:6379")
time.sleep(3600)
