package lxdimage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"lxdimage"
)

// boxes makes a store with a small image for the examples.
func boxes() (store *lxdimage.Store, image *lxdimage.StoredImage, dir string) {
	content, _, dir := box()
	store, err := lxdimage.OpenStore(filepath.Join(dir, "store"), nil)
	if err != nil {
		log.Fatal(err)
	}
	image, err = store.Import(context.Background(), lxdimage.Unified(lxdimage.Reader(bytes.NewReader(content))), &lxdimage.ImportOptions{
		Aliases: []lxdimage.Alias{{Name: "debian/12"}},
		Public:  true,
	})
	if err != nil {
		log.Fatal(err)
	}
	return store, image, dir
}

func ExampleStore_Sign() {
	store, image, dir := boxes()
	defer os.RemoveAll(dir)
	defer store.Close()
	key, err := lxdimage.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	_, err = store.Sign(context.Background(), image.Fingerprint, &lxdimage.StatementOptions{
		PredicateType: "https://example.com/tested/v1",
		Predicate:     []byte(`{"passed": true}`),
	}, key)
	if err != nil {
		log.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		log.Fatal(err)
	}
	defer public.Close()
	statements, err := store.Statements(image.Fingerprint)
	if err != nil {
		log.Fatal(err)
	}
	signed, err := lxdimage.VerifyStatements(statements, image.Fingerprint, "https://example.com/tested/v1", public)
	fmt.Println(signed, statements[0].Predicate, err)
	// Output: 1 {"passed":true} <nil>
}

func ExamplePolicy() {
	store, image, dir := boxes()
	defer os.RemoveAll(dir)
	defer store.Close()
	policy, err := lxdimage.ParsePolicy(`
		[[rule]]
		name = "pinned"
		alias = "debian/*"
		fingerprints = ["`+image.Fingerprint.String()+`"]
		[[rule]]
		name = "nothing else"
		verdict = "deny"
	`, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer policy.Close()
	admission, err := store.AskPolicy(policy, image.Fingerprint)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(admission.Rule, admission.Vouched)
	_, err = policy.Admit(lxdimage.Candidate{Fingerprint: image.Fingerprint, Aliases: []string{"alpine"}})
	fmt.Println(errors.Is(err, lxdimage.ErrUntrusted))
	// Output:
	// pinned [the fingerprint is pinned]
	// true
}

func ExampleStore_CreateBundle() {
	store, image, dir := boxes()
	defer os.RemoveAll(dir)
	defer store.Close()
	ctx := context.Background()
	bundle := filepath.Join(dir, "images.tar")
	if err := store.CreateBundle(ctx, bundle, image.Fingerprint); err != nil {
		log.Fatal(err)
	}
	elsewhere, err := lxdimage.OpenStore(filepath.Join(dir, "elsewhere"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer elsewhere.Close()
	images, err := elsewhere.ImportBundle(ctx, bundle, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(images), images[0].Aliases[0].Name, images[0].Fingerprint == image.Fingerprint)
	// Output: 1 debian/12 true
}

func ExampleRemote_Push() {
	store, err := lxdimage.OpenStore("/var/lib/lxd-image", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	image, err := store.Resolve("debian/12")
	if err != nil {
		log.Fatal(err)
	}
	registry, err := lxdimage.Connect(lxdimage.RemoteAddress{URL: "https://registry.example", Protocol: "oci"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	digest, err := registry.Push(context.Background(), store, image.Fingerprint, "team/debian:12", &lxdimage.PushOptions{ReuseTags: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(digest)
}

func ExampleDiskImage() {
	dir, err := os.MkdirTemp("", "lxdimage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	// A raw disk has no magic number, so its user says that it is one.
	content := append([]byte("hello"), make([]byte, 1<<20-5)...)
	raw, err := lxdimage.OpenDisk(ctx, lxdimage.Bytes(content), &lxdimage.DiskOptions{Format: "raw"})
	if err != nil {
		log.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write(ctx, filepath.Join(dir, "disk.qcow2"), &lxdimage.DiskWriteOptions{Compression: "zstd"}); err != nil {
		log.Fatal(err)
	}
	disk, err := lxdimage.OpenDisk(ctx, lxdimage.Path(filepath.Join(dir, "disk.qcow2")), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	start, err := io.ReadAll(io.NewSectionReader(disk, 0, 5))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %d %s\n", disk.Info().Format, disk.Info().VirtualSize, start)
	// Output: qcow2 1048576 hello
}

// A server that caches what another one has.
func ExampleStore_Serve_upstream() {
	store, image, dir := boxes()
	defer os.RemoveAll(dir)
	defer store.Close()
	origin, err := store.Serve(lxdimage.ServerOptions{Listen: []string{"http://127.0.0.1:0"}})
	if err != nil {
		log.Fatal(err)
	}
	defer origin.Close()

	settings, err := lxdimage.OpenSettings(filepath.Join(dir, "settings"))
	if err != nil {
		log.Fatal(err)
	}
	defer settings.Close()
	if err := settings.Add("origin", lxdimage.RemoteAddress{URL: origin.URLs()[0], Public: true}); err != nil {
		log.Fatal(err)
	}
	near, err := lxdimage.OpenStore(filepath.Join(dir, "near"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer near.Close()
	cache, err := near.Serve(lxdimage.ServerOptions{Listen: []string{"http://127.0.0.1:0"}, Settings: settings, Upstream: "origin"})
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()

	client, err := lxdimage.Connect(lxdimage.RemoteAddress{URL: cache.URLs()[0]}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	found, err := client.Resolve(context.Background(), "debian/12", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Fingerprint == image.Fingerprint)
	// Output: true
}
