locals {
  address = var.public_address ? aws_eip.devhost[0].public_ip : aws_instance.devhost.private_ip
}

output "address" {
  description = "Address of the devhost."
  value       = local.address
}

output "login" {
  description = "How people log in."
  value       = "ssh NAME@${var.dns_zone_id == null ? local.address : coalesce(var.dns_name, local.address)}"
}

output "instance_id" {
  description = "The instance, for aws ssm start-session --target."
  value       = aws_instance.devhost.id
}

output "data_volume_id" {
  description = "The volume with boxes, homes and host keys."
  value       = aws_ebs_volume.data.id
}
