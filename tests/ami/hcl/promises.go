package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

// broken says which promises the folder `ami` breaks, each line with the promise's name first.
func broken(ami string) ([]string, error) {
	packer, err := load(ami, ".pkr.hcl")
	if err != nil {
		return nil, err
	}
	terraform, err := load(filepath.Join(ami, "terraform"), ".tf")
	if err != nil {
		return nil, err
	}
	var report report
	for _, name := range append(unformatted(packer), unformatted(terraform)...) {
		report.say("format", "%s: terraform fmt would change it", name)
	}
	plugins(packer, &report)
	images(packer, &report)
	provisioning(packer, &report)
	variables(packer, &report)

	module(filepath.Join(ami, "terraform"), &report)
	names(terraform, &report)
	variables(terraform, &report)
	instances(terraform, &report)
	dataVolume(terraform, &report)
	ports(terraform, &report)
	err = secrets(ami, &report)
	return report, err
}

type report []string

func (r *report) say(promise, format string, values ...any) {
	*r = append(*r, promise+": "+fmt.Sprintf(format, values...))
}

// expect says so when a block does not say this.
func (r *report) expect(promise string, in block, argument string, value any) {
	if !in.says(argument, value) {
		r.say(promise, "%s: %s is not %v", in.name(), argument, value)
	}
}

// --- Packer -------------------------------------------------------------------------

// plugins: Debian's Packer does not know the block, so it stands where that one does not look.
func plugins(sources []source, report *report) {
	found := blocks(sources, "packer")
	if len(found) != 1 || found[0].file != "plugins.pkr.hcl" {
		report.say("plugins", "there must be one block `packer`, in plugins.pkr.hcl")
		return
	}
	for _, required := range found[0].inner("required_plugins") {
		for _, name := range []string{"amazon", "qemu"} {
			if _, ok := required.Body.Attributes[name]; !ok {
				report.say("plugins", "%s is not required", name)
			}
		}
	}
}

// images: for both architectures, with what is encrypted and what outlives an instance.
func images(sources []source, report *report) {
	amis := map[string]string{"amd64": "x86_64", "arm64": "arm64"}
	found := blocks(sources, "source", "amazon-ebs")
	for _, ami := range found {
		architecture, known := amis[ami.Labels[1]]
		delete(amis, ami.Labels[1])
		if filter := ami.inner("source_ami_filter"); !known || len(filter) != 1 ||
			!strings.Contains(filter[0].text(sources, "filters"), `architecture = "`+architecture+`"`) ||
			!strings.Contains(filter[0].text(sources, "filters"), "ubuntu-noble-24.04-"+ami.Labels[1]) {
			report.say("architectures", "%s is not made from Ubuntu 24.04 for it", ami.name())
		}
		report.expect("encryption", ami, "encrypt_boot", true)
		report.expect("nothing baked in", ami, "ssh_clear_authorized_keys", true)
		root, data := ami.inner("launch_block_device_mappings"), ami.inner("ami_block_device_mappings")
		if len(root) != 1 || len(data) != 1 {
			report.say("data volume", "%s has no root volume or no data volume", ami.name())
			continue
		}
		report.expect("encryption", root[0], "encrypted", true)
		report.expect("encryption", data[0], "encrypted", true)
		report.expect("volumes", root[0], "volume_type", "gp3")
		report.expect("volumes", data[0], "volume_type", "gp3")
		report.expect("data volume", data[0], "delete_on_termination", false)
		for _, tagged := range []string{"tags", "snapshot_tags", "run_tags", "run_volume_tags"} {
			if !strings.Contains(ami.text(sources, tagged), "local.tags") {
				report.say("tags", "%s: %s", ami.name(), tagged)
			}
		}
	}
	for missing := range amis {
		report.say("architectures", "no AMI for %s", missing)
	}
	if len(found) == 2 {
		alike(sources, found[0], found[1], report)
	}
	for _, qemu := range blocks(sources, "source", "qemu") {
		report.expect("qcow2", qemu, "format", "qcow2")
		return
	}
	report.say("qcow2", "there is no source for it")
}

// alike: the AMIs differ in what the architecture says, and in nothing else.
func alike(sources []source, one, other block, report *report) {
	of := func(ami block) string {
		for _, source := range sources {
			if source.name == ami.file {
				text := string(ami.Body.Range().SliceBytes(source.text))
				return strings.NewReplacer("x86_64", "ARCH", "amd64", "ARCH", "arm64", "ARCH", "m7i.", "m7.", "m7g.", "m7.").Replace(text)
			}
		}
		return ""
	}
	if blanks := regexp.MustCompile(`\s+`); blanks.ReplaceAllString(of(one), " ") != blanks.ReplaceAllString(of(other), " ") {
		report.say("architectures", "%s and %s differ in more than the architecture", one.name(), other.name())
	}
}

