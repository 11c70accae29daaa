# Which plugins devhost.pkr.hcl needs, for `packer init ami`. A file of its own, because Debian's Packer 1.6 has both
# built in and does not know this block: it is given devhost.pkr.hcl alone.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "~> 1.1"
    }
  }
}
