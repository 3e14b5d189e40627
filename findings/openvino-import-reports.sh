#!/usr/bin/env bash
# `import openvino` reports itself to an analytics service, unless a variable says that it runs in CI.
#
# Versions: openvino 2026.4.1, openvino-telemetry 2025.2.0, Python 3.11.
#
# openvino requires openvino-telemetry. Importing it imports its model converter (openvino.tools.ovc),
# which makes an id for this user in ~/intel/stats and starts a process that sends one event. There is
# no question first, and no variable of its own that prevents it: `opt_in_out --opt_out` writes a file
# for later. With CI=true nothing is made or sent, and neither if openvino_telemetry cannot be found.
# What is looked up here is only counted: no name is resolved.
#
#     import openvino: 1 name looked up, ['intel']
#     import openvino with CI=true: 0 names looked up, []
#     import openvino without openvino_telemetry: 0 names looked up, []
#
# Way around: `sys.modules["openvino_telemetry"] = None` while openvino is imported
# (runtimes/openvino/__init__.py).
#
# Takes half a minute.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 openvino-telemetry==2025.2.0 2>/dev/null
cat >"$work/try.py" <<'PYTHON'
"""Counts the names that importing OpenVINO looks up, and says what it makes in the home folder."""
import socket
import sys
import threading
from pathlib import Path

names = Path(sys.argv[2])


def refused(host, *rest, **more):  # the event is sent by a process of its own
    with names.open("a") as file:
        file.write(f"{host}\n")
    raise OSError


socket.getaddrinfo = refused
if "without" in sys.argv[1]:
    sys.modules["openvino_telemetry"] = None
import openvino

for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(10)
count = len(set(names.read_text().split())) if names.exists() else 0
many = f"{count} name{'s' * (count != 1)}"
print(f"{sys.argv[1]}: {many} looked up, {[path.name for path in Path.home().iterdir()]}")
PYTHON
imported() {
  local home
  home=$(mktemp -d "$work/home.XXXX")
  env -u TF_BUILD -u JENKINS_URL HOME="$home" CI="$1" "$work/venv/bin/python" "$work/try.py" "import openvino$2" "$home.names"
}
seen=$(
  imported "" ""
  imported true " with CI=true"
  imported "" " without openvino_telemetry"
)
echo "$seen"
test "$seen" = "import openvino: 1 name looked up, ['intel']
import openvino with CI=true: 0 names looked up, []
import openvino without openvino_telemetry: 0 names looked up, []"
