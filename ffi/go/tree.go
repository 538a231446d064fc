package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"runtime/cgo"
	"time"
	"unsafe"
)

// Tree is a directory that any web server turns into an image server: simplestreams. Any number of processes may read it, and one at a time
// writes it. It has a Close method.
type Tree struct {
	handle *handle
	clock  *ticker
}

// TreeOptions say how a tree is opened. Nil, or the zero value: one that is there, with the default limits.
type TreeOptions struct {
	// Create makes a tree that is not there.
	Create bool
	// Threads is how many threads verify an image that is added, at most; 0 for all cores.
	Threads uint32
	// Limits on lists and on images that are added.
	Limits *Limits
	// Clock is where the time comes from, called by any number of goroutines; nil for the machine's clock.
	Clock func() time.Time
}

// OpenTree opens the tree in a directory. Errors: [ErrNotFound] when there is none and none is to be made; [ErrMalformed] and
// [ErrLimitExceeded] for a list that can't be read; [ErrBusy] while another process makes it; [ErrIO].
func OpenTree(path string, options *TreeOptions) (*Tree, error) {
	c := begin(context.Background())
	defer c.end()
	given := one[C.lxi_tree_options](&c.arena)
	given.size = C.sizeof_lxi_tree_options
	found := &Tree{}
	forget := func() {}
	if options != nil {
		limits, done, err := options.Limits.borrow()
		if err != nil {
			return nil, err
		}
		defer done()
		given.limits = limits
		given.threads = C.uint32_t(options.Threads)
		if options.Create {
			given.flags |= C.LXI_TREE_CREATE
		}
		if options.Clock != nil {
			found.clock = &ticker{now: options.Clock}
			c.clock = found.clock
			clock := cgo.NewHandle(found.clock)
			forget = clock.Delete
			C.lxi_go_set_tree_clock(given, C.uintptr_t(clock))
		}
	}
	var tree *C.lxi_tree
	var told *C.lxi_error
	if err := c.check(C.lxi_tree_open(str(path), given, &tree, &told), told); err != nil {
		forget()
		return nil, err
	}
	found.handle = own("tree", unsafe.Pointer(tree), func() {
		C.lxi_tree_free(tree)
		forget()
	})
	return found, nil
}

// Close frees the tree, when calls that are under way have ended. It never fails.
func (t *Tree) Close() error {
	t.handle.close()
	return nil
}

// use makes a call with the tree.
func (t *Tree) use(ctx context.Context, work func(*call, *C.lxi_tree) error) error {
	ptr, err := t.handle.acquire()
	if err != nil {
		return err
	}
	defer t.handle.release()
	c := begin(ctx)
	c.clock = t.clock
	defer c.end()
	return work(c, (*C.lxi_tree)(ptr))
}

// TreeAddOptions say how an image is added to a tree. Nil, or the zero value: described by its own metadata, with the alias
// OS/RELEASE/VARIANT.
type TreeAddOptions struct {
	// Aliases are more of them. They belong to the product and mean its newest version.
	Aliases []string
	// NoDefaultAlias leaves OS/RELEASE/VARIANT out.
	NoDefaultAlias bool
	// Properties win over the image's own. A list needs os and release.
	Properties Properties
	// ExpectedFingerprint is what it must have, or nil.
	ExpectedFingerprint *Fingerprint
}

// Add verifies an image, stores its files under their digests, and lists it. Errors: [ErrAlreadyExists] when it is listed;
// [ErrInvalidInput] without os or release, and for an alias that a list can't hold; [ErrMismatch]; those of verifying an image; [ErrBusy]
// while another process writes; [ErrCancelled]; [ErrIO]. Nothing of it is listed then.
func (t *Tree) Add(ctx context.Context, source Source, options *TreeAddOptions) (Fingerprint, error) {
	var found C.lxi_fingerprint
	err := t.use(ctx, func(c *call, tree *C.lxi_tree) error {
		first, second, closing, err := c.source(source)
		if err != nil {
			return err
		}
		defer closing()
		given := one[C.lxi_tree_add_options](&c.arena)
		given.size = C.sizeof_lxi_tree_add_options
		given.monitor = c.monitor
		if options != nil {
			if options.NoDefaultAlias {
				given.flags |= C.LXI_TREE_ADD_NO_DEFAULT_ALIAS
			}
			given.aliases, given.aliases_len = c.strs(options.Aliases)
			given.properties, given.properties_len = c.pairs(options.Properties)
			given.expected_fingerprint = c.fingerprint(options.ExpectedFingerprint)
		}
		var told *C.lxi_error
		return c.check(C.lxi_tree_add(tree, first, second, given, &found, &told), told)
	})
	return toFingerprint(&found), err
}

// Remove takes images out of the list, all or none. Their files stay until [Tree.Prune] removes them. Errors: [ErrNotFound] if one of them is
// not listed; [ErrBusy]; [ErrIO].
func (t *Tree) Remove(fingerprints ...Fingerprint) error {
	return t.use(context.Background(), func(c *call, tree *C.lxi_tree) error {
		named, count := c.fingerprints(fingerprints)
		var told *C.lxi_error
		return c.check(C.lxi_tree_remove(tree, named, count, &told), told)
	})
}

// TreePruneOptions say how a tree is pruned. Nil, or the zero value: all versions stay, and files that left the list an hour ago go.
type TreePruneOptions struct {
	// Keep is how many versions of each product stay; 0 for all.
	Keep uint32
	// After is for how long files stay that left the list, since readers may hold an older one; nil: an hour.
	After *time.Duration
	// DryRun removes nothing, and tells what would be removed.
	DryRun bool
}

