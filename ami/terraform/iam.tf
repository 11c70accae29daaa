# What the instance may do: be reached by Session Manager, where operators get their shell, and read its parameters.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "devhost" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  role       = aws_iam_role.devhost.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

data "aws_iam_policy_document" "parameters" {
  count = var.ssm_prefix == null ? 0 : 1

  statement {
    actions   = ["ssm:GetParametersByPath"]
    resources = ["arn:${data.aws_partition.current.partition}:ssm:${var.region}:${data.aws_caller_identity.current.account_id}:parameter${var.ssm_prefix}"]
  }
}

resource "aws_iam_role_policy" "parameters" {
  count = var.ssm_prefix == null ? 0 : 1

  name_prefix = "parameters-"
  role        = aws_iam_role.devhost.id
  policy      = data.aws_iam_policy_document.parameters[0].json
}

resource "aws_iam_instance_profile" "devhost" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.devhost.name
}
