variable "name" {
  description = "Name of the devhost, for what is made here and for its tags."
  type        = string
  default     = "devhost"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "The name has small letters, digits and dashes, at most 31, and begins with a letter."
  }
}

variable "region" {
  description = "AWS region, in which the AMI is."
  type        = string
}

variable "ami_id" {
  description = "AMI that ami/devhost.pkr.hcl made. Another one replaces the instance; the data volume goes on."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "An AMI's id looks like ami-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "Type of instance, of the AMI's architecture. Boxes share its memory."
  type        = string
  default     = "m7i.2xlarge"
}

variable "subnet_id" {
  description = "Subnet of the instance. Its availability zone is the data volume's too, for good."
  type        = string

  validation {
    condition     = can(regex("^subnet-[0-9a-f]{8,17}$", var.subnet_id))
    error_message = "A subnet's id looks like subnet-0123456789abcdef0."
  }
}

variable "allowed_cidrs" {
  description = "IPv4 networks from which people may log in."
  type        = list(string)

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "At least one IPv4 network is needed, such as 203.0.113.0/24."
  }
}

variable "public_address" {
  description = "Whether the devhost gets an Elastic IP, which stays when the instance is replaced."
  type        = bool
  default     = true
}

variable "users" {
  description = "Public keys by login name, in authorized_keys format. Changing them replaces the instance; keys in SSM (ssm_prefix) change without that."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for user, keys in var.users : can(regex("^[a-z_][a-z0-9_-]{0,31}$", user)) && length(keys) > 0])
    error_message = "A login name has small letters, digits, dashes and underscores, at most 32, and each has a key."
  }

  validation {
    condition     = alltrue([for key in flatten(values(var.users)) : !can(regex("PRIVATE KEY", key))])
    error_message = "These are private keys. Nobody else may have them: give the .pub files' lines."
  }
}

variable "config" {
  description = "Text of /etc/boxgate/boxgate.toml; null keeps the image's."
  type        = string
  default     = null
}

variable "ssm_prefix" {
  description = "Prefix of SSM parameters with configuration and keys, such as /boxgate/devhost; null asks for none."
  type        = string
  default     = null

  validation {
    condition     = var.ssm_prefix == null || can(regex("^(/[A-Za-z0-9_.-]+)+$", var.ssm_prefix))
    error_message = "The prefix begins with a slash and does not end with one."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume, which is replaced with the instance."
  type        = number
  default     = 40

  validation {
    condition     = var.root_volume_gib >= 40
    error_message = "The image needs 40 GiB."
  }
}

variable "data_volume_gib" {
  description = "Size of the volume with boxes and homes. It can grow: the next boot uses all of it."
  type        = number
  default     = 200

  validation {
    condition     = var.data_volume_gib >= 20 && var.data_volume_gib <= 16384
    error_message = "A data volume has 20 to 16384 GiB."
  }
}

variable "data_volume_iops" {
  description = "IOPS of the data volume."
  type        = number
  default     = 3000

  validation {
    condition     = var.data_volume_iops >= 3000 && var.data_volume_iops <= 16000
    error_message = "A gp3 volume has 3000 to 16000 IOPS."
  }
}

variable "data_volume_throughput" {
  description = "Throughput of the data volume, in MiB/s."
  type        = number
  default     = 250

  validation {
    condition     = var.data_volume_throughput >= 125 && var.data_volume_throughput <= 1000
    error_message = "A gp3 volume has 125 to 1000 MiB/s."
  }
}

variable "data_snapshot_id" {
  description = "Snapshot that the data volume is made from, when a devhost is brought back; null makes a blank one."
  type        = string
  default     = null
}

variable "kms_key_id" {
  description = "ARN of the KMS key that volumes are encrypted with; null takes the account's own for EBS."
  type        = string
  default     = null
}

variable "stop_at" {
  description = "When the instance is stopped each day, as an EventBridge schedule such as cron(0 20 * * ? *); null never stops it."
  type        = string
  default     = null

  validation {
    condition     = var.stop_at == null || can(regex("^cron\\(.+\\)$", var.stop_at))
    error_message = "Write it as cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR)."
  }
}

variable "start_at" {
  description = "When it is started again, likewise; null leaves that to people."
  type        = string
  default     = null

  validation {
    condition     = var.start_at == null || can(regex("^cron\\(.+\\)$", var.start_at))
    error_message = "Write it as cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR)."
  }
}

variable "timezone" {
  description = "Time zone of stop_at and start_at."
  type        = string
  default     = "UTC"
}

variable "dns_zone_id" {
  description = "Route 53 zone that gets a record for the devhost; null makes none."
  type        = string
  default     = null
}

variable "dns_name" {
  description = "The record's name, such as devhost.example.org: what people write behind the @."
  type        = string
  default     = null
}

variable "tags" {
  description = "Further tags of all that is made here."
  type        = map(string)
  default     = {}
}
