# The name behind the @. It follows the address, which an Elastic IP keeps.

resource "aws_route53_record" "devhost" {
  count = var.dns_zone_id == null ? 0 : 1

  zone_id = var.dns_zone_id
  name    = var.dns_name
  type    = "A"
  ttl     = 60
  records = [local.address]

  lifecycle {
    precondition {
      condition     = var.dns_name != null
      error_message = "dns_zone_id needs dns_name: how is the devhost called in the zone?"
    }
  }
}
