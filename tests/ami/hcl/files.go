// Package hcl reads ami/devhost.pkr.hcl and ami/terraform and says which of their promises they break (promises.go).
// What Packer itself says of its template is asked of Packer; Terraform cannot be had everywhere that tests run, so its
// files are parsed here, and every name in them is looked up.
package hcl

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// source is one file as written and as understood.
type source struct {
	name string
	text []byte
	body *hclsyntax.Body
}

// load parses the files of a directory whose names end so.
func load(directory, ending string) ([]source, error) {
	names, err := filepath.Glob(filepath.Join(directory, "*"+ending))
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, faults := hclsyntax.ParseConfig(text, filepath.Base(name), hcl.InitialPos)
		if faults.HasErrors() {
			return nil, faults
		}
		sources = append(sources, source{filepath.Base(name), text, file.Body.(*hclsyntax.Body)})
	}
	return sources, nil
}

// unformatted names the files that `terraform fmt` would change.
func unformatted(sources []source) (names []string) {
	for _, source := range sources {
		if !bytes.Equal(hclwrite.Format(source.text), source.text) {
			names = append(names, source.name)
		}
	}
	return names
}

// block is one of the blocks of all files, with the file that it is in.
type block struct {
	*hclsyntax.Block
	file string
}

func (b block) name() string { return b.Type + " " + strings.Join(b.Labels, ".") }

// blocks finds what begins with these words: blocks(files, "resource", "aws_instance").
func blocks(sources []source, words ...string) (found []block) {
	for _, source := range sources {
		for _, each := range source.body.Blocks {
			if has(append([]string{each.Type}, each.Labels...), words) {
				found = append(found, block{each, source.name})
			}
		}
	}
	return found
}

func has(name, beginning []string) bool {
	return len(name) >= len(beginning) && strings.Join(name[:len(beginning)], " ") == strings.Join(beginning, " ")
}

// inner finds the blocks of a type directly in a block.
func (b block) inner(kind string) (found []block) {
	for _, each := range b.Body.Blocks {
		if each.Type == kind {
			found = append(found, block{each, b.file})
		}
	}
	return found
}

// says tells whether an argument is written out as that value. One that is computed is not.
func (b block) says(argument string, value any) bool {
	attribute, ok := b.Body.Attributes[argument]
	if !ok {
		return false
	}
	found, faults := attribute.Expr.Value(nil)
	if faults.HasErrors() || !found.IsWhollyKnown() || found.IsNull() {
		return false
	}
	switch value := value.(type) {
	case bool:
		return found.RawEquals(cty.BoolVal(value))
	case int:
		return found.RawEquals(cty.NumberIntVal(int64(value)))
	case string:
		return found.RawEquals(cty.StringVal(value))
	}
	return false
}

// text is an argument as written, without blanks.
func (b block) text(sources []source, argument string) string {
	attribute, ok := b.Body.Attributes[argument]
	if !ok {
		return ""
	}
	for _, source := range sources {
		if source.name == b.file {
			return strings.Join(strings.Fields(string(attribute.Expr.Range().SliceBytes(source.text))), " ")
		}
	}
	return ""
}

// references are all names that are asked for, such as var.region or aws_instance.devhost.id.
func references(sources []source) (found []hcl.Traversal) {
	for _, source := range sources {
		hclsyntax.VisitAll(source.body, func(node hclsyntax.Node) hcl.Diagnostics {
			if expression, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
				found = append(found, expression.Traversal)
			}
			return nil
		})
	}
	return found
}

// steps are a reference's words up to the first index.
func steps(reference hcl.Traversal) (words []string) {
	for _, step := range reference {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			words = append(words, step.Name)
		case hcl.TraverseAttr:
			words = append(words, step.Name)
		default:
			return words
		}
	}
	return words
}
