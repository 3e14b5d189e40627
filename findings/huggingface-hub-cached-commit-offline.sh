#!/usr/bin/env bash
# With HF_HUB_OFFLINE, snapshot_download does not find a commit that is in the cache.
#
# Versions: huggingface_hub 1.33.0 and 2.4.0, Python 3.11.
#
# snapshot_download falls back to the cache where the hub cannot be reached. For a revision that is a
# branch it does so in every version. For one that is a full commit hash, which needs no look-up at all,
# huggingface_hub 1.26.1 to 2.1.1 skip the request whose failure leads to the cache, and then list the
# commit's files over the network, outside of any handler. They only spare that request if
# snapshot_download itself wrote the cache (it keeps the listing beside the files). A cache written by
# hf_hub_download, and so by from_pretrained, or by a version before 1.22 has no listing. So pinning a
# revision, as is advised, makes an offline start fail:
#
#     1.33.0 by branch: found
#     1.33.0 by commit: OfflineModeIsEnabled
#     1.33.0 by commit, local_files_only: found
#     2.4.0 by branch: found
#     2.4.0 by commit: found
#     2.4.0 by commit, local_files_only: found
#
# Without HF_HUB_OFFLINE and without a network it is httpx.ConnectError in place of OfflineModeIsEnabled.
# 1.x is what transformers 5.4 and its neighbours require (huggingface-hub<2.0).
#
# Way around: pass local_files_only=True where offline use is meant; a commit's files cannot have changed.
#
# The script fills a cache from a hub of its own on this machine. Takes half a minute.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/hub.py" <<'PYTHON'
"""A hub with one file: fills the cache named by HF_HOME by hf_hub_download, then leaves."""
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"

class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        answer = {"ETag": '"ab"', "X-Repo-Commit": COMMIT, "Content-Length": "2"}
        for name, value in answer.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"{}")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from huggingface_hub import hf_hub_download

hf_hub_download("owner/model", "config.json", revision="main")
PYTHON
cat >"$work/ask.py" <<'PYTHON'
import huggingface_hub as hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WAYS = {
    "by branch": {"revision": "main"},
    "by commit": {"revision": COMMIT},
    "by commit, local_files_only": {"revision": COMMIT, "local_files_only": True},
}
for way, options in WAYS.items():
    try:
        found = "found" if hub.snapshot_download("owner/model", **options).endswith(COMMIT) else "?"
    except Exception as error:
        found = type(error).__name__
    print(f"{hub.__version__} {way}: {found}")
PYTHON
export HF_HUB_DISABLE_PROGRESS_BARS=1
for version in 1.33.0 2.4.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "huggingface_hub==$version" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    export HF_HOME="$work/home-$version"
    HF_HUB_OFFLINE=0 "$work/$version/bin/python" -I "$work/hub.py"
    HF_HUB_OFFLINE=1 "$work/$version/bin/python" -I "$work/ask.py"
done | tee "$work/seen"

sed -n 's/^#     \([12]\.\)/\1/p' "$0" | diff - "$work/seen" ||
    { echo "huggingface_hub has changed: see the head of the script" >&2; exit 1; }