// provisioning: every source gets install.sh, bake and clean, in this order, and AWS is asked for tokens.
func provisioning(sources []source, report *report) {
	builds := blocks(sources, "build")
	if len(builds) != 1 {
		report.say("same install.sh", "there must be one block `build`")
		return
	}
	build := builds[0]
	for _, source := range blocks(sources, "source") {
		if !strings.Contains(build.text(sources, "sources"), `"source.`+strings.Join(source.Labels, ".")+`"`) {
			report.say("same install.sh", "%s is not built", source.name())
		}
	}
	provisioners := build.inner("provisioner")
	last := provisioners[len(provisioners)-1]
	_, only := last.Body.Attributes["only"]
	_, except := last.Body.Attributes["except"]
	order := regexp.MustCompile(`ami/install\.sh --image-build .*ami/bake .*ami/clean"`)
	if only || except || !order.MatchString(last.text(sources, "inline")) {
		report.say("same install.sh", "the last provisioner must run install.sh --image-build, bake and clean for every source")
	}
	amis := `["amazon-ebs.amd64", "amazon-ebs.arm64"]`
	if first := provisioners[0]; !strings.Contains(first.text(sources, "inline"), "imdsv2 instance") || first.text(sources, "only") != amis {
		report.say("IMDSv2", "the first provisioner must ask for it on the instance that is built on")
	}
	for _, posts := range build.inner("post-processors") {
		for _, post := range posts.inner("post-processor") {
			if strings.Contains(post.text(sources, "inline"), "imdsv2 images") && post.text(sources, "only") == amis {
				return
			}
		}
	}
	report.say("IMDSv2", "no post-processor asks for it on the AMIs")
}

// --- Terraform ----------------------------------------------------------------------

// module: what Terraform's own reader of modules finds.
func module(directory string, report *report) {
	module, faults := tfconfig.LoadModule(directory)
	for _, fault := range faults {
		report.say("module", "%s: %s", fault.Summary, fault.Detail)
	}
	for name, provider := range module.RequiredProviders {
		if provider.Source == "" || len(provider.VersionConstraints) == 0 {
			report.say("module", "provider %s has no source or no version", name)
		}
	}
	for _, output := range module.Outputs {
		if output.Description == "" {
			report.say("described", "output %s", output.Name)
		}
	}
	for _, managed := range module.ManagedResources {
		if _, ok := module.RequiredProviders[managed.Provider.Name]; !ok {
			report.say("module", "%s needs a provider that is not required", managed.MapKey())
		}
	}
}

// names: every reference leads to something that is declared, and every function is one of Terraform's.
func names(sources []source, report *report) {
	declared := map[string]bool{}
	for _, each := range blocks(sources, "resource") {
		declared[strings.Join(each.Labels, ".")] = true
	}
	for _, each := range blocks(sources, "data") {
		declared["data."+strings.Join(each.Labels, ".")] = true
	}
	for _, each := range blocks(sources, "variable") {
		declared["var."+each.Labels[0]] = true
	}
	for _, each := range blocks(sources, "locals") {
		for name := range each.Body.Attributes {
			declared["local."+name] = true
		}
	}
	bound := boundNames(sources)
	for _, reference := range references(sources) {
		words := steps(reference)
		length := 2
		if words[0] == "data" {
			length = 3
		}
		if slices.Contains([]string{"each", "count", "path"}, words[0]) || bound[words[0]] || isType(words) {
			continue
		}
		if len(words) < length || !declared[strings.Join(words[:length], ".")] {
			report.say("names", "%s: %s is not declared", reference.SourceRange(), strings.Join(words, "."))
		}
	}
	for _, source := range sources {
		hclsyntax.VisitAll(source.body, func(node hclsyntax.Node) (none hcl.Diagnostics) {
			if call, ok := node.(*hclsyntax.FunctionCallExpr); ok && !slices.Contains(functions, call.Name) {
				report.say("names", "%s: there is no function %s", call.Range(), call.Name)
			}
			return none
		})
	}
}

// functions of Terraform that the files use, and constructors of types. Another one is looked up and added here.
var functions = strings.Fields("alltrue can cidrnetmask coalesce concat flatten join jsonencode length merge regex toset trimspace values yamlencode list map")

// isType: types are written as names are.
func isType(words []string) bool {
	return len(words) == 1 && slices.Contains([]string{"string", "number", "bool"}, words[0])
}

