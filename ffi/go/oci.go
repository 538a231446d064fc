package lxdimage

// #include <lxd_image.h>
import "C"

import "context"

// toNames copies a list of names, and frees it.
func toNames(list *C.lxi_names) ([]string, error) {
	defer C.lxi_names_free(list)
	var count C.size_t
	var told *C.lxi_error
	if err := check(C.lxi_names_len(list, &count, &told), told); err != nil {
		return nil, err
	}
	names := make([]string, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		var name C.lxi_str
		if err := check(C.lxi_names_at(list, i, &name, &told), told); err != nil {
			return nil, err
		}
		names = append(names, text(name))
	}
	return names, nil
}

// PushOptions say how an image is pushed to a registry. Nil, or the zero value: under the tag of the reference, which must be free or mean the same
// image.
type PushOptions struct {
	// Tags are more tags.
	Tags []string
	// AliasTags makes the image's aliases in the store tags, too. One that registries don't take is an omission.
	AliasTags bool
	// ReuseTags moves tags that mean another image for the same machine, instead of failing.
	ReuseTags bool
	// MountFrom is a repository of the same registry that may have the files already, so that they need not be sent.
	MountFrom string
}

// Push sends an image of a store to a registry, as an artifact that [Store.CopyFrom] fetches again, with the statements about it. The reference is
// REPOSITORY[:TAG]. Files that the registry has are not sent again. The digest of the image's manifest is returned.
//
// Errors: [ErrUnsupported] for a remote that is no registry; [ErrInvalidInput] for a reference by digest, and a tag that is none; [ErrAlreadyExists]
// for a tag that means another image; [ErrNotFound] for an image that is not in the store; [ErrMismatch]; [ErrRemote]; [ErrCancelled].
func (r *Remote) Push(ctx context.Context, store *Store, fingerprint Fingerprint, reference string, options *PushOptions) (string, error) {
	ptr, err := store.handle.acquire()
	if err != nil {
		return "", err
	}
	defer store.handle.release()
	var digest []byte
	err = r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		given := one[C.lxi_push_options](&c.arena)
		given.size = C.sizeof_lxi_push_options
		given.monitor = c.monitor
		if options != nil {
			given.flags = flags(flag{options.AliasTags, C.LXI_PUSH_ALIAS_TAGS}, flag{options.ReuseTags, C.LXI_PUSH_REUSE_TAGS})
			given.tags, given.tags_len = c.strs(options.Tags)
			given.mount_from = c.str(options.MountFrom)
		}
		of := fingerprint.c()
		var pushed *C.lxi_buffer
		var told *C.lxi_error
		if err := c.check(C.lxi_remote_push(remote, (*C.lxi_store)(ptr), &of, str(reference), given, &pushed, &told), told); err != nil {
			return err
		}
		var err error
		digest, err = taken(pushed)
		return err
	})
	return string(digest), err
}

// Tags are those of images in a repository of a registry, sorted; with an empty repository the names of all repositories, which many registries don't
// list. Errors: [ErrUnsupported] for a remote that is no registry; [ErrNotFound]; [ErrRemote]; [ErrMalformed]; [ErrLimitExceeded]; [ErrCancelled].
func (r *Remote) Tags(ctx context.Context, repository string) ([]string, error) {
	var found []string
	err := r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		var list *C.lxi_names
		var told *C.lxi_error
		if err := c.check(C.lxi_remote_tags(remote, str(repository), c.monitor, &list, &told), told); err != nil {
			return err
		}
		var err error
		found, err = toNames(list)
		return err
	})
	return found, err
}

// Repository is one repository of a registry as a remote whose images can be listed and mirrored. Errors: [ErrUnsupported] for a remote that is no
// registry; [ErrInvalidInput] for a name that is none.
func (r *Remote) Repository(name string) (*Remote, error) {
	var within *Remote
	err := r.use(context.Background(), func(c *call, remote *C.lxi_remote) error {
		var found *C.lxi_remote
		var told *C.lxi_error
		if err := c.check(C.lxi_remote_repository(remote, str(name), &found, &told), told); err != nil {
			return err
		}
		within = ownRemote(found)
		return nil
	})
	return within, err
}

// LayoutOptions say which image of an OCI layout is meant, and what a container image becomes. Nil, or the zero value: the only image, for this
// machine.
type LayoutOptions struct {
	// Image is the image's name in the layout; empty for the only one.
	Image string
	// Architecture is the machine, by any of its names, of an image that is there for several; empty for this one.
	Architecture string
	// System makes a container image boot its init, instead of running its entry point.
	System bool
	// Compression is the codec of a container image, with or without a level; empty for the usual one.
	Compression string
	// Threads is how many work, at most; 0 for all cores.
	Threads uint32
	// Limits hold for the layout and its image.
	Limits *Limits
}

// layoutOptions makes arguments; what they borrow is given back by the returned function.
func (c *call) layoutOptions(options *LayoutOptions) (*C.lxi_layout_options, func(), error) {
	given := one[C.lxi_layout_options](&c.arena)
	given.size = C.sizeof_lxi_layout_options
	if options == nil {
		return given, func() {}, nil
	}
	limits, done, err := options.Limits.borrow()
	if err != nil {
		return nil, nil, err
	}
	given.limits = limits
	given.flags = flags(flag{options.System, C.LXI_LAYOUT_SYSTEM})
	given.threads = C.uint32_t(options.Threads)
	given.image = c.str(options.Image)
	given.architecture = c.str(options.Architecture)
	given.compression = c.str(options.Compression)
	return given, done, nil
}