// TreePruned is what a pruning removed, or would remove.
type TreePruned struct {
	// Versions left the list, Files were removed, and Bytes is their size.
	Versions, Files, Bytes uint64
	// Waiting is how many files no list names that stay for now.
	Waiting uint64
}

// Prune takes old versions out of the list, and removes files that left it long enough ago. Errors: [ErrBusy], [ErrMalformed],
// [ErrCancelled], [ErrIO]. What was removed before stays so.
func (t *Tree) Prune(ctx context.Context, options *TreePruneOptions) (*TreePruned, error) {
	info := C.lxi_tree_pruned{size: C.sizeof_lxi_tree_pruned}
	err := t.use(ctx, func(c *call, tree *C.lxi_tree) error {
		given := one[C.lxi_tree_prune_options](&c.arena)
		given.size = C.sizeof_lxi_tree_prune_options
		given.monitor = c.monitor
		if options != nil {
			given.keep = C.uint32_t(options.Keep)
			if options.DryRun {
				given.flags |= C.LXI_TREE_PRUNE_DRY_RUN
			}
			if options.After != nil {
				given.flags |= C.LXI_TREE_PRUNE_AFTER
				if after := *options.After / time.Second; after > 0 {
					given.after_seconds = C.uint64_t(after)
				}
			}
		}
		var told *C.lxi_error
		return c.check(C.lxi_tree_prune(tree, given, &info, &told), told)
	})
	if err != nil {
		return nil, err
	}
	return &TreePruned{uint64(info.versions), uint64(info.files), uint64(info.bytes), uint64(info.waiting)}, nil
}

// TreeImage is an image of a tree.
type TreeImage struct {
	// Fingerprint is the digest of its bytes.
	Fingerprint Fingerprint
	// Type is container or virtual machine.
	Type Type
	// Form is one file or two.
	Form Form
	// Architecture is the kernel's name of the machine that it is for: x86_64.
	Architecture string
	// Product is the key of its product: OS:RELEASE:VARIANT:ARCHITECTURE.
	Product string
	// Version is the key of its version, a date.
	Version string
	// Bytes is the size of all its files.
	Bytes uint64
	// CreatedAt is the date of its version.
	CreatedAt time.Time
	// ExpiresAt is when its support ends; zero where that is not said.
	ExpiresAt time.Time
	// Aliases are those of its product.
	Aliases []string
	// Properties are names with values.
	Properties Properties
}

// List gives the images of the tree as it is now, newest first. Errors: [ErrMalformed] and [ErrLimitExceeded] for a list that can't be read;
// [ErrIO].
func (t *Tree) List() ([]TreeImage, error) {
	var images []TreeImage
	err := t.use(context.Background(), func(c *call, tree *C.lxi_tree) error {
		var listing *C.lxi_tree_listing
		var told *C.lxi_error
		if err := c.check(C.lxi_tree_list(tree, &listing, &told), told); err != nil {
			return err
		}
		defer C.lxi_tree_listing_free(listing)
		for {
			info := C.lxi_tree_image{size: C.sizeof_lxi_tree_image}
			at := C.size_t(len(images))
			if C.lxi_tree_listing_at(listing, at, &info, nil) != C.LXI_OK {
				return nil
			}
			image := TreeImage{
				Fingerprint:  toFingerprint(&info.fingerprint),
				Type:         Type(info.image_type),
				Form:         Form(info.form),
				Architecture: text(info.architecture),
				Product:      text(info.product),
				Version:      text(info.version),
				Bytes:        uint64(info.bytes),
				CreatedAt:    time.Unix(int64(info.created_at), 0).UTC(),
				ExpiresAt:    moment(info.expires_at),
			}
			var key, value C.lxi_str
			for i := C.size_t(0); i < info.aliases; i++ {
				if err := check(C.lxi_tree_listing_alias_at(listing, at, i, &key, &told), told); err != nil {
					return err
				}
				image.Aliases = append(image.Aliases, text(key))
			}
			for i := C.size_t(0); i < info.properties; i++ {
				if err := check(C.lxi_tree_listing_property_at(listing, at, i, &key, &value, &told), told); err != nil {
					return err
				}
				image.Properties = append(image.Properties, Property{text(key), text(value)})
			}
			images = append(images, image)
		}
	})
	return images, err
}

// TreeReport is what a verification found.
type TreeReport struct {
	// Images are in the list, which names Files; Bytes were read.
	Images, Files, Bytes uint64
	// Findings are what is wrong: none if the tree is as it must be.
	Findings []*Error
}

// Verify reads every file that the list names, and computes every fingerprint. Files without a digest are omissions of the context. Errors:
// [ErrMalformed] when index or list can't be read, [ErrCancelled], [ErrIO]. What is wrong with a file is no error but a finding.
func (t *Tree) Verify(ctx context.Context) (*TreeReport, error) {
	var found *TreeReport
	err := t.use(ctx, func(c *call, tree *C.lxi_tree) error {
		var report *C.lxi_tree_report
		var told *C.lxi_error
		if err := c.check(C.lxi_tree_verify(tree, c.monitor, &report, &told), told); err != nil {
			return err
		}
		defer C.lxi_tree_report_free(report)
		info := C.lxi_tree_report_info{size: C.sizeof_lxi_tree_report_info}
		if err := check(C.lxi_tree_report_get(report, &info, &told), told); err != nil {
			return err
		}
		found = &TreeReport{Images: uint64(info.images), Files: uint64(info.files), Bytes: uint64(info.bytes)}
		for i := C.size_t(0); i < info.findings; i++ {
			wrong := C.lxi_error_info{size: C.sizeof_lxi_error_info}
			if err := check(C.lxi_tree_report_finding_at(report, i, &wrong, &told), told); err != nil {
				return err
			}
			found.Findings = append(found.Findings, toError(&wrong))
		}
		return nil
	})
	return found, err
}
