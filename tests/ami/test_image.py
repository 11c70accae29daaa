"""What an image is made with: the data volume on loop devices, what is cleaned, and the example of user data."""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


class DataVolume(unittest.TestCase):
    """lsblk tells of the test's loop devices as of the machine's disks; all else is real, in a mount namespace."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.disks = []

    def disk(self, size=2 * GIB, model=""):
        # A file of its own, so that nothing is on it that another disk got.
        handle, file = tempfile.mkstemp(dir=self.directory)
        os.truncate(handle, size)
        os.close(handle)
        device = subprocess.check_output(["losetup", "--find", "--show", file], text=True).strip()
        self.addCleanup(subprocess.run, ["losetup", "--detach", device], check=True)
        self.disks.append(f"{device} disk 0 {model}")
        self.file = file
        return device

    def prepare(self):
        shim = self.directory / "lsblk"
        lines = "\n".join(self.disks)
        shim.write_text(f"#!/bin/sh\ncase \"$*\" in *--nodeps*) cat <<'E'\n{lines}\nE\n;; *) exec /usr/bin/lsblk \"$@\" ;; esac\n")
        shim.chmod(0o755)
        environment = os.environ | {"PATH": f"{self.directory}:{os.environ['PATH']}", "BOXGATE_PATIENCE": "1", "BLKID_FILE": "/dev/null"}
        command = ["unshare", "--mount", ROOT / "ami/data-volume", "prepare"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def label(self, device):
        return subprocess.run(["blkid", "--probe", "--match-tag", "LABEL", "--output", "value", device], capture_output=True, text=True).stdout.strip()

    def files(self, device, script):
        mounted = self.directory / "mounted"
        mounted.mkdir(exist_ok=True)
        command = ["unshare", "--mount", "sh", "-euc", f"mount {device} {mounted}; cd {mounted}; {script}"]
        return subprocess.check_output(command, text=True).split()

    def test_a_blank_disk_becomes_it_and_keeps_what_is_on_it_from_then_on(self):
        device = self.disk()
        done = self.prepare()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.label(device), "boxgate-data")
        self.assertEqual(self.files(device, "echo kept >docker/file; ls"), ["boxgate", "containerd", "docker"])
        done = self.prepare()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.files(device, "cat docker/file"), ["kept"])

    def test_a_labelled_volume_is_taken_and_a_blank_disk_left_alone(self):
        old = self.disk()
        self.prepare()
        blank = self.disk()
        self.assertEqual(self.prepare().returncode, 0)
        self.assertEqual((self.label(old), self.label(blank)), ("boxgate-data", ""))

    def test_a_volume_that_grew_is_used_whole(self):
        device = self.disk()
        self.prepare()
        os.truncate(self.file, 3 * GIB)
        subprocess.run(["losetup", "--set-capacity", device], check=True)
        self.assertEqual(self.prepare().returncode, 0)
        self.assertGreater(int(self.files(device, "stat -fc '%b %S' .")[0]) * 4096, 2.5 * GIB)

    def test_what_is_not_blank_is_never_formatted(self):
        def signature(device):
            subprocess.run(["mkfs.ext4", "-q", device], check=True)

        def partition(device):
            # One of Linux from the 2048th sector on, as fdisk writes it.
            entry = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3, 2048, 100000)
            with open(device, "r+b") as disk:
                disk.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")

        def bytes_of_somebody(device):
            with open(device, "r+b") as disk:
                disk.seek(70000)
                disk.write(b"something")

        for spoil in (signature, partition, bytes_of_somebody):
            with self.subTest(spoil.__name__):
                self.disks = []
                device = self.disk()
                spoil(device)
                self.refuses(device, "no volume with the label boxgate-data came")

    def test_an_instance_store_and_a_tiny_disk_are_none(self):
        self.disk(model="Amazon\\x20EC2\\x20NVMe\\x20Instance\\x20Storage")
        self.refuses(self.disk(size=GIB // 2), "no volume with the label boxgate-data came")

    def test_of_two_blank_disks_none_is_chosen(self):
        self.disk()
        self.refuses(self.disk(), "several blank disks")

    def refuses(self, device, why):
        # Where any file system, and any table of partitions, has its beginning.
        beginning = ["head", "--bytes=16M", device]
        before = subprocess.check_output(beginning)
        done = self.prepare()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(why, done.stderr)
        self.assertTrue(subprocess.check_output(beginning) == before)


class Played(unittest.TestCase):
    """Scripts whose Docker or AWS is played: it writes down what it was asked."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def play(self, program, script="", **environment):
        """Returns what a script asked of the program that is played."""
        asked = self.directory / "asked"
        asked.write_text("")
        shim = self.directory / program[0]
        shim.write_text(f'#!/bin/sh\necho "$@" >>{asked}\n{script}\n')
        shim.chmod(0o755)
        environment = os.environ | {"PATH": f"{self.directory}:{os.environ['PATH']}"} | environment
        subprocess.run([ROOT / "ami" / program[1], *program[2:]], env=environment, check=True, stdout=subprocess.DEVNULL)
        return asked.read_text().splitlines()

    def test_the_box_image_is_loaded_once_for_each_that_comes(self):
        archive, loaded = self.directory / "box-image.tar.zst", self.directory / "loaded"
        environment = {"BOXGATE_BOX_IMAGE": str(archive), "BOXGATE_LOADED": str(loaded)}
        # It reads what it is given, as Docker does.
        docker = '[ "$1" != load ] || [ "$(cat)" = image ] || exit 1'
        program = ["docker", "load-box-image"]
        subprocess.run(["zstd", "--quiet", "-o", archive], input=b"image", check=True)

        def comes(checksum):
            Path(f"{archive}.sha256").write_text(checksum + "\n")
            return "load" in self.play(program, docker, **environment)

        self.assertTrue(comes("one"))
        self.assertFalse(comes("one"), "an image that somebody built since stays")
        self.assertTrue(comes("two"), "a data volume that is older than the image gets the new one")
        there_is_none = docker + '; [ "$1" != image ]'
        self.assertIn("load", self.play(program, there_is_none, **environment))

    def test_an_image_that_cannot_be_loaded_is_tried_again(self):
        archive = self.directory / "box-image.tar.zst"
        archive.write_bytes(b"this is not zstd")
        Path(f"{archive}.sha256").write_text("one\n")
        environment = {"BOXGATE_BOX_IMAGE": str(archive), "BOXGATE_LOADED": str(self.directory / "loaded")}
        with self.assertRaises(subprocess.CalledProcessError):
            self.play(["docker", "load-box-image"], "cat >/dev/null", **environment)
        self.assertFalse((self.directory / "loaded").exists())

    def test_the_builders_instance_answers_only_tokens(self):
        asked = self.play(["aws", "imdsv2", "instance", "i-1"])
        self.assertEqual(len(asked), 1)
        self.assertIn("modify-instance-metadata-options --instance-id i-1", asked[0])
        self.assertIn("--http-tokens required --http-put-response-hop-limit 1", asked[0])

    def test_every_copy_of_the_last_runs_amis_requires_tokens(self):
        manifest = self.directory / "amis.json"
        builds = [("old", "eu-central-1:ami-0"), ("new", "eu-central-1:ami-1,us-east-1:ami-2"), ("new", "eu-central-1:ami-3")]
        manifest.write_text(json.dumps({"last_run_uuid": "new", "builds": [{"packer_run_uuid": run, "artifact_id": ids} for run, ids in builds]}))
        expected = [("eu-central-1", "ami-1"), ("us-east-1", "ami-2"), ("eu-central-1", "ami-3")]
        self.assertEqual(
            self.play(["aws", "imdsv2", "images", manifest]),
            [f"ec2 modify-image-attribute --region {region} --image-id {image} --imds-support v2.0" for region, image in expected],
        )