// boundNames are what `for` expressions bind, and the arguments of their own that resources name in ignore_changes.
func boundNames(sources []source) map[string]bool {
	bound := map[string]bool{}
	for _, source := range sources {
		hclsyntax.VisitAll(source.body, func(node hclsyntax.Node) (none hcl.Diagnostics) {
			switch node := node.(type) {
			case *hclsyntax.ForExpr:
				bound[node.KeyVar], bound[node.ValVar] = true, true
			case *hclsyntax.Attribute:
				if node.Name == "ignore_changes" {
					for _, ignored := range node.Expr.Variables() {
						bound[ignored.RootName()] = true
					}
				}
			}
			return none
		})
	}
	return bound
}

// instances: tokens and one hop for the metadata service, and nothing on a disk that is not encrypted.
func instances(sources []source, report *report) {
	for _, instance := range blocks(sources, "resource", "aws_instance") {
		options, root := instance.inner("metadata_options"), instance.inner("root_block_device")
		if len(options) != 1 || len(root) != 1 {
			report.say("IMDSv2", "%s has no metadata_options or no root_block_device", instance.name())
			continue
		}
		report.expect("IMDSv2", options[0], "http_tokens", "required")
		report.expect("IMDSv2", options[0], "http_put_response_hop_limit", 1)
		report.expect("encryption", root[0], "encrypted", true)
		if len(instance.inner("ebs_block_device")) > 0 {
			report.say("data volume", "%s: a volume of the instance's own ends with it", instance.name())
		}
	}
	for _, volume := range blocks(sources, "resource", "aws_ebs_volume") {
		report.expect("encryption", volume, "encrypted", true)
	}
}

// dataVolume: nothing that Terraform is told to do removes it.
func dataVolume(sources []source, report *report) {
	volumes := blocks(sources, "resource", "aws_ebs_volume", "data")
	if len(volumes) != 1 || len(volumes[0].inner("lifecycle")) != 1 {
		report.say("data volume", "aws_ebs_volume.data is not there, or has no lifecycle")
		return
	}
	report.expect("data volume", volumes[0].inner("lifecycle")[0], "prevent_destroy", true)
	for _, attachment := range blocks(sources, "resource", "aws_volume_attachment") {
		if attachment.text(sources, "volume_id") != "aws_ebs_volume.data.id" {
			report.say("data volume", "%s attaches another one", attachment.name())
		}
		report.expect("data volume", attachment, "stop_instance_before_detaching", true)
		return
	}
	report.say("data volume", "nothing attaches it")
}

// ports: 22 is open, and no other, in whichever way a rule can be written.
func ports(sources []source, report *report) {
	rules := blocks(sources, "resource", "aws_vpc_security_group_ingress_rule")
	if len(rules) == 0 {
		report.say("ports", "nothing opens port 22")
	}
	for _, rule := range rules {
		report.expect("ports", rule, "ip_protocol", "tcp")
		report.expect("ports", rule, "from_port", 22)
		report.expect("ports", rule, "to_port", 22)
	}
	for _, group := range blocks(sources, "resource", "aws_security_group") {
		if _, ok := group.Body.Attributes["ingress"]; ok || len(group.inner("ingress")) > 0 {
			report.say("ports", "%s: rules are aws_vpc_security_group_ingress_rule, not inline", group.name())
		}
	}
	for _, rule := range blocks(sources, "resource", "aws_security_group_rule") {
		report.say("ports", "%s: rules are aws_vpc_security_group_ingress_rule", rule.name())
	}
}

// --- both ---------------------------------------------------------------------------

// variables: each has a description and a type, and is asked for somewhere besides its own validation.
func variables(sources []source, report *report) {
	for _, variable := range blocks(sources, "variable") {
		name := variable.Labels[0]
		for _, argument := range []string{"description", "type"} {
			if text := strings.Trim(variable.text(sources, argument), `" `); text == "" {
				report.say("described", "%s has no %s", variable.name(), argument)
			}
		}
		used := slices.ContainsFunc(references(sources), func(reference hcl.Traversal) bool {
			at := reference.SourceRange()
			inside := at.Filename == variable.file && variable.Range().Start.Byte <= at.Start.Byte && at.End.Byte <= variable.Body.Range().End.Byte
			return !inside && has(steps(reference), []string{"var", name})
		})
		if !used {
			report.say("used", "%s is not", variable.name())
		}
	}
}

var secret = regexp.MustCompile(`AKIA[0-9A-Z]{16}|PRIVATE KEY-----|(?i)(password|passwd|secret|_token)\s*[=:]\s*"[^"$]+"|aws_secret_access_key`)

// secrets: none in any file that makes or describes a machine.
func secrets(ami string, report *report) error {
	for _, pattern := range []string{"*", "terraform/*", "systemd/*", "systemd/*/*"} {
		names, err := filepath.Glob(filepath.Join(ami, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for _, found := range secret.FindAllString(string(text), -1) {
				report.say("secrets", "%s: %.12s…", filepath.Base(name), found)
			}
		}
	}
	return nil
}
