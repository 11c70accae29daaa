# A devhost: an instance that can be replaced at any time, and a volume with all that may not be lost.

data "aws_subnet" "devhost" {
  id = var.subnet_id
}

locals {
  files = concat(
    [for user, keys in var.users : {
      path        = "/etc/boxgate/authorized_keys.d/${user}"
      owner       = "root:boxgate"
      permissions = "0640"
      content     = join("", [for key in keys : "${trimspace(key)}\n"])
    }],
    var.config == null ? [] : [{
      path        = "/etc/boxgate/boxgate.toml"
      owner       = "root:boxgate"
      permissions = "0640"
      content     = var.config
    }],
    var.ssm_prefix == null ? [] : [{
      path        = "/etc/boxgate/ssm.env"
      owner       = "root:root"
      permissions = "0644"
      content     = "BOXGATE_SSM_PREFIX=${var.ssm_prefix}\nAWS_DEFAULT_REGION=${var.region}\n"
    }],
  )
}

resource "aws_instance" "devhost" {
  ami                         = var.ami_id
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  vpc_security_group_ids      = [aws_security_group.devhost.id]
  iam_instance_profile        = aws_iam_instance_profile.devhost.name
  user_data                   = "#cloud-config\n${yamlencode({ ssh_pwauth = false, write_files = local.files })}"
  user_data_replace_on_change = true
  ebs_optimized               = true

  # Who has no token gets no answer, and no token gets farther than the instance itself.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type           = "gp3"
    volume_size           = var.root_volume_gib
    encrypted             = true
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  # The AMI would bring a data volume of its own, for who launches it by hand.
  ephemeral_block_device {
    device_name = "/dev/sdf"
    no_device   = true
  }

  tags = { Name = var.name }
}

resource "aws_ebs_volume" "data" {
  availability_zone = data.aws_subnet.devhost.availability_zone
  type              = "gp3"
  size              = var.data_volume_gib
  iops              = var.data_volume_iops
  throughput        = var.data_volume_throughput
  encrypted         = true
  kms_key_id        = var.kms_key_id
  snapshot_id       = var.data_snapshot_id
  final_snapshot    = true

  tags = { Name = "${var.name}-data" }

  lifecycle {
    prevent_destroy = true
    # It is made from a snapshot once.
    ignore_changes = [snapshot_id]
  }
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/sdf"
  instance_id = aws_instance.devhost.id
  volume_id   = aws_ebs_volume.data.id

  # Docker and the boxes are shut down before their disk goes.
  stop_instance_before_detaching = true
}

resource "aws_security_group" "devhost" {
  name_prefix = "${var.name}-"
  description = "ssh to the boxes of ${var.name}, and nothing else"
  vpc_id      = data.aws_subnet.devhost.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.allowed_cidrs)

  security_group_id = aws_security_group.devhost.id
  description       = "ssh"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

# What boxes may connect to is box.egress in the configuration.
resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.devhost.id
  description       = "all"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_eip" "devhost" {
  count = var.public_address ? 1 : 0

  domain   = "vpc"
  instance = aws_instance.devhost.id
  tags     = { Name = var.name }
}
