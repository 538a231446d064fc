// Command container-manager does what a container manager does with images:
//
//	container-manager STORE URL PROTOCOL ALIAS DIRECTORY NAME
//
// It gets the image that ALIAS means on a server, fetched once and cached, verifies it while it is unpacked to DIRECTORY/NAME, owners
// shifted for a user namespace where this runs as root, renders its templates as at creation and at the first start, and removes
// cached images that nobody used for ten days. An interrupt stops it, and leaves nothing half done.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"lxdimage"
)

func main() {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "usage: container-manager STORE URL PROTOCOL ALIAS DIRECTORY NAME")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx = lxdimage.WithProgress(ctx, func(p lxdimage.Progress) {
		if p.Total > 0 {
			fmt.Fprintf(os.Stderr, "\r%3d %%", p.Done*100/uint64(p.Total))
		}
	})
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	store, err := lxdimage.OpenStore(args[0], nil)
	if err != nil {
		return err
	}
	defer store.Close()
	remote, err := lxdimage.Connect(lxdimage.RemoteAddress{URL: args[1], Protocol: args[2]}, nil)
	if err != nil {
		return err
	}
	defer remote.Close()
	if err := create(ctx, store, remote, args[3], args[4], args[5]); err != nil {
		return err
	}
	pruned, err := store.Prune(ctx, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%d images pruned, %d bytes\n", len(pruned.Images), pruned.Bytes)
	return nil
}

func create(ctx context.Context, store *lxdimage.Store, remote *lxdimage.Remote, alias, directory, name string) error {
	image, err := store.GetOrFetch(ctx, remote, alias, nil)
	if err != nil {
		return err
	}
	opened, err := store.OpenImage(image.Fingerprint, nil)
	if err != nil {
		return err
	}
	defer opened.Close()
	var options lxdimage.UnpackOptions
	if os.Geteuid() == 0 {
		options.IDMap = []lxdimage.IDRange{{Inside: 0, Outside: 1000000, Count: 65536}}
	}
	destination := filepath.Join(directory, name)
	// Nothing is at the destination unless the bytes are those of the fingerprint.
	unpacked, err := opened.Unpack(ctx, destination, image.Fingerprint, &options)
	if err != nil {
		return err
	}
	fmt.Printf("%d entries in %s\n", unpacked.Entries, unpacked.Path)
	variables, err := lxdimage.TemplateContextFromJSON([]byte(fmt.Sprintf(`{"instance": {"name": %q}, "container": {"name": %q}}`, name, name)))
	if err != nil {
		return err
	}
	defer variables.Close()
	for _, trigger := range []lxdimage.Trigger{lxdimage.TriggerCreate, lxdimage.TriggerStart} {
		outcomes, err := lxdimage.Apply(ctx, destination, trigger, variables, nil)
		if err != nil {
			return err
		}
		for _, outcome := range outcomes {
			if outcome.Action == lxdimage.ActionCreated || outcome.Action == lxdimage.ActionReplaced {
				fmt.Printf("%s: wrote %s\n", trigger, outcome.Path)
			}
		}
	}
	return nil
}