// LayoutNames are the names of the images in an OCI layout, a directory or a tar that is not compressed. Errors: [ErrNotFound]; [ErrMalformed] for
// what is no layout; [ErrUnsupported]; [ErrLimitExceeded]; [ErrCancelled]; [ErrIO].
func LayoutNames(ctx context.Context, path string, limits *Limits) ([]string, error) {
	c := begin(ctx)
	defer c.end()
	borrowed, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	var list *C.lxi_names
	var told *C.lxi_error
	if err := c.check(C.lxi_layout_names(str(path), borrowed, c.monitor, &list, &told), told); err != nil {
		return nil, err
	}
	return toNames(list)
}

// ImportLayout imports an image of an OCI layout: one of LXD or Incus as it is, with the statements that the layout has beside it, and a container
// image as the instance image that it becomes; then the fingerprint that Incus would give it is returned, too, and else nil. What can't be taken along
// is an omission ([WithOmissions]).
//
// Errors: those of [Store.Import]; [ErrNotFound], with the names that are there; [ErrAmbiguous] without a name where there are several;
// [ErrUnsupported] for what is no such image, and where none is for the machine; [ErrInvalidInput] for System with an image of LXD or Incus. The store
// is as it was.
func (s *Store) ImportLayout(ctx context.Context, path string, layout *LayoutOptions, options *ImportOptions) (*StoredImage, *Fingerprint, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	which, done, err := c.layoutOptions(layout)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	given, importDone, err := c.importOptions(options)
	if err != nil {
		return nil, nil, err
	}
	defer importDone()
	var image *C.lxi_stored_image
	var incus C.lxi_fingerprint
	var told *C.lxi_error
	if err := c.check(C.lxi_store_import_layout(store, str(path), which, given, &image, &incus, &told), told); err != nil {
		return nil, nil, err
	}
	stored, err := toStoredImage(image)
	other := toFingerprint(&incus)
	if other == (Fingerprint{}) {
		return stored, nil, err
	}
	return stored, &other, err
}

// WriteLayoutImage writes a container image of an OCI layout to the new file out, as an instance image. Errors: as [Store.ImportLayout] and [Pack];
// [ErrUnsupported] for an image of LXD or Incus, which needs no conversion.
func WriteLayoutImage(ctx context.Context, path, out string, options *LayoutOptions) (*Written, error) {
	c := begin(ctx)
	defer c.end()
	given, done, err := c.layoutOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	var written *C.lxi_written
	var told *C.lxi_error
	if err := c.check(C.lxi_layout_write(str(path), given, str(out), c.monitor, &written, &told), told); err != nil {
		return nil, err
	}
	return toWritten(written, c.omissions())
}

// CreateBundle writes images of the store with their aliases and the statements about them to a bundle: an OCI layout that is a new tar, or a new
// directory if the path ends in a slash. The same images give the same bytes. What a bundle can't hold is an omission ([WithOmissions]).
//
// Errors: [ErrAlreadyExists]; [ErrNotFound] for an image that is not there; [ErrInvalidInput] without an image; [ErrMismatch] where the bytes in the
// store are damaged; [ErrCancelled]; [ErrIO]. Nothing is left then.
func (s *Store) CreateBundle(ctx context.Context, path string, fingerprints ...Fingerprint) error {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	named, count := c.fingerprints(fingerprints)
	var told *C.lxi_error
	return c.check(C.lxi_bundle_create(store, named, count, str(path), c.monitor, &told), told)
}

// BundleOptions say how a bundle is imported. Nil, or the zero value: private images, whose aliases must be free.
type BundleOptions struct {
	// Public lets clients that have not authenticated read the images.
	Public bool
	// ReuseAliases moves aliases that are taken; an image that thereby loses its last one is deleted, unless it is to be kept.
	ReuseAliases bool
	// Threads is how many convert a container image, at most; 0 for all cores.
	Threads uint32
	// Limits hold for the layout and its images.
	Limits *Limits
}

// ImportBundle imports all images of a bundle, or of any OCI layout, with their names as aliases and the statements about them. An image that is in
// the store already gets the aliases. What can't be taken is an omission ([WithOmissions]). Errors: those of [Store.ImportLayout]; [ErrNotFound] for a
// layout without an image. Images that were imported before stay.
func (s *Store) ImportBundle(ctx context.Context, path string, options *BundleOptions) ([]*StoredImage, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	given := one[C.lxi_bundle_options](&c.arena)
	given.size = C.sizeof_lxi_bundle_options
	given.monitor = c.monitor
	if options != nil {
		limits, done, err := options.Limits.borrow()
		if err != nil {
			return nil, err
		}
		defer done()
		given.limits = limits
		given.flags = flags(flag{options.Public, C.LXI_BUNDLE_PUBLIC}, flag{options.ReuseAliases, C.LXI_BUNDLE_REUSE_ALIASES})
		given.threads = C.uint32_t(options.Threads)
	}
	var list *C.lxi_image_list
	var told *C.lxi_error
	if err := c.check(C.lxi_bundle_import(store, str(path), given, &list, &told), told); err != nil {
		return nil, err
	}
	return toImages(list)
}
