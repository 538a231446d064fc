package lxdimage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"lxdimage"
)

// box packs a small image for the examples.
func box() (image []byte, fingerprint lxdimage.Fingerprint, dir string) {
	dir, err := os.MkdirTemp("", "lxdimage")
	if err != nil {
		log.Fatal(err)
	}
	root, templates := filepath.Join(dir, "root"), filepath.Join(dir, "templates")
	os.MkdirAll(filepath.Join(root, "etc"), 0o755)
	os.Mkdir(templates, 0o755)
	os.WriteFile(filepath.Join(root, "etc/hostname"), []byte("box\n"), 0o644)
	os.WriteFile(filepath.Join(templates, "hostname.tpl"), []byte("{{ container.name }}\n"), 0o644)
	yaml := "architecture: amd64\ncreation_date: 1700000000\nproperties: {os: Debian}\n" +
		"templates: {/etc/hostname: {when: [create], template: hostname.tpl}}\n"
	var out bytes.Buffer
	written, err := lxdimage.PackTo(context.Background(), &out, lxdimage.PackOptions{Tree: root, Templates: templates, MetadataYAML: []byte(yaml)})
	if err != nil {
		log.Fatal(err)
	}
	return out.Bytes(), written.Fingerprint, dir
}

func ExampleImage_Unpack() {
	bytes, fingerprint, dir := box()
	defer os.RemoveAll(dir)
	image, err := lxdimage.Open(lxdimage.Unified(lxdimage.Bytes(bytes)), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	unpacked, err := image.Unpack(ctx, filepath.Join(dir, "c1"), fingerprint, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer unpacked.Close()
	hostname, _ := os.ReadFile(filepath.Join(unpacked.Path, "rootfs/etc/hostname"))
	fmt.Printf("%d entries, %s", unpacked.Entries, hostname)
	// Output: 2 entries, box
}

func ExampleImage_Unpack_mismatch() {
	bytes, _, dir := box()
	defer os.RemoveAll(dir)
	image, err := lxdimage.Open(lxdimage.Unified(lxdimage.Bytes(bytes)), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	_, err = image.Unpack(context.Background(), filepath.Join(dir, "c1"), lxdimage.Fingerprint{}, nil)
	var told *lxdimage.Error
	if errors.Is(err, lxdimage.ErrMismatch) && errors.As(err, &told) {
		fmt.Println("expected", told.Expected[:12])
	}
	// Output: expected 000000000000
}

func ExampleImage_Survey() {
	image, _, dir := box()
	defer os.RemoveAll(dir)
	opened, err := lxdimage.Open(lxdimage.Unified(lxdimage.Reader(bytes.NewReader(image))), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer opened.Close()
	verification, err := opened.Survey(context.Background(), nil, func(entry *lxdimage.Entry) error {
		if entry.Kind == lxdimage.EntryFile {
			fmt.Println(entry.Path, entry.Bytes)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	defer verification.Close()
	fmt.Println(len(verification.Findings), "findings")
	// Output:
	// etc/hostname 4
	// 0 findings
}

func ExampleStore() {
	image, _, dir := box()
	defer os.RemoveAll(dir)
	store, err := lxdimage.OpenStore(filepath.Join(dir, "store"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	_, err = store.Import(context.Background(), lxdimage.Unified(lxdimage.Reader(bytes.NewReader(image))), &lxdimage.ImportOptions{
		Aliases: []lxdimage.Alias{{Name: "debian/12"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	found, err := store.Resolve("debian/12")
	if err != nil {
		log.Fatal(err)
	}
	system, _ := found.Properties.Get("os")
	fmt.Println(found.Architecture, system)
	_, err = store.Resolve("alpine")
	fmt.Println(errors.Is(err, lxdimage.ErrNotFound))
	// Output:
	// x86_64 Debian
	// true
}

func ExampleApply() {
	bytes, fingerprint, dir := box()
	defer os.RemoveAll(dir)
	image, err := lxdimage.Open(lxdimage.Unified(lxdimage.Bytes(bytes)), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	unpacked, err := image.Unpack(context.Background(), filepath.Join(dir, "c1"), fingerprint, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer unpacked.Close()
	variables, err := lxdimage.Instance{Name: "c1", Type: lxdimage.TypeContainer, Architecture: "x86_64"}.Context()
	if err != nil {
		log.Fatal(err)
	}
	defer variables.Close()
	outcomes, err := lxdimage.Apply(context.Background(), unpacked.Path, lxdimage.TriggerCreate, variables, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, outcome := range outcomes {
		fmt.Println(outcome.Action, outcome.Path)
	}
	// Output: replaced /etc/hostname
}

func ExampleTemplate_Render() {
	template, err := lxdimage.ParseTemplate([]byte(`{{ container.name }}.{{ config_get("user.domain", "local") }}`), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer template.Close()
	variables, err := lxdimage.Instance{Name: "c1", Config: map[string]string{"user.domain": "example.org"}}.Context()
	if err != nil {
		log.Fatal(err)
	}
	defer variables.Close()
	text, err := template.Render(variables, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", text)
	// Output: c1.example.org
}

func ExampleHasher() {
	hasher, err := lxdimage.NewHasher()
	if err != nil {
		log.Fatal(err)
	}
	defer hasher.Close()
	fmt.Fprint(hasher, "an image")
	fingerprint, bytes, err := hasher.Fingerprint()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fingerprint.String()[:12], bytes)
	// Output: a5df3fde7b20 8
}
