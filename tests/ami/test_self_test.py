"""ami/self-test against a gateway, a provisioner and boxes that are real, and against some in which something is wrong."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER = "boxgate"
BIN = Path(os.environ["BOXGATE_BIN"])
IMAGE = os.environ["BOXGATE_IMAGE"]
DOCKER = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"


class SelfTest(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        # Of this run, and of no other's that is going on.
        self.instance = f"selftest{os.getpid()}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.ready, self.keys = self.directory / "ready", self.directory / "keys.d"

    def site(self, image=IMAGE):
        """Starts a provisioner and a gateway."""
        gateway = pwd.getpwnam(USER)
        for name in ("run", "gateway", "provisioner", "keys.d"):
            (self.directory / name).mkdir()
        os.chown(self.directory / "gateway", gateway.pw_uid, gateway.pw_gid)
        os.chown(self.keys, 0, gateway.pw_gid)
        self.keys.chmod(0o750)
        self.directory.chmod(0o711)
        self.config = self.directory / "boxgate.toml"
        self.config.write_text(f"""
[gateway]
listen = ["127.0.0.1:{self.port}"]
state_dir = "{self.directory}/gateway"
authorized_keys_dir = "{self.keys}"

[provisioner]
instance = "{self.instance}"
socket = "{self.directory}/run/provisioner.sock"
gateway_user = "{USER}"
state_dir = "{self.directory}/provisioner"
network_pool = "10.219.0.0/20"

[box]
image = "{image}"
runtime = "runc"
i_understand_boxes_are_root_on_this_host = true
""")
        self.addCleanup(subprocess.run, ["nft", "delete", "table", "inet", f"boxgate_{self.instance}"], stderr=subprocess.DEVNULL)
        self.provisioner = self.start(BIN / "boxgate-provisioner")
        self.until((self.directory / "run/provisioner.sock").exists)
        self.gateway = self.start("setpriv", "--reuid", USER, "--regid", USER, "--init-groups", BIN / "boxgate-gateway")

    def start(self, *command):
        log = (self.directory / f"{Path(command[-1]).name}.log").open("w")
        process = subprocess.Popen([*command, "--config", self.config], stdout=log, stderr=log, start_new_session=True)
        self.addCleanup(self.end, process)
        self.addCleanup(log.close)
        return process

    @staticmethod
    def end(process):
        process.terminate()
        process.wait(timeout=60)

    def until(self, holds):
        until = time.monotonic() + 30
        while not holds():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def spoilt_image(self, *commands):
        """A box image that was made from the real one."""
        image = f"boxgate/box:{self.instance}"
        lines = "\n".join([f"FROM {IMAGE}", *(f"RUN {command}" for command in commands)])
        subprocess.run([DOCKER, "build", "--quiet", "--tag", image, "-"], input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
        self.addCleanup(subprocess.run, [DOCKER, "image", "rm", "--force", image], check=True, stdout=subprocess.DEVNULL)
        return image

    def run_it(self, patience=30):
        environment = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "BOXGATE_CONFIG": str(self.config),
            "BOXGATE_READY": str(self.ready),
            "BOXGATE_PORT": str(self.port),
            "BOXGATE_USER": USER,
            "BOXGATE_PATIENCE": str(patience),
        }
        return subprocess.run([ROOT / "ami/self-test"], env=environment, capture_output=True, text=True, timeout=240)

    def leaves_nothing(self):
        self.assertEqual(list(self.keys.iterdir()), [])
        ours = ["--filter", f"label=io.boxgate.instance={self.instance}", "--quiet"]
        for what in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            self.assertEqual(subprocess.check_output([DOCKER, *what, *ours], text=True), "", what)

    def refuses(self, why, **options):
        self.ready.touch()
        done = self.run_it(**options)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"FAILED: {why}", done.stdout)
        self.assertFalse(self.ready.exists())
        return done.stdout

    def test_a_sound_machine_is_ready_and_nothing_of_the_test_stays(self):
        self.site()
        done = self.run_it()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(self.ready.exists())
        self.leaves_nothing()

    def test_docker_that_does_not_work_in_boxes_is_found(self):
        self.site(self.spoilt_image("systemctl mask docker.service docker.socket"))
        self.assertIn("docker daemon", self.refuses("Docker does not work in a box"))
        self.leaves_nothing()

    def test_a_box_that_reaches_the_metadata_service_is_found(self):
        self.site(self.spoilt_image("ln -sf /bin/true /usr/bin/curl"))
        self.refuses("a box reaches the cloud's metadata service")
        self.leaves_nothing()

    def test_boxes_that_cannot_be_made_are_found(self):
        self.site("boxgate/box:there-is-none")
        self.assertIn("there-is-none", self.refuses("a login through the gateway to a new box does not work"))
        self.leaves_nothing()

    def test_a_gateway_that_is_down_is_found(self):
        self.site()
        self.end(self.gateway)
        self.refuses("the gateway does not answer on port", patience=1)

    def test_a_provisioner_that_is_down_is_found(self):
        self.site()
        self.end(self.provisioner)
        self.refuses("the provisioner does not answer", patience=1)
