// Command unpack does what ffi/examples/unpack.rs does, by way of the Go package: unpack IMAGE DESTINATION FINGERPRINT [PACKED]. See benches/ffi.py.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"lxdimage"
)

func main() {
	if len(os.Args) != 4 && len(os.Args) != 5 {
		os.Exit(2)
	}
	// A context that can be cancelled, as real programs have: it is part of what the line costs.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := unpack(ctx, os.Args[1], os.Args[2], os.Args[3], strings.Join(os.Args[4:], "")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func unpack(ctx context.Context, path, destination, digits, packed string) error {
	expected, err := lxdimage.ParseFingerprint(digits)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	input := lxdimage.File(file)
	if os.Getenv("THROUGH_READER") != "" {
		// Every byte passes through Go then.
		input = lxdimage.Reader(file)
	}
	image, err := lxdimage.Open(lxdimage.Unified(input), nil)
	if err != nil {
		return err
	}
	defer image.Close()
	if packed != "" {
		verified, err := image.Verify(ctx, nil)
		if err != nil {
			return err
		}
		if err := verified.Close(); err != nil {
			return err
		}
	}
	unpacked, err := image.Unpack(ctx, destination, expected, nil)
	if err != nil {
		return err
	}
	defer unpacked.Close()
	if packed == "" {
		return nil
	}
	_, err = lxdimage.Pack(ctx, packed, lxdimage.PackOptions{Tree: filepath.Join(destination, "rootfs"), Metadata: unpacked.Metadata})
	return err
}
