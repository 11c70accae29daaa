package hcl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ami = "../../../ami"

func TestEveryPromiseIsKept(t *testing.T) {
	faults, err := broken(ami)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

// Each promise is broken once, by what somebody might change, and must be missed.
var mutations = []struct{ promise, file, from, to string }{
	{"plugins", "devhost.pkr.hcl", "locals {", "packer {\n}\n\nlocals {"},
	{"plugins", "plugins.pkr.hcl", "    qemu = {", "    quemu = {"},
	{"architectures", "devhost.pkr.hcl", "ubuntu-noble-24.04-arm64", "ubuntu-jammy-22.04-arm64"},
	{"architectures", "devhost.pkr.hcl", `source "amazon-ebs" "arm64"`, `source "amazon-ebs" "riscv"`},
	{"architectures", "devhost.pkr.hcl", "volume_size           = 40", "volume_size           = 50"},
	{"encryption", "devhost.pkr.hcl", "encrypt_boot              = true", "encrypt_boot              = false"},
	{"encryption", "devhost.pkr.hcl", "encrypted             = true", "encrypted             = false"},
	{"volumes", "devhost.pkr.hcl", `"gp3"`, `"gp2"`},
	{"data volume", "devhost.pkr.hcl", "delete_on_termination = false", "delete_on_termination = true"},
	{"nothing baked in", "devhost.pkr.hcl", "ssh_clear_authorized_keys = true", "ssh_clear_authorized_keys = false"},
	{"tags", "devhost.pkr.hcl", "run_volume_tags = local.tags", "run_volume_tags = {}"},
	{"qcow2", "devhost.pkr.hcl", `"qcow2"`, `"raw"`},
	{"same install.sh", "devhost.pkr.hcl", "install.sh --image-build", "install.sh"},
	{"same install.sh", "devhost.pkr.hcl", `      "bash /tmp/boxgate/ami/clean",`, ""},
	{"same install.sh", "devhost.pkr.hcl", "    \"source.qemu.amd64\",\n", ""},
	{"same install.sh", "devhost.pkr.hcl", "    execute_command ", "    only = [\"qemu.amd64\"]\n    execute_command "},
	{"IMDSv2", "devhost.pkr.hcl", "imdsv2 instance", "true"},
	{"IMDSv2", "devhost.pkr.hcl", "imdsv2 images", "true"},
	{"described", "devhost.pkr.hcl", "Boxgate's version, for names and tags.", ""},
	{"used", "devhost.pkr.hcl", "locals {", "variable \"spare\" {\n  type        = string\n  description = \"x\"\n}\n\nlocals {"},
	{"format", "devhost.pkr.hcl", "headless         = true", "headless = true"},

	{"IMDSv2", "terraform/main.tf", `"required"`, `"optional"`},
	{"IMDSv2", "terraform/main.tf", "hop_limit = 1", "hop_limit = 2"},
	{"encryption", "terraform/main.tf", "encrypted             = true", "encrypted             = false"},
	{"encryption", "terraform/main.tf", "encrypted         = true", "encrypted         = var.public_address"},
	{"data volume", "terraform/main.tf", "prevent_destroy = true", "prevent_destroy = false"},
	{"data volume", "terraform/main.tf", "stop_instance_before_detaching = true", "stop_instance_before_detaching = false"},
	{"data volume", "terraform/main.tf", "  ephemeral_block_device {", "  ebs_block_device {"},
	{"ports", "terraform/main.tf", "to_port           = 22", "to_port           = 2222"},
	{"ports", "terraform/main.tf", "from_port         = 22", "from_port         = 0"},
	{"ports", "terraform/main.tf", "  description = \"ssh to", "  ingress     = []\n  description = \"ssh to"},
	{"ports", "terraform/main.tf", `resource "aws_eip"`, "resource \"aws_security_group_rule\" \"more\" {\n}\n\nresource \"aws_eip\""},
	{"described", "terraform/outputs.tf", `description = "How people log in."`, `description = ""`},
	{"described", "terraform/variables.tf", "Further tags of all that is made here.", ""},
	{"used", "terraform/schedule.tf", "var.timezone", `"UTC"`},
	{"names", "terraform/outputs.tf", "aws_ebs_volume.data.id", "aws_ebs_volume.date.id"},
	{"names", "terraform/main.tf", "local.files", "local.file"},
	{"names", "terraform/main.tf", "trimspace(key)", "strip(key)"},
	{"module", "terraform/versions.tf", "hashicorp/aws", ""},
	{"secrets", "terraform/terraform.tfvars.example", "users = {", "db_password = \"hunter2\"\nusers = {"},
	{"secrets", "cloud-init.example.yaml", "ssh-ed25519 ", "-----BEGIN OPENSSH PRIVATE KEY-----"},
}

func TestABrokenPromiseIsMissed(t *testing.T) {
	for _, mutation := range mutations {
		t.Run(mutation.promise+"/"+mutation.from, func(t *testing.T) {
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(ami)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(copied, mutation.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			mutated := strings.Replace(string(text), mutation.from, mutation.to, 1)
			if mutated == string(text) {
				t.Fatalf("%s has no %q any more", mutation.file, mutation.from)
			}
			if err := os.WriteFile(file, []byte(mutated), 0o600); err != nil {
				t.Fatal(err)
			}
			faults, err := broken(copied)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range faults {
				if strings.HasPrefix(fault, mutation.promise+": ") {
					return
				}
			}
			t.Errorf("nobody missed it; found: %q", faults)
		})
	}
}