class Clean(unittest.TestCase):
    def test_nothing_of_the_builder_stays(self):
        root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, root)
        gone = """etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_rsa_key.pub var/lib/boxgate/gateway/ssh_host_ed25519_key
            var/lib/boxgate/gateway/user_ca_key var/lib/boxgate/provisioner/alice/box.json var/lib/dbus/machine-id
            var/lib/systemd/random-seed root/.ssh/authorized_keys home/ubuntu/.ssh/authorized_keys home/ubuntu/.bash_history
            var/log/syslog var/log/journal/1/system.journal var/lib/cloud/instance/user-data.txt var/lib/docker/overlay2/x
            tmp/boxgate/ami/install.sh var/tmp/boxgate-cache/x""".split()
        kept = ["etc/ssh/sshd_config", "etc/boxgate/boxgate.toml", "usr/share/boxgate/box-image.tar.zst", "home/ubuntu/.bashrc"]
        for name in [*gone, *kept, "etc/machine-id"]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("something")
        subprocess.run([ROOT / "ami/clean", root], check=True)
        left = sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
        self.assertEqual(left, sorted([*kept, "etc/machine-id"]))
        self.assertEqual((root / "etc/machine-id").read_text(), "")


class UserData(unittest.TestCase):
    """The example is what cloud-init understands, and what the gateway does."""

    def setUp(self):
        self.text = (ROOT / "ami/cloud-init.example.yaml").read_text()
        self.data = yaml.safe_load(self.text)

    def validator(self):
        schema = json.loads(Path(os.environ["BOXGATE_CLOUD_INIT_SCHEMA"]).read_text())
        return jsonschema.Draft4Validator(schema)

    def test_it_fits_cloud_inits_schema(self):
        self.assertEqual(self.text.splitlines()[0], "#cloud-config")
        self.assertEqual([fault.message for fault in self.validator().iter_errors(self.data)], [])
        # The schema does tell one thing from another.
        self.data["write_files"][0]["permission"] = self.data["write_files"][0].pop("permissions")
        self.assertFalse(self.validator().is_valid(self.data))

    def test_its_configuration_and_keys_are_ones(self):
        files = {file["path"]: file["content"] for file in self.data["write_files"]}
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            keys = [line for line in files["/etc/boxgate/authorized_keys.d/alice"].splitlines()]
            config.write(files["/etc/boxgate/boxgate.toml"] + f"\n[users.alice]\nkeys = {json.dumps(keys)}\n")
            config.flush()
            gateway = Path(os.environ["BOXGATE_BIN"]) / "boxgate-gateway"
            done = subprocess.run([gateway, "--config", config.name, "--check-config"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(files["/etc/boxgate/ssm.env"], "BOXGATE_SSM_PREFIX=/boxgate/devhost\n")
