# Makes a devhost's image: an AMI for each architecture, or a qcow2 for a hypervisor at hand. docs/ami.md tells how.
#
# Every source gets the same: ami/install.sh, then ami/bake (what only images have, the box image among it), then ami/clean.
#
# Packer 1.6 as Debian has it must understand this file, so what only newer ones know is not in it: that the
# metadata service wants tokens is asked for by ami/imdsv2, not by metadata_options and imds_support.

variable "version" {
  type        = string
  default     = "0.1.0"
  description = "Boxgate's version, for names and tags."
}

variable "packages" {
  type        = string
  default     = ""
  description = "Directory with the .deb files of every architecture that is built; by default dist/ of the clone, where ./devhost deb puts them."
}

variable "profile" {
  type        = string
  default     = "full"
  description = "Tools in the box image: minimal or full, as for ami/box/build.sh."
}

variable "sysbox_sha256_arm64" {
  type        = string
  default     = ""
  description = "Checksum of Sysbox's package for arm64, which ami/install.sh knows for amd64 only."
}

variable "region" {
  type        = string
  default     = "eu-central-1"
  description = "AWS region to build in."
}

variable "copy_to_regions" {
  type        = list(string)
  default     = []
  description = "Further AWS regions that get a copy of the AMI."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "KMS key that volumes are encrypted with; by default the account's own for EBS."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Subnet to build in; by default one of the default VPC."
}

variable "data_volume_gib" {
  type        = number
  default     = 200
  description = "Size of the data volume that an instance gets when it is launched by hand."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Further tags for AMIs, snapshots and what exists while they are built."
}

variable "qcow2_checksum" {
  type        = string
  default     = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  description = "Checksum of Ubuntu's image; ami/qcow2.sh names Ubuntu's list of them. The default fits none, so that an unchecked image is never built on."
}

variable "qcow2_seed" {
  type        = string
  default     = ""
  description = "Directory with cloud-init's user-data and meta-data for the qcow2's building; ami/qcow2.sh makes it."
}

variable "qcow2_key" {
  type        = string
  default     = ""
  description = "Private key that the seed lets in; ami/qcow2.sh makes it."
}

variable "qcow2_accelerator" {
  type        = string
  default     = "kvm"
  description = "What QEMU runs the machine with: kvm, or tcg where there is none, which takes hours."
}

locals {
  packages = var.packages != "" ? var.packages : "${path.root}/../dist"
  name     = "boxgate-${var.version}-${formatdate("YYYYMMDD-hhmm", timestamp())}"
  tags = merge({
    Name            = "boxgate-${var.version}"
    boxgate-version = var.version
    boxgate-profile = var.profile
  }, var.tags)
}

source "amazon-ebs" "amd64" {
  region                    = var.region
  ami_regions               = var.copy_to_regions
  subnet_id                 = var.subnet_id
  ami_name                  = "${local.name}-amd64"
  ami_description           = "Boxgate ${var.version} on Ubuntu 24.04, amd64"
  instance_type             = "m7i.xlarge"
  ssh_username              = "ubuntu"
  ssh_clear_authorized_keys = true
  ena_support               = true
  encrypt_boot              = true
  kms_key_id                = var.kms_key_id

  source_ami_filter {
    filters = {
      name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
      architecture        = "x86_64"
      virtualization-type = "hvm"
    }
    owners      = ["099720109477"] # Canonical
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    volume_size           = 40
    encrypted             = true
    delete_on_termination = true
  }

  # The data volume, which ami/data-volume formats when it is blank. It outlives its instance.
  ami_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    volume_size           = var.data_volume_gib
    encrypted             = true
    kms_key_id            = var.kms_key_id
    delete_on_termination = false
  }

  tags            = merge(local.tags, { boxgate-arch = "amd64", base-ami = "{{ .SourceAMI }}" })
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}

