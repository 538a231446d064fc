// Command image-factory makes an image of a root file system and publishes it in a static tree, which any web server offers:
//
//	image-factory ROOTFS TREE OS RELEASE
//
// The image is packed, added to the tree under the alias OS/RELEASE, verified there, and old versions are removed: the newest three
// stay. Run it from a timer; readers of the tree always find a list whose files are there.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"lxdimage"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: image-factory ROOTFS TREE OS RELEASE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rootfs, path, system, release string) error {
	architecture := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if architecture == "" {
		architecture = runtime.GOARCH
	}
	metadata, err := lxdimage.NewMetadata(architecture, time.Now())
	if err != nil {
		return err
	}
	defer metadata.Close()
	for key, value := range map[string]string{"os": system, "release": release} {
		if err := metadata.SetProperty(key, value); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "image-factory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	image := filepath.Join(work, "image")
	written, err := lxdimage.Pack(ctx, image, lxdimage.PackOptions{Tree: rootfs, Metadata: metadata})
	if err != nil {
		return err
	}
	tree, err := lxdimage.OpenTree(path, &lxdimage.TreeOptions{Create: true})
	if err != nil {
		return err
	}
	defer tree.Close()
	options := lxdimage.TreeAddOptions{Aliases: []string{system + "/" + release}, ExpectedFingerprint: &written.Fingerprint}
	added, err := tree.Add(ctx, lxdimage.Unified(lxdimage.Path(written.Files[0])), &options)
	if err != nil {
		return err
	}
	if _, err := tree.Prune(ctx, &lxdimage.TreePruneOptions{Keep: 3}); err != nil {
		return err
	}
	report, err := tree.Verify(ctx)
	if err != nil {
		return err
	}
	if len(report.Findings) > 0 {
		return report.Findings[0]
	}
	fmt.Printf("published %s: %d images, %d bytes in %s\n", added, report.Images, report.Bytes, path)
	return nil
}
