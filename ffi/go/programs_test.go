package lxdimage_test

// Programs that stand elsewhere: in the README and in examples/go.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program compiles what is in a directory, as whoever uses it would: by go build, with the package from pkg-config.
func program(t *testing.T, dir string) string {
	out := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", out, ".")
	build.Dir = dir
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

func TestTheReadmesProgramDoesWhatItSays(t *testing.T) {
	readme := must[[]byte](t)(os.ReadFile("../../README.md"))
	_, section, _ := strings.Cut(string(readme), "\n## From Go\n")
	_, code, there := strings.Cut(section, "```go\n")
	if !there {
		t.Fatal("the README has no program in a section `From Go`")
	}
	code, _, _ = strings.Cut(code, "```\n")
	dir, here := t.TempDir(), must[string](t)(os.Getwd())
	module := fmt.Sprintf("module readme\n\ngo 1.19\n\nrequire lxdimage v0.0.0\n\nreplace lxdimage => %s\n", here)
	for name, content := range map[string]string{"main.go": code, "go.mod": module} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("gofmt: %v %s", err, said)
	}
	run := program(t, dir)
	image, fingerprint := packed(t, 0)
	path, out := filepath.Join(dir, "image"), filepath.Join(dir, "out")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(run, path, strings.Repeat("0", 64), out).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "that is another image") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := exec.Command(run).CombinedOutput(); err == nil || !strings.HasPrefix(string(said), "usage: ") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := exec.Command(run, path+"-missing", fingerprint.String(), out).CombinedOutput(); err == nil || !strings.Contains(string(said), "image-missing") {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := exec.Command(run, path, fingerprint.String(), out).CombinedOutput(); err != nil || !strings.Contains(string(said), "3 entries") {
		t.Errorf("%v\n%s", err, said)
	}
	if content := must[[]byte](t)(os.ReadFile(filepath.Join(out, "rootfs/etc/hostname"))); string(content) != "box\n" {
		t.Errorf("%q", content)
	}
}

func TestTheExampleImportsVerifiesAndUnpacks(t *testing.T) {
	run := program(t, "../../examples/go")
	image, fingerprint := packed(t, 2<<20)
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(run, filepath.Join(dir, "store"), path, "box", filepath.Join(dir, "c1"), fingerprint.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"imported " + fingerprint.String() + ": x86_64", "verified: 2 files, 2 directories, 0 findings", "unpacked 3 entries"} {
		if !strings.Contains(string(said), words) {
			t.Errorf("%q is missing in:\n%s", words, said)
		}
	}
	// Again, through a pipe: the image is there already, and gets another alias.
	again := exec.Command(run, filepath.Join(dir, "store"), "-", "other", filepath.Join(dir, "c2"))
	again.Stdin = strings.NewReader(string(image))
	if said, err := again.CombinedOutput(); err != nil || !strings.Contains(string(said), "unpacked 3 entries") {
		t.Errorf("%v\n%s", err, said)
	}
	// And an image that is none.
	if err := os.WriteFile(path, []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(run, filepath.Join(dir, "store"), path, "x", filepath.Join(dir, "c3")).CombinedOutput(); err == nil || !strings.Contains(string(said), "error: ") {
		t.Errorf("%v\n%s", err, said)
	}
}
