package lxdimage_test

// The corpus of pongo2's answers, rendered through Go: every case, in both dialects.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answer is what pongo2 gave.
type answer struct {
	Output *string `json:"output"`
	Base64 *string `json:"output_b64"`
	Limit  bool    `json:"limit"`
	Stage  string  `json:"stage"`
}

// line is the result that a case must have; empty where an answer is as good as a refusal.
func (a answer) line(t *testing.T) string {
	switch {
	case a.Output != nil:
		return "= " + quote(*a.Output)
	case a.Base64 != nil:
		text, err := base64.StdEncoding.DecodeString(*a.Base64)
		if err != nil {
			t.Fatal(err)
		}
		return "= " + quote(string(text))
	case a.Limit:
		return ""
	case a.Stage == "parse":
		return "! Template parse"
	}
	return "! Template exec"
}

// corpus is one file of it. Contexts are kept as they stand, since the order of keys counts.
type corpus struct {
	Contexts map[string]json.RawMessage `json:"contexts"`
	Cases    []struct {
		Name     string          `json:"name"`
		Template string          `json:"template"`
		Context  json.RawMessage `json:"context"`
		V4       answer          `json:"expect_v4"`
		V6       answer          `json:"expect_v6"`
	} `json:"cases"`
}

// variables are the context's, and how the template is parsed.
func (c corpus) variables(t *testing.T, context json.RawMessage) (how, variables string) {
	var name string
	if json.Unmarshal(context, &name) == nil {
		context = c.Contexts[name]
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(context, &object); err != nil {
		t.Fatal(err)
	}
	how = "plain"
	if string(object["$raw"]) == "true" {
		how = "raw"
	}
	delete(object, "$raw")
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return how, string(text)
}

func TestTheTemplateCorpusGivesThroughGoWhatPongo2Gives(t *testing.T) {
	files, err := filepath.Glob("../../tests/data/templates/*.json")
	if err != nil {
		t.Fatal(err)
	}
	source := "case the corpus\n"
	var names, wanted []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var c corpus
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(file, err)
		}
		for _, one := range c.Cases {
			how, variables := c.variables(t, one.Context)
			source += fmt.Sprintf("variables lxd %s %s %s\n", how, quote(one.Template), quote(variables))
			source += fmt.Sprintf("variables incus %s %s %s\n", how, quote(one.Template), quote(variables))
			names = append(names, one.Name+" v4", one.Name+" v6")
			wanted = append(wanted, one.V4.line(t), one.V6.line(t))
		}
	}
	if len(wanted) <= 2000 {
		t.Fatalf("only %d cases were found", len(wanted))
	}
	var answers []string
	for _, line := range strings.Split(runCases(t, source), "\n") {
		if strings.HasPrefix(line, "= ") || strings.HasPrefix(line, "! ") {
			answers = append(answers, line)
		}
	}
	if len(answers) != len(wanted) {
		t.Fatalf("%d answers to %d cases", len(answers), len(wanted))
	}
	for i, answer := range answers {
		if wanted[i] != "" && answer != wanted[i] || wanted[i] == "" && !strings.HasPrefix(answer, "= ") && !strings.HasPrefix(answer, "! LimitExceeded") {
			t.Errorf("%s: expected %s, got %s", names[i], wanted[i], answer)
		}
	}
	t.Logf("%d answers", len(answers))
}
