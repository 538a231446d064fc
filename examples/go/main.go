// Command example imports an image into a store, verifies it and unpacks it from there, as a container manager does.
//
//	example STORE IMAGE[,ROOTFS] ALIAS DESTINATION [FINGERPRINT]
//
// IMAGE may be "-" for standard input. An interrupt stops it, and leaves nothing half done.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"lxdimage"
)

func main() {
	if len(os.Args) < 5 || len(os.Args) > 6 {
		fmt.Fprintln(os.Stderr, "usage: example STORE IMAGE[,ROOTFS] ALIAS DESTINATION [FINGERPRINT]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		var told *lxdimage.Error
		if errors.As(err, &told) && told.Hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", told.Hint)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, path, files, alias, destination string, expected []string) error {
	store, err := lxdimage.OpenStore(path, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	options := &lxdimage.ImportOptions{Aliases: []lxdimage.Alias{{Name: alias}}, ReuseAliases: true, AddAliases: true}
	if len(expected) > 0 {
		fingerprint, err := lxdimage.ParseFingerprint(expected[0])
		if err != nil {
			return err
		}
		options.ExpectedFingerprint = &fingerprint
	}
	imported, err := store.Import(ctx, source(files), options)
	if err != nil {
		return err
	}
	fmt.Printf("imported %s: %s, %d bytes\n", imported.Fingerprint, imported.Architecture, imported.Bytes)

	image, err := store.OpenImage(imported.Fingerprint, nil)
	if err != nil {
		return err
	}
	defer image.Close()
	verification, err := image.Verify(ctx, nil)
	if err != nil {
		return err
	}
	defer verification.Close()
	for _, finding := range verification.Findings {
		fmt.Println("finding:", finding)
	}
	fmt.Printf("verified: %d files, %d directories, %d findings\n", verification.Files, verification.Directories, len(verification.Findings))

	progress := lxdimage.WithProgress(ctx, func(p lxdimage.Progress) {
		fmt.Fprintf(os.Stderr, "\r%s: %d MiB", p.Phase, p.Done>>20)
	})
	unpacked, err := image.Unpack(progress, destination, imported.Fingerprint, nil)
	if err != nil {
		return err
	}
	defer unpacked.Close()
	fmt.Printf("unpacked %d entries to %s\n", unpacked.Entries, unpacked.Path)
	for what, count := range unpacked.Omissions.Counts {
		fmt.Printf("left out: %s (%d)\n", what, count)
	}
	return store.MarkUsed(imported.Fingerprint)
}

func source(files string) lxdimage.Source {
	if files == "-" {
		return lxdimage.Unified(lxdimage.File(os.Stdin))
	}
	first, second, split := strings.Cut(files, ",")
	if split {
		return lxdimage.Split(lxdimage.Path(first), lxdimage.Path(second))
	}
	return lxdimage.Unified(lxdimage.Path(first))
}
