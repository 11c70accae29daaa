"""ami/fetch-config against AWS's own client library, with SSM and the metadata service played."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vgTVzd alice@laptop"
TOKEN = "the-token"


class Aws(BaseHTTPRequestHandler):
    """Both services. What it was asked without a token is remembered."""

    def do_PUT(self):
        self.answer(TOKEN if self.path == "/latest/api/token" else None)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self.server.without_token.append(self.path)
            self.answer(None)
        elif self.path.startswith("/latest/meta-data/placement/availability-zone"):
            self.answer("eu-central-1a")
        elif self.path.rstrip("/") == "/latest/meta-data/iam/security-credentials":
            self.answer("devhost")
        elif self.path.startswith("/latest/meta-data/iam/security-credentials/devhost"):
            self.answer(json.dumps({"Code": "Success", "AccessKeyId": "ID", "SecretAccessKey": "KEY", "Token": "T", "Expiration": "2099-01-01T00:00:00Z"}))
        else:
            self.answer(None)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names = sorted(name for name in self.server.parameters if name.startswith(asked["Path"] + "/"))
        # Two a page, so that there are several.
        first = int(asked.get("NextToken", 0))
        page = {"Parameters": [{"Name": name, "Value": self.server.parameters[name]} for name in names[first : first + 2]]}
        if first + 2 < len(names):
            page["NextToken"] = str(first + 2)
        self.server.regions.add(self.headers["Authorization"].split("/")[2])
        self.answer(json.dumps(page))

    def answer(self, text):
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Length", str(len(text or "")))
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_):
        pass


def parameter(word):
    """Words of Python have no dots and slashes."""
    return word.replace("_toml", ".toml").replace("keys_d", "keys.d").replace("__", "/")


class FetchConfig(unittest.TestCase):
    def setUp(self):
        self.aws = ThreadingHTTPServer(("127.0.0.1", 0), Aws)
        self.aws.parameters, self.aws.without_token, self.aws.regions = {}, [], set()
        threading.Thread(target=self.aws.serve_forever, daemon=True).start()
        self.addCleanup(self.aws.server_close)
        self.addCleanup(self.aws.shutdown)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.etc = Path(directory.name)
        self.keys = self.etc / "authorized_keys.d"
        self.keys.mkdir()
        self.config = self.etc / "boxgate.toml"
        self.config.write_text("# as the image has it\n")

    def fetch(self, **parameters):
        self.aws.parameters = {f"/boxgate/devhost/{parameter(name)}": text for name, text in parameters.items()}
        self.aws.parameters["/boxgate/other/boxgate.toml"] = "for another host"
        here = f"http://127.0.0.1:{self.aws.server_port}"
        environment = {
            "PATH": f"{os.environ['BOXGATE_BIN']}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL_SSM": here,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": here,
            "AWS_EC2_METADATA_V1_DISABLED": "true",
            "BOXGATE_SSM_PREFIX": "/boxgate/devhost",
        }
        command = [sys.executable, ROOT / "ami/fetch-config", "--etc", self.etc, "--no-reload"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def put(self, **parameters):
        done = self.fetch(**parameters)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_config_and_keys_arrive_with_a_token_and_the_gateways_group(self):
        self.put(boxgate_toml="[box]\nmemory = \"1GiB\"", authorized_keys_d__alice=KEY, authorized_keys_d__bob=KEY)
        self.assertIn('memory = "1GiB"', self.config.read_text())
        self.assertEqual(sorted(file.name for file in self.keys.iterdir()), ["alice", "bob"])
        self.assertIn(KEY, (self.keys / "alice").read_text())
        self.assertEqual((self.keys / "alice").stat().st_mode & 0o777, 0o640)
        self.assertEqual(self.aws.without_token, [])
        self.assertEqual(self.aws.regions, {"eu-central-1"})
        self.assertEqual([file.name for file in self.etc.iterdir() if file.name.startswith(".")], [])

    def test_a_second_time_changes_nothing(self):
        self.put(boxgate_toml="[box]", authorized_keys_d__alice=KEY)
        self.assertEqual(self.put(boxgate_toml="[box]", authorized_keys_d__alice=KEY), "")

    def test_a_configuration_with_a_fault_never_replaces_the_old_one(self):
        done = self.fetch(boxgate_toml="[box]\nmemory = 7", authorized_keys_d__alice=KEY)
        self.assertEqual(done.returncode, 1)
        self.assertIn("memory", done.stderr)
        self.assertEqual(self.config.read_text(), "# as the image has it\n")
        self.assertEqual([file.name for file in self.etc.iterdir() if file.name.startswith(".")], [])

    def test_who_has_no_parameter_any_more_loses_her_keys_and_others_keep_theirs(self):
        (self.keys / "carol").write_text(KEY)
        self.put(authorized_keys_d__alice=KEY, authorized_keys_d__bob=KEY)
        self.put(authorized_keys_d__bob=KEY)
        self.assertEqual(sorted(file.name for file in self.keys.iterdir()), ["bob", "carol"])

    def test_an_empty_prefix_removes_nobody(self):
        self.put(authorized_keys_d__alice=KEY)
        done = self.fetch()
        self.assertEqual(done.returncode, 1)
        self.assertIn("no parameter below /boxgate/devhost", done.stderr)
        self.assertTrue((self.keys / "alice").exists())

    def test_a_name_that_is_none_is_refused_before_anything_is_written(self):
        for name in ["authorized_keys_d__Alice", "authorized_keys_d__.hidden", "authorized_keys_d__a__b", "else"]:
            done = self.fetch(boxgate_toml="[box]", **{name: KEY})
            self.assertEqual(done.returncode, 1, name)
            self.assertEqual(self.config.read_text(), "# as the image has it\n")
            self.assertEqual(list(self.keys.iterdir()), [])