source "amazon-ebs" "arm64" {
  region                    = var.region
  ami_regions               = var.copy_to_regions
  subnet_id                 = var.subnet_id
  ami_name                  = "${local.name}-arm64"
  ami_description           = "Boxgate ${var.version} on Ubuntu 24.04, arm64"
  instance_type             = "m7g.xlarge"
  ssh_username              = "ubuntu"
  ssh_clear_authorized_keys = true
  ena_support               = true
  encrypt_boot              = true
  kms_key_id                = var.kms_key_id

  source_ami_filter {
    filters = {
      name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*"
      architecture        = "arm64"
      virtualization-type = "hvm"
    }
    owners      = ["099720109477"] # Canonical
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    volume_size           = 40
    encrypted             = true
    delete_on_termination = true
  }

  # The data volume, which ami/data-volume formats when it is blank. It outlives its instance.
  ami_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    volume_size           = var.data_volume_gib
    encrypted             = true
    kms_key_id            = var.kms_key_id
    delete_on_termination = false
  }

  tags            = merge(local.tags, { boxgate-arch = "arm64", base-ami = "{{ .SourceAMI }}" })
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}

# Ubuntu's cloud image, which finds on the first web server that Packer runs who may log in while it is built.
source "qemu" "amd64" {
  iso_url          = "https://cloud-images.ubuntu.com/releases/24.04/release/ubuntu-24.04-server-cloudimg-amd64.img"
  iso_checksum     = var.qcow2_checksum
  disk_image       = true
  disk_size        = "40G"
  format           = "qcow2"
  disk_compression = true
  output_directory = "${path.root}/../dist/qcow2"
  vm_name          = "${local.name}-amd64.qcow2"
  accelerator      = var.qcow2_accelerator
  cpus             = 2
  memory           = 4096
  headless         = true
  http_directory   = var.qcow2_seed
  qemuargs = [
    ["-smbios", "type=1,serial=ds=nocloud;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"],
  ]
  ssh_username         = "ubuntu"
  ssh_private_key_file = var.qcow2_key
  ssh_timeout          = "30m"
  shutdown_command     = "sudo systemctl poweroff"
}

build {
  sources = [
    "source.amazon-ebs.amd64",
    "source.amazon-ebs.arm64",
    "source.qemu.amd64",
  ]

  provisioner "shell-local" {
    only             = ["amazon-ebs.amd64", "amazon-ebs.arm64"]
    environment_vars = ["AWS_REGION=${var.region}", "INSTANCE=${build.ID}"]
    inline           = ["${path.root}/imdsv2 instance \"$INSTANCE\""]
  }

  # What cloud-init has under way may hold apt's lock.
  provisioner "shell" {
    inline = [
      "cloud-init status --wait",
      "mkdir -p /tmp/boxgate/ami /tmp/boxgate/packages",
    ]
  }

  provisioner "file" {
    source      = "${path.root}/"
    destination = "/tmp/boxgate/ami"
  }

  # ./devhost deb makes them, so they need not be there when this file is checked.
  provisioner "file" {
    source      = "${local.packages}/"
    destination = "/tmp/boxgate/packages"
    generated   = true
  }

  provisioner "shell" {
    execute_command  = "sudo env {{ .Vars }} bash -eu {{ .Path }}"
    environment_vars = ["PROFILE=${var.profile}", "SYSBOX_SHA256_ARM64=${var.sysbox_sha256_arm64}"]
    inline = [
      "[ $(dpkg --print-architecture) != arm64 ] || export SYSBOX_SHA256=$SYSBOX_SHA256_ARM64",
      "bash /tmp/boxgate/ami/install.sh --image-build --yes --profile \"$PROFILE\" --packages /tmp/boxgate/packages",
      "bash /tmp/boxgate/ami/bake --profile \"$PROFILE\"",
      "bash /tmp/boxgate/ami/clean",
    ]
  }

  post-processors {
    post-processor "manifest" {
      only   = ["amazon-ebs.amd64", "amazon-ebs.arm64"]
      output = "${path.root}/../dist/amis.json"
    }
    post-processor "shell-local" {
      only   = ["amazon-ebs.amd64", "amazon-ebs.arm64"]
      inline = ["${path.root}/imdsv2 images ${path.root}/../dist/amis.json"]
    }
  }
}
