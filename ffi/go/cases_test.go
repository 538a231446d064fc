package lxdimage_test

// The list of behaviour cases that Rust, C and Go share (tests/cases/README.md), done in Go: each file is written anew with what
// came of its steps, and must come out as it is.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lxdimage"
)

// runner does the steps of a file in a directory.
type runner struct {
	t      *testing.T
	out    strings.Builder
	limits *lxdimage.Limits
	store  *lxdimage.Store
	clock  time.Time
	serving
	trust
	oci
	// ctx is every long call's; left is what they left out.
	ctx  context.Context
	left lxdimage.Omissions
}

func TestEveryCaseGivesInGoWhatItGivesInRust(t *testing.T) {
	files, err := filepath.Glob("../../tests/cases/*.cases")
	if err != nil || len(files) < 4 {
		t.Fatalf("only %d files of cases were found: %v", len(files), err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		done := runCases(t, string(source))
		got, want := strings.Split(done, "\n"), strings.Split(string(source), "\n")
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("%s: line %d\nexpected %s\nfound    %s", file, i+1, want[i], strings.Join(got[i:min(i+1, len(got))], ""))
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d lines, expected %d", file, len(got), len(want))
		}
	}
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// runCases writes a file of cases anew. The working directory is the case's own meanwhile.
func runCases(t *testing.T, source string) string {
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chdir(home)
	r := &runner{t: t}
	r.ctx = lxdimage.WithOmissions(context.Background(), func(left lxdimage.Omissions) { r.left.Add(left) })
	defer r.endPlace()
	for _, line := range strings.Split(strings.TrimSuffix(source, "\n"), "\n") {
		if strings.HasPrefix(line, "= ") || strings.HasPrefix(line, "! ") {
			continue
		}
		r.out.WriteString(line + "\n")
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "case "):
			r.newPlace()
		default:
			words := r.split(line)
			if !r.omissionsStep(words) && !r.prepareStep(words) && !r.imageStep(words) && !r.templateStep(words) && !r.storeStep(words) &&
				!r.treeStep(words) && !r.trustStep(words) && !r.ociStep(words) && !r.servingStep(words) {
				t.Fatalf("there is no step %s", words[0])
			}
		}
	}
	return r.out.String()
}

func (r *runner) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *runner) newPlace() {
	r.endPlace()
	r.must(os.Chdir(r.t.TempDir()))
	limits, err := lxdimage.NewLimits()
	r.must(err)
	r.limits = limits
	r.left = lxdimage.Omissions{}
}

// omissionsStep shows what the steps before left out; the next time it is what came after.
func (r *runner) omissionsStep(words []string) bool {
	if words[0] != "omissions" {
		return false
	}
	var counted uint64
	for _, count := range r.left.Counts {
		counted += count
	}
	if counted != r.left.Total {
		r.t.Fatalf("the kinds are not the total: %v", r.left)
	}
	for _, omission := range r.left.List {
		r.line("%s %s %s", omission.Kind, quote(omission.Path), quote(omission.What))
	}
	r.left = lxdimage.Omissions{}
	return true
}

func (r *runner) endPlace() {
	r.endServing()
	r.endTrust()
	r.endOCI()
	if r.store != nil {
		r.store.Close()
		r.store = nil
	}
	if r.limits != nil {
		r.limits.Close()
		r.limits = nil
	}
}

// split takes a line's words apart.
func (r *runner) split(line string) []string {
	var words []string
	rest := line
	for rest != "" {
		var word []byte
		if rest[0] == '"' {
			i := 1
			for ; rest[i] != '"'; i++ {
				if rest[i] != '\\' {
					word = append(word, rest[i])
					continue
				}
				i++
				switch rest[i] {
				case 'n':
					word = append(word, '\n')
				case 't':
					word = append(word, '\t')
				case 'r':
					word = append(word, '\r')
				case 'x':
					value, err := strconv.ParseUint(rest[i+1:i+3], 16, 8)
					r.must(err)
					word = append(word, byte(value))
					i += 2
				default:
					word = append(word, rest[i])
				}
			}
			rest = rest[i+1:]
		} else {
			end := strings.IndexByte(rest, ' ')
			if end < 0 {
				end = len(rest)
			}
			word, rest = []byte(rest[:end]), rest[end:]
		}
		words = append(words, string(word))
		if rest != "" {
			if rest[0] != ' ' {
				r.t.Fatalf("words are separated by one blank: %s", line)
			}
			rest = rest[1:]
		}
	}
	return words
}

// quote is how results quote bytes.
func quote(text string) string {
	var out bytes.Buffer
	out.WriteByte('"')
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '"' || b == '\\':
			out.WriteByte('\\')
			out.WriteByte(b)
		case b == '\n':
			out.WriteString(`\n`)
		case b == '\t':
			out.WriteString(`\t`)
		case b == '\r':
			out.WriteString(`\r`)
		case b >= ' ' && b <= '~':
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, `\x%02x`, b)
		}
	}
	out.WriteByte('"')
	return out.String()
}

func yes(truth bool) string {
	if truth {
		return "yes"
	}
	return "no"
}

// line is one line of the result.
func (r *runner) line(format string, values ...any) {
	fmt.Fprintf(&r.out, "= "+format+"\n", values...)
}

// kind is an error as the format shows it.
func kind(err *lxdimage.Error) string {
	text := err.Kind.String()
	if err.Kind != lxdimage.ErrLimitExceeded {
		switch err.Stage {
		case lxdimage.StageParse:
			text += " parse"
		case lxdimage.StageExec:
			text += " exec"
		}
	}
	if err.Limit != "" {
		text += " " + err.Limit
	}
	return text
}

// failed shows an error, if it is one.
func (r *runner) failed(err error) bool {
	if err == nil {
		return false
	}
	var told *lxdimage.Error
	if !errors.As(err, &told) || !errors.Is(err, told.Kind) || told.Message == "" {
		r.t.Fatalf("an error that says too little: %#v", err)
	}
	r.out.WriteString("! " + kind(told) + "\n")
	return true
}

// fingerprint reads one; nil for "-". False after an error was shown.
func (r *runner) fingerprint(word string) (*lxdimage.Fingerprint, bool) {
	if word == "-" {
		return nil, true
	}
	fingerprint, err := lxdimage.ParseFingerprint(word)
	return &fingerprint, !r.failed(err)
}
